//! A broadcast product: the measure of the fast one, and the path on other devices.

use candle_core::Tensor;

use crate::Result;

/// Same contract as [`super::mask`].
pub fn mask(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_mul(&mask.detach())?)
}
