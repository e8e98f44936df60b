//! The mean of all numbers.

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
        let mean = x.detach().mean_all()?.to_dtype(DType::F64)?;
        return Ok(mean.to_scalar()?);
    }
    let sums: Vec<f64> = with_values(x, |x| x.par_chunks(CHUNK).map(sum).collect())?;
    Ok(sums.iter().sum::<f64>() / x.elem_count() as f64)
}
