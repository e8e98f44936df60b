//! The matrix product of the tensor library: the measure of the fast one, and the path on other devices.

use candle_core::Tensor;

use crate::Result;

/// Same contract as [`super::linear`].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => Ok(y.broadcast_add(bias)?),
        None => Ok(y),
    }
}
