//! Mean over non-overlapping squares.

use candle_core::Tensor;

use crate::Result;

/// `[N, C, H, W]` to `[N, C, H / k, W / k]`; `k` must divide both sides (a stride other than `k` is not offered).
pub fn avg_pool2d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    Ok(x.avg_pool2d(kernel)?)
}
