//! A normalisation and the activation after it in one pass over memory, forward and back, without a graph.

use candle_core::Tensor;

use super::after::{Elementwise, Nothing, Relu};
use super::cpu::Normalise;
use super::{BatchStatistics, channels, statistics};
use crate::ops::cpu::{takes, with_all, with_values};
use crate::ops::qcfs::{self, Staircase};
use crate::ops::relu;
use crate::{Error, Result};

/// What follows the normalisation.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    /// Nothing.
    Nothing,
    /// [`relu::relu`]
    Relu,
    /// [`qcfs::qcfs`]
    Qcfs {
        /// `[1]`, positive.
        threshold: &'a Tensor,
        /// Number of steps.
        levels: usize,
    },
}

/// `y = after((x - mean) / sqrt(variance + epsilon) * gamma + beta)`, `x` `[N, C, ...]`.
#[derive(Debug, Clone, Copy)]
pub struct NormActivation<'a> {
    /// `[C]`
    pub gamma: &'a Tensor,
    /// `[C]`
    pub beta: &'a Tensor,
    /// Added to the variance.
    pub epsilon: f64,
    /// The activation.
    pub after: After<'a>,
}

/// What [`NormActivation::backward`] gives.
#[derive(Debug, Clone)]
pub struct NormActivationGradients {
    /// Of the input, `[N, C, ...]`.
    pub x: Tensor,
    /// `[C]`
    pub gamma: Tensor,
    /// `[C]`
    pub beta: Tensor,
    /// Of the threshold `[1]`, if there is one.
    pub threshold: Option<Tensor>,
}

/// What a part of the loss that looks at a batch's mean and biased variance per channel says of them: gradients, `[C]` each.
#[derive(Debug, Clone)]
pub struct StatisticsGradients {
    /// The batch's statistics themselves.
    pub statistics: BatchStatistics,
    /// Gradient of the mean.
    pub mean: Tensor,
    /// Gradient of the variance.
    pub variance: Tensor,
}

