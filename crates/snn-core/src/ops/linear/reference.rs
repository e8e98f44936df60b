//! The matrix product of the tensor library: the measure of the fast one, and the path on other devices.

use candle_core::Tensor;

use crate::Result;

/// Same contract as [`super::linear`].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rows = x.rank() - 2;
    let y = x.flatten(0, rows)?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    Ok(y.reshape([&x.dims()[..=rows], &y.dims()[1..]].concat())?)
}
