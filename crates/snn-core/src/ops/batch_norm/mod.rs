//! Batch normalisation over the batch and both sides of an image.

use candle_core::Tensor;

use crate::Result;

/// Mean and (biased) variance per channel of a batch; no gradient.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// `[C]`
    pub mean: Tensor,
    /// `[C]`, divided by the count, not the count less one.
    pub variance: Tensor,
}

/// Mean and variance per channel of `x` `[N, C, ...]`.
pub fn statistics(x: &Tensor) -> Result<BatchStatistics> {
    let c = x.dim(1)?;
    let flat = x.detach().transpose(0, 1)?.reshape((c, ()))?;
    let mean = flat.mean(1)?;
    let variance = flat.broadcast_sub(&mean.unsqueeze(1)?)?.sqr()?.mean(1)?;
    Ok(BatchStatistics { mean, variance })
}

/// `y = (x - mean) / sqrt(variance + epsilon) * gamma + beta` with the batch's own statistics, through which the
/// gradient flows. `x` `[N, C, H, W]`, `gamma` and `beta` `[C]`.
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, BatchStatistics)> {
    let per_channel = |t: &Tensor| t.reshape((1, (), 1, 1));
    let mean = x.mean_keepdim((0, 2, 3))?;
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
    let y = centred
        .broadcast_div(&(&variance + epsilon)?.sqrt()?)?
        .broadcast_mul(&per_channel(gamma)?)?
        .broadcast_add(&per_channel(beta)?)?;
    let statistics = BatchStatistics {
        mean: mean.flatten_all()?.detach(),
        variance: variance.flatten_all()?.detach(),
    };
    Ok((y, statistics))
}

/// The same with given statistics: an affine map per channel, `x` `[N, C, ...]`.
pub fn batch_norm_fixed(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    statistics: &BatchStatistics,
    epsilon: f64,
) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[1] = x.dim(1)?;
    let scale = (gamma / (&statistics.variance + epsilon)?.sqrt()?)?;
    let shift = (beta - (&statistics.mean * &scale)?)?;
    Ok(x.broadcast_mul(&scale.reshape(shape.as_slice())?)?
        .broadcast_add(&shift.reshape(shape.as_slice())?)?)
}
