//! Padding, product and sum of the tensor library: the measure of the fast one, and the path on other devices.

use candle_core::Tensor;

use crate::Result;
use crate::ops::avg_pool;

/// Same contract as [`super::shortcut`].
pub fn shortcut(x: &Tensor, earlier: &Tensor, scale: &Tensor, kernel: usize) -> Result<Tensor> {
    let channel = x.rank() - 3;
    let mut per_channel = vec![1; x.rank()];
    per_channel[channel] = scale.elem_count();
    let pooled = match kernel {
        1 => earlier.clone(),
        _ => avg_pool::reference::avg_pool2d(earlier, kernel)?,
    };
    let scaled = pooled.broadcast_mul(&scale.detach().reshape(per_channel)?)?;
    let missing = x.dim(channel)? - scale.elem_count();
    Ok((x + scaled.pad_with_zeros(channel, 0, missing)?)?)
}
