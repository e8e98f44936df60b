//! The staircase by operations of the tensor library: the measure of the fast one, and the path on other devices.

use candle_core::Tensor;

use crate::Result;

/// Same contract as [`super::qcfs`], the sign of the threshold aside.
pub fn qcfs(x: &Tensor, threshold: &Tensor, levels: usize) -> Result<Tensor> {
    let levels = levels as f64;
    let (steps, step) = {
        let threshold = threshold.detach();
        (
            (threshold.recip()? * levels)?,
            (&threshold * (1.0 / levels))?,
        )
    };
    let y = (x.detach().broadcast_mul(&steps)? + 0.5)?
        .floor()?
        .clamp(0.0, levels)?
        .broadcast_mul(&step)?;
    let inside = (x.detach().gt(0.0)? * x.detach().broadcast_lt(threshold)?)?;
    // what has the staircase's values and the straight line's slopes; a choice, as the product of infinity and 0 is none
    let line = inside.where_cond(x, &x.zeros_like()?)?;
    let of_threshold = ((&y - line.detach())?.broadcast_div(&threshold.detach())?)
        .broadcast_mul(&(threshold - threshold.detach())?)?;
    Ok(((&y + (&line - line.detach())?)? + of_threshold)?)
}
