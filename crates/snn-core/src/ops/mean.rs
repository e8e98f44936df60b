//! Mean and sum of all numbers.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::cpu::{CHUNK, sum, takes, with_values};
use crate::{Error, Result};

/// Mean of the numbers of `x`, which no graph follows; on the CPU in f64 and in a fixed order.
///
/// # Errors
/// An `x` without numbers.
pub fn mean(x: &Tensor) -> Result<f64> {
    if x.elem_count() == 0 {
        return Err(Error::argument("mean", "of no number"));
    }
    if !takes(&[x]) {
        let sum: f64 = total(&x.detach())?.to_dtype(DType::F64)?.to_scalar()?;
        return Ok(sum / x.elem_count() as f64);
    }
    let sums: Vec<f64> = with_values(x, |x| x.par_chunks(CHUNK).map(sum).collect())?;
    Ok(sums.iter().sum::<f64>() / x.elem_count() as f64)
}

/// The sum of all numbers as a scalar, by operations of the tensor library. A device sums each row by a block of its own,
/// and a single row by a single one: so there are many.
pub(super) fn total(x: &Tensor) -> Result<Tensor> {
    let rows = 1 << x.elem_count().trailing_zeros().min(10);
    Ok(x.reshape((rows, ()))?.sum(1)?.sum(0)?)
}
