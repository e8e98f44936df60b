//! Broadcasts and sums of the tensor library: the measure of the fast ones, and the path on other devices.

use candle_core::Tensor;

use crate::Result;

/// Same contract as [`super::hold`].
pub fn hold(x: &Tensor, steps: usize) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    shape[0] = steps;
    Ok(x.broadcast_as(shape)?.contiguous()?)
}

/// Same contract as [`super::events`].
pub fn events(spikes: &Tensor) -> Result<Tensor> {
    Ok(spikes.detach().abs()?.sum(0)?)
}
