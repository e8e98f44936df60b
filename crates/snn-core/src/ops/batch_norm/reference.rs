//! Batch normalisation written with tensor operations: the measure of the fast one, and the path on other devices.

use candle_core::Tensor;

use super::BatchStatistics;
use crate::Result;

/// Same contract as [`super::statistics`].
pub fn statistics(x: &Tensor) -> Result<BatchStatistics> {
    let c = x.dim(1)?;
    let flat = x.detach().transpose(0, 1)?.reshape((c, ()))?;
    let mean = flat.mean(1)?;
    let variance = flat.broadcast_sub(&mean.unsqueeze(1)?)?.sqr()?.mean(1)?;
    Ok(BatchStatistics { mean, variance })
}

/// Same contract as [`super::batch_norm`].
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, BatchStatistics)> {
    let shape = per_channel(x)?;
    let axes: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
    let mean = x.mean_keepdim(axes.as_slice())?;
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(axes.as_slice())?;
    let y = centred
        .broadcast_div(&(&variance + epsilon)?.sqrt()?)?
        .broadcast_mul(&gamma.reshape(shape.as_slice())?)?
        .broadcast_add(&beta.reshape(shape.as_slice())?)?;
    let statistics = BatchStatistics {
        mean: mean.flatten_all()?.detach(),
        variance: variance.flatten_all()?.detach(),
    };
    Ok((y, statistics))
}

/// Same contract as [`super::batch_norm_fixed`].
pub fn batch_norm_fixed(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    statistics: &BatchStatistics,
    epsilon: f64,
) -> Result<Tensor> {
    let shape = per_channel(x)?;
    let scale = (gamma / (statistics.variance.detach() + epsilon)?.sqrt()?)?;
    let mean = statistics.mean.detach();
    Ok(x.broadcast_sub(&mean.reshape(shape.as_slice())?)?
        .broadcast_mul(&scale.reshape(shape.as_slice())?)?
        .broadcast_add(&beta.reshape(shape.as_slice())?)?)
}

fn per_channel(x: &Tensor) -> Result<Vec<usize>> {
    let mut shape = vec![1; x.rank()];
    shape[1] = x.dim(1)?;
    Ok(shape)
}
