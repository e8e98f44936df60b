//! A normalisation and the activation after it in one pass over memory, for training without a graph.

use candle_core::Tensor;

use super::after::{Elementwise, Nothing, Relu};
use super::cpu::{Normalise, Sums};
use super::{BatchStatistics, channels, reference, statistics};
use crate::Result;
use crate::ops::cpu::{takes, with_all};
use crate::ops::qcfs::{self, Staircase};
use crate::ops::relu;

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

/// What [`backward`] gives.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Of the input, `[N, C, ...]`.
    pub x: Tensor,
    /// `[C]`
    pub gamma: Tensor,
    /// `[C]`
    pub beta: Tensor,
    /// Of the threshold `[1]`, if there is one.
    pub threshold: Option<Tensor>,
}

/// `y = after(z)`, `z` being [`super::batch_norm`] of `x` `[N, C, ...]` with its own statistics, which are given, too.
///
/// # Errors
/// Shapes that do not fit, an `x` without numbers, a threshold that is not positive.
pub fn forward(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    epsilon: f64,
    after: After,
) -> Result<(Tensor, BatchStatistics)> {
    let channels = channels(x, &[gamma, beta])?;
    let [x, gamma, beta] = [x, gamma, beta].map(Tensor::detach);
    if !takes(&[&x, &gamma, &beta]) {
        let (z, statistics) = reference::batch_norm(&x, &gamma, &beta, epsilon)?;
        return Ok((follow(&z, after)?, statistics));
    }
    let x = x.contiguous()?;
    let statistics = statistics(&x)?;
    let normalise = Normalise::new(channels, &statistics, epsilon, true)?;
    let y = with_all([&x, &gamma, &beta], |[x, gamma, beta]| -> Result<_> {
        Ok(match after {
            After::Nothing => normalise.forward(x, gamma, beta, Nothing),
            After::Relu => normalise.forward(x, gamma, beta, Relu),
            After::Qcfs { threshold, levels } => {
                normalise.forward(x, gamma, beta, staircase(threshold, levels)?)
            }
        })
    })??;
    Ok((Tensor::from_vec(y, x.shape(), x.device())?, statistics))
}

/// The gradients of [`forward`]'s arguments, from the `statistics` that it gave and the gradient `gy` of its result.
///
/// # Errors
/// Shapes that do not fit, with the shapes.
pub fn backward(
    x: &Tensor,
    (gamma, beta): (&Tensor, &Tensor),
    statistics: &BatchStatistics,
    epsilon: f64,
    after: After,
    gy: &Tensor,
) -> Result<Gradients> {
    let given = [gamma, beta, &statistics.mean, &statistics.variance];
    let channels = channels(x, &given)?;
    if x.dims() != gy.dims() {
        let message = format!("needs {:?} like the input, got {:?}", x.dims(), gy.dims());
        return Err(crate::Error::argument("gy", message));
    }
    if !takes(&given) || !takes(&[x, gy]) {
        return by_operations(x, (gamma, beta), statistics, epsilon, after, gy);
    }
    let normalise = Normalise::new(channels, statistics, epsilon, true)?;
    let (sums, gx) = with_all([x, gamma, beta, gy], |[x, gamma, beta, gy]| -> Result<_> {
        let line = (gamma, beta);
        Ok(match after {
            After::Nothing => both(&normalise, x, line, gy, Nothing),
            After::Relu => both(&normalise, x, line, gy, Relu),
            After::Qcfs { threshold, levels } => {
                both(&normalise, x, line, gy, staircase(threshold, levels)?)
            }
        })
    })??;
    let threshold = match after {
        After::Qcfs { threshold, .. } => {
            let sum = Tensor::from_vec(vec![sums.of_threshold as f32], 1, x.device())?;
            Some((sum / threshold.detach())?)
        }
        _ => None,
    };
    Ok(Gradients {
        x: Tensor::from_vec(gx, x.shape(), x.device())?,
        gamma: Tensor::from_vec(sums.gradient_times_x, gamma.shape(), x.device())?,
        beta: Tensor::from_vec(sums.gradient, beta.shape(), x.device())?,
        threshold,
    })
}

fn both(
    normalise: &Normalise,
    x: &[f32],
    line: (&[f32], &[f32]),
    gy: &[f32],
    after: impl Elementwise,
) -> (Sums, Vec<f32>) {
    let sums = normalise.sums(x, line, gy, after);
    let gx = normalise.backward_data(x, line, gy, Some(&sums), after);
    (sums, gx)
}

fn staircase(threshold: &Tensor, levels: usize) -> Result<Staircase> {
    qcfs::check(threshold, levels)?;
    Ok(Staircase::new(
        levels,
        threshold.detach().to_vec1::<f32>()?[0],
    )?)
}

/// The activation as an operation of its own.
fn follow(z: &Tensor, after: After) -> Result<Tensor> {
    match after {
        After::Nothing => Ok(z.clone()),
        After::Relu => relu::relu(z),
        After::Qcfs { threshold, levels } => qcfs::qcfs(z, &threshold.detach(), levels),
    }
}

/// [`backward`] by operations of the tensor library.
fn by_operations(
    x: &Tensor,
    (gamma, beta): (&Tensor, &Tensor),
    statistics: &BatchStatistics,
    epsilon: f64,
    after: After,
    gy: &Tensor,
) -> Result<Gradients> {
    let [x, gamma, beta] = [x, gamma, beta].map(Tensor::detach);
    let rank = x.rank();
    let others: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
    let mut shape = vec![1; rank];
    shape[1] = gamma.elem_count();
    let per_channel = |tensor: &Tensor| tensor.reshape(shape.clone());
    let inverse = per_channel(&((&statistics.variance + epsilon)?.sqrt()?.recip()?))?;
    let normal = x
        .broadcast_sub(&per_channel(&statistics.mean)?)?
        .broadcast_mul(&inverse)?;
    let (mut gy, mut of_threshold) = (gy.clone(), None);
    if !matches!(after, After::Nothing) {
        let z = normal
            .broadcast_mul(&per_channel(&gamma)?)?
            .broadcast_add(&per_channel(&beta)?)?;
        let y = follow(&z, after)?;
        match after {
            After::Nothing => {}
            After::Relu => gy = relu::backward(&y, &gy)?,
            After::Qcfs { threshold, .. } => {
                let (before, of) = qcfs::backward(&z, &threshold.detach(), &y, &gy)?;
                (gy, of_threshold) = (before, Some(of));
            }
        }
    }
    let of_beta = gy.sum(others.as_slice())?;
    let of_gamma = (&gy * &normal)?.sum(others.as_slice())?;
    let numbers = (x.elem_count() / gamma.elem_count()) as f64;
    let mean = |sums: &Tensor| per_channel(&(sums * (1.0 / numbers))?);
    let centred = gy
        .broadcast_sub(&mean(&of_beta)?)?
        .sub(&normal.broadcast_mul(&mean(&of_gamma)?)?)?;
    let scale = (inverse * per_channel(&gamma)?)?;
    Ok(Gradients {
        x: centred.broadcast_mul(&scale)?,
        gamma: of_gamma,
        beta: of_beta,
        threshold: of_threshold,
    })
}