impl NormActivation<'_> {
    /// With the batch's own statistics, which are given, too.
    ///
    /// # Errors
    /// Shapes that do not fit, an `x` without numbers, a threshold that is not positive.
    pub fn forward_training(&self, x: &Tensor) -> Result<(Tensor, BatchStatistics)> {
        channels(x, &[self.gamma, self.beta])?;
        let x = x.detach().contiguous()?;
        let statistics = statistics(&x)?;
        Ok((self.forward_inference(&x, &statistics)?, statistics))
    }

    /// With given statistics.
    ///
    /// # Errors
    /// Those of [`NormActivation::forward_training`].
    pub fn forward_inference(&self, x: &Tensor, statistics: &BatchStatistics) -> Result<Tensor> {
        let given = [
            self.gamma,
            self.beta,
            &statistics.mean,
            &statistics.variance,
        ];
        let channels = channels(x, &given)?;
        if !takes(&given) || !takes(&[x]) {
            let (normal, _) = self.normal(x, statistics)?;
            return self.follow(&self.line(&normal)?);
        }
        let normalise = Normalise::new(channels, statistics, self.epsilon)?;
        let y = with_all(
            [x, self.gamma, self.beta],
            |[x, gamma, beta]| -> Result<_> {
                Ok(match self.after {
                    After::Nothing => normalise.forward(x, gamma, beta, Nothing),
                    After::Relu => normalise.forward(x, gamma, beta, Relu),
                    After::Qcfs { threshold, levels } => {
                        normalise.forward(x, gamma, beta, staircase(threshold, levels)?)
                    }
                })
            },
        )??;
        Ok(Tensor::from_vec(y, x.shape(), x.device())?)
    }

    /// The gradients of x, gamma, beta and the threshold, from that of the result, `gy`, where the `statistics` were the
    /// batch's ([`NormActivation::forward_training`]): the gradient of x goes through them, too.
    ///
    /// # Errors
    /// Shapes that do not fit, with the shapes.
    pub fn backward(
        &self,
        x: &Tensor,
        statistics: &BatchStatistics,
        gy: &Tensor,
    ) -> Result<NormActivationGradients> {
        let Some(normalise) = self.kernel(x, statistics, gy)? else {
            return self.by_operations(x, statistics, gy);
        };
        let run = |[x, gamma, beta, gy]: [&[f32]; 4]| -> Result<_> {
            let line = (gamma, beta);
            Ok(match self.after {
                After::Nothing => both(&normalise, x, line, gy, Nothing),
                After::Relu => both(&normalise, x, line, gy, Relu),
                After::Qcfs { threshold, levels } => {
                    both(&normalise, x, line, gy, staircase(threshold, levels)?)
                }
            })
        };
        let (sums, gx) = with_all([x, self.gamma, self.beta, gy], run)??;
        let threshold = match self.after {
            After::Qcfs { threshold, .. } => {
                let sum = Tensor::from_vec(vec![sums.of_threshold as f32], 1, x.device())?;
                Some((sum / threshold.detach())?)
            }
            _ => None,
        };
        Ok(NormActivationGradients {
            x: Tensor::from_vec(gx, x.shape(), x.device())?,
            gamma: Tensor::from_vec(sums.gradient_times_x, self.gamma.shape(), x.device())?,
            beta: Tensor::from_vec(sums.gradient, self.beta.shape(), x.device())?,
            threshold,
        })
    }

    /// The gradient of x alone, from that of the result, `gy`, where the `statistics` were given ([`NormActivation::forward_inference`]); and, if a
    /// part of the loss looks at the batch's own, from theirs.
    ///
    /// # Errors
    /// Shapes that do not fit, with the shapes.
    pub fn backward_data(
        &self,
        x: &Tensor,
        statistics: &BatchStatistics,
        gy: &Tensor,
        of_batch: Option<&StatisticsGradients>,
    ) -> Result<Tensor> {
        if let Some(of) = of_batch {
            channels(x, &[&of.statistics.mean, &of.mean, &of.variance])?;
        }
        let Some(normalise) = self.kernel(x, statistics, gy)? else {
            return self.data_by_operations(x, statistics, gy, of_batch);
        };
        let shifts = of_batch.map(|of| {
            let given = [&of.statistics.mean, &of.mean, &of.variance];
            with_all(given, |[at, mean, variance]| {
                normalise.of_moments(at, [mean, variance])
            })
        });
        let shifts = shifts.transpose()?;
        let run = |[x, gamma, beta, gy]: [&[f32]; 4]| -> Result<_> {
            let (line, shifts) = ((gamma, beta), shifts.as_deref());
            Ok(match self.after {
                After::Nothing => normalise.backward_data(x, line, gy, shifts, Nothing),
                After::Relu => normalise.backward_data(x, line, gy, shifts, Relu),
                After::Qcfs { threshold, levels } => {
                    let after = staircase(threshold, levels)?;
                    normalise.backward_data(x, line, gy, shifts, after)
                }
            })
        };
        let gx = with_all([x, self.gamma, self.beta, gy], run)??;
        Ok(Tensor::from_vec(gx, x.shape(), x.device())?)
    }

    /// The kernel, if there is one for these tensors.
    fn kernel(
        &self,
        x: &Tensor,
        statistics: &BatchStatistics,
        gy: &Tensor,
    ) -> Result<Option<Normalise>> {
        let given = [
            self.gamma,
            self.beta,
            &statistics.mean,
            &statistics.variance,
        ];
        let channels = channels(x, &given)?;
        if x.dims() != gy.dims() {
            let message = format!("needs {:?} like the input, got {:?}", x.dims(), gy.dims());
            return Err(Error::argument("gy", message));
        }
        if !takes(&given) || !takes(&[x, gy]) {
            return Ok(None);
        }
        Normalise::new(channels, statistics, self.epsilon).map(Some)
    }

    /// The activation as an operation of its own.
    fn follow(&self, z: &Tensor) -> Result<Tensor> {
        match self.after {
            After::Nothing => Ok(z.clone()),
            After::Relu => relu::relu(z),
            After::Qcfs { threshold, levels } => qcfs::qcfs(z, &threshold.detach(), levels),
        }
    }

    /// The normalised x and one over the deviation, in x's rank, by operations of the tensor library: centred first, as a
    /// large mean would cancel most digits otherwise.
    fn normal(&self, x: &Tensor, statistics: &BatchStatistics) -> Result<(Tensor, Tensor)> {
        let inverse = along(
            x,
            &((&statistics.variance + self.epsilon)?.sqrt()?.recip()?),
        )?;
        let centred = x.detach().broadcast_sub(&along(x, &statistics.mean)?)?;
        Ok((centred.broadcast_mul(&inverse)?, inverse))
    }

    fn line(&self, normal: &Tensor) -> Result<Tensor> {
        Ok(normal
            .broadcast_mul(&along(normal, self.gamma)?)?
            .broadcast_add(&along(normal, self.beta)?)?)
    }

    /// The normalised x, one over the deviation, the gradient before the activation and that of the threshold.
    fn before(
        &self,
        x: &Tensor,
        statistics: &BatchStatistics,
        gy: &Tensor,
    ) -> Result<(Tensor, Tensor, Tensor, Option<Tensor>)> {
        let (normal, inverse) = self.normal(x, statistics)?;
        let z = self.line(&normal)?;
        let (gz, of_threshold) = match self.after {
            After::Nothing => (gy.clone(), None),
            After::Relu => (relu::backward(&self.follow(&z)?, gy)?, None),
            After::Qcfs { threshold, .. } => {
                let y = self.follow(&z)?;
                let (gz, of) = qcfs::backward(&z, &threshold.detach(), &y, gy)?;
                (gz, Some(of))
            }
        };
        Ok((normal, inverse, gz, of_threshold))
    }

    /// [`NormActivation::backward`] by operations of the tensor library.
    fn by_operations(
        &self,
        x: &Tensor,
        statistics: &BatchStatistics,
        gy: &Tensor,
    ) -> Result<NormActivationGradients> {
        let (normal, inverse, gz, threshold) = self.before(x, statistics, gy)?;
        let others: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
        let beta = gz.sum(others.as_slice())?;
        let gamma = (&gz * &normal)?.sum(others.as_slice())?;
        let share = 1.0 / numbers(x, self.gamma);
        let centred = gz
            .broadcast_sub(&along(x, &(&beta * share)?)?)?
            .sub(&normal.broadcast_mul(&along(x, &(&gamma * share)?)?)?)?;
        let scale = (inverse * along(x, self.gamma)?)?;
        Ok(NormActivationGradients {
            x: centred.broadcast_mul(&scale)?,
            gamma,
            beta,
            threshold,
        })
    }

    /// [`NormActivation::backward_data`] by operations of the tensor library.
    fn data_by_operations(
        &self,
        x: &Tensor,
        statistics: &BatchStatistics,
        gy: &Tensor,
        of_batch: Option<&StatisticsGradients>,
    ) -> Result<Tensor> {
        let (normal, inverse) = self.normal(x, statistics)?;
        let z = self.line(&normal)?;
        let gz = match self.after {
            After::Nothing => gy.clone(),
            After::Relu => relu::backward(&self.follow(&z)?, gy)?,
            After::Qcfs { threshold, .. } => qcfs::data_by_operations(&z, &threshold.detach(), gy)?,
        };
        let gx = gz.broadcast_mul(&(inverse * along(x, self.gamma)?)?)?;
        let Some(of) = of_batch else {
            return Ok(gx);
        };
        let share = 1.0 / numbers(x, self.gamma);
        let apart = x.detach().broadcast_sub(&along(x, &of.statistics.mean)?)?;
        let through_variance = apart.broadcast_mul(&along(x, &(&of.variance * (2.0 * share))?)?)?;
        Ok((gx + through_variance)?.broadcast_add(&along(x, &(&of.mean * share)?)?)?)
    }
}

/// Numbers of a channel.
fn numbers(x: &Tensor, per_channel: &Tensor) -> f64 {
    (x.elem_count() / per_channel.elem_count()) as f64
}

/// A number per channel in the rank of x, outside any graph.
fn along(x: &Tensor, per_channel: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[1] = per_channel.elem_count();
    Ok(per_channel.detach().reshape(shape)?)
}

fn both(
    normalise: &Normalise,
    x: &[f32],
    line: (&[f32], &[f32]),
    gy: &[f32],
    after: impl Elementwise,
) -> (super::cpu::Sums, Vec<f32>) {
    let sums = normalise.sums(x, line, gy, after);
    let shifts = normalise.of_batch(line.0, &sums);
    let gx = normalise.backward_data(x, line, gy, Some(&shifts), after);
    (sums, gx)
}

fn staircase(threshold: &Tensor, levels: usize) -> Result<Staircase> {
    qcfs::check(threshold, levels)?;
    let threshold = with_values(&threshold.detach(), |threshold| threshold[0])?;
    Ok(Staircase::new(levels, threshold)?)
}
