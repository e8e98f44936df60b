//! Batch normalisation over the batch and both sides of an image.

mod after;
mod cpu;
pub mod fused;
pub mod reference;

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

use self::after::Nothing;
use self::cpu::{Channels, Normalise};
use super::cpu::{takes, values, with_all, with_values};
use crate::{Error, Result};

/// Mean and (biased) variance per channel of a batch; no gradient.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// `[C]`
    pub mean: Tensor,
    /// `[C]`, divided by the count, not the count less one.
    pub variance: Tensor,
}

/// Mean and variance per channel of `x` `[N, C, ...]`.
///
/// # Errors
/// An `x` without numbers or without channels.
pub fn statistics(x: &Tensor) -> Result<BatchStatistics> {
    let channels = channels(x, &[])?;
    if !takes(&[x]) {
        return reference::statistics(x);
    }
    let (mean, variance) = with_values(&x.detach(), |x| channels.moments(x))?;
    let tensor = |values: &[f64]| -> Result<Tensor> {
        let values = values.iter().map(|&v| v as f32).collect();
        Ok(Tensor::from_vec(values, channels.count, x.device())?)
    };
    Ok(BatchStatistics {
        mean: tensor(&mean)?,
        variance: tensor(&variance)?,
    })
}

/// `y = (x - mean) / sqrt(variance + epsilon) * gamma + beta` with the batch's own statistics, through which the
/// gradient flows. `x` `[N, C, ...]`, `gamma` and `beta` `[C]`.
///
/// # Errors
/// Shapes that do not fit, an `x` without numbers.
pub fn batch_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, BatchStatistics)> {
    let channels = channels(x, &[gamma, beta])?;
    if !takes(&[x, gamma, beta]) {
        return reference::batch_norm(x, gamma, beta, epsilon);
    }
    let x = x.contiguous()?;
    let statistics = statistics(&x)?;
    let y = normalise(&x, gamma, beta, &statistics, epsilon, channels, true)?;
    Ok((y, statistics))
}

/// The same with given statistics, which are constants: an affine map per channel, `x` `[N, C, ...]`.
///
/// # Errors
/// Shapes that do not fit, an `x` without numbers.
pub fn batch_norm_fixed(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    statistics: &BatchStatistics,
    epsilon: f64,
) -> Result<Tensor> {
    let given = [gamma, beta, &statistics.mean, &statistics.variance];
    let channels = channels(x, &given)?;
    if !takes(&given) || !takes(&[x]) {
        return reference::batch_norm_fixed(x, gamma, beta, statistics, epsilon);
    }
    normalise(
        &x.contiguous()?,
        gamma,
        beta,
        statistics,
        epsilon,
        channels,
        false,
    )
}

fn channels(x: &Tensor, per_channel: &[&Tensor]) -> Result<Channels> {
    let channels = match *x.dims() {
        [samples, count, ref plane @ ..] if x.elem_count() > 0 => Channels {
            samples,
            count,
            plane: plane.iter().product(),
        },
        ref dims => {
            return Err(Error::argument(
                "batch_norm",
                format!("needs [N, C, ...] with at least one number, got {dims:?}"),
            ));
        }
    };
    match per_channel.iter().find(|t| t.dims() != [channels.count]) {
        None => Ok(channels),
        Some(t) => Err(Error::argument(
            "batch_norm",
            format!("needs [{}] per channel, got {:?}", channels.count, t.dims()),
        )),
    }
}

fn normalise(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    statistics: &BatchStatistics,
    epsilon: f64,
    channels: Channels,
    of_batch: bool,
) -> Result<Tensor> {
    let normalise = Normalise::new(channels, statistics, epsilon)?;
    let op = BatchNorm {
        normalise,
        of_batch,
    };
    Ok(x.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)?)
}

impl Normalise {
    fn new(channels: Channels, statistics: &BatchStatistics, epsilon: f64) -> Result<Self> {
        let inverse = |&v: &f32| (1.0 / (f64::from(v) + epsilon).sqrt()) as f32;
        Ok(Self {
            channels,
            mean: with_values(&statistics.mean, <[f32]>::to_vec)?,
            inverse: with_values(&statistics.variance, |variance| {
                variance.iter().map(inverse).collect()
            })?,
        })
    }
}

struct BatchNorm {
    normalise: Normalise,
    /// Whether mean and deviation are functions of x.
    of_batch: bool,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (gamma, beta) = (values(gamma, lg)?, values(beta, lb)?);
        let y = self.normalise.forward(values(x, lx)?, gamma, beta, Nothing);
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let like = |values: Vec<f32>, tensor: &Tensor| {
            Tensor::from_vec(values, tensor.shape(), tensor.device())
        };
        let (tracked, of_x) = (gamma.track_op() || beta.track_op(), x.track_op());
        let (sums, gx) = with_all([x, gamma, beta, gy], |[x, gamma, beta, gy]| {
            let (line, normalise) = ((gamma, beta), &self.normalise);
            let sums = (tracked || self.of_batch).then(|| normalise.sums(x, line, gy, Nothing));
            let gx = of_x.then(|| {
                let through = sums.as_ref().filter(|_| self.of_batch);
                let shifts = through.map(|sums| normalise.of_batch(gamma, sums));
                normalise.backward_data(x, line, gy, shifts.as_deref(), Nothing)
            });
            (sums, gx)
        })?;
        let gx = gx.map(|gx| like(gx, x)).transpose()?;
        let (g_gamma, g_beta) = match sums {
            Some(sums) => (
                Some(like(sums.gradient_times_x, gamma)?),
                Some(like(sums.gradient, beta)?),
            ),
            None => (None, None),
        };
        Ok((
            gx,
            g_gamma.filter(|_| gamma.track_op()),
            g_beta.filter(|_| beta.track_op()),
        ))
    }
}
