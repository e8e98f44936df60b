//! The pooling of the tensor library: the measure of the fast one, and the path on other devices.

use candle_core::Tensor;

use crate::Result;

/// Same contract as [`super::avg_pool2d`].
pub fn avg_pool2d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    let images = x.rank() - 4;
    let y = x.flatten(0, images)?.avg_pool2d(kernel)?;
    Ok(y.reshape([&x.dims()[..=images], &y.dims()[1..]].concat())?)
}
