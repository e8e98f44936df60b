//! Fully connected layer.

use candle_core::Tensor;

use crate::Result;

/// `y = x weight^T + bias`: `x` `[N, F]`, `weight` `[O, F]`, `bias` `[O]`; result `[N, O]`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => Ok(y.broadcast_add(bias)?),
        None => Ok(y),
    }
}
