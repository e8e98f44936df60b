//! The convolution of the tensor library, and a broadcast addition: the measure of the fast one, and the path on other
//! devices.

use candle_core::Tensor;

use crate::Result;

/// Same contract as [`super::conv2d`].
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let images = x.rank() - 4;
    let y = x
        .flatten(0, images)?
        .conv2d(weight, padding, stride, 1, 1)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
        None => y,
    };
    Ok(y.reshape([&x.dims()[..=images], &y.dims()[1..]].concat())?)
}
