//! Two-dimensional convolution (cross-correlation), batch and time folded together.

use candle_core::Tensor;

use crate::{Error, Result};

/// `y[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, c, i * stride + a - padding, j * stride + b - padding]`
///
/// `x` `[N, C, H, W]`, `weight` `[O, C, k, k]`, `bias` `[O]`, all f32; result `[N, O, H', W']`. Differentiable in all
/// three; gradients of a tensor that is not part of the graph are not computed.
///
/// # Errors
/// Shapes that do not fit, with the shapes.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    match (x.dims(), weight.dims()) {
        (&[_, c, h, w], &[_, wc, k, k2]) if c == wc && k == k2 && h + 2 * padding >= k && w + 2 * padding >= k && stride > 0 => {}
        (x, weight) => {
            return Err(Error::argument(
                "conv2d",
                format!("input {x:?} and weight {weight:?} do not fit (stride {stride}, padding {padding})"),
            ));
        }
    }
    let y = x.conv2d(weight, padding, stride, 1, 1)?;
    match bias {
        Some(bias) => Ok(y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?),
        None => Ok(y),
    }
}
