//! Rectifier.

use candle_core::Tensor;

use crate::Result;

/// `max(0, x)`; gradient 0 at 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(x.relu()?)
}
