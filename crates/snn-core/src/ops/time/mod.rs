//! Along the axis of time, the leading one.

pub mod reference;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::{CHUNK, takes, values, with_values};
use crate::{Error, Result};

/// The same at every step: `[1, ...]` to `[steps, ...]`; what has `steps` steps already stays as it is. Differentiable:
/// the gradient is the sum over the steps.
///
/// # Errors
/// An `x` of another number of steps, no steps.
pub fn hold(x: &Tensor, steps: usize) -> Result<Tensor> {
    match x.dims().first() {
        Some(&t) if t == steps && t > 0 => Ok(x.clone()),
        Some(1) if steps > 0 && takes(&[x]) => Ok(x.contiguous()?.apply_op1(Hold { steps })?),
        Some(1) if steps > 0 => reference::hold(x, steps),
        _ => Err(Error::argument(
            "hold",
            format!("cannot hold {:?} over {steps} steps", x.dims()),
        )),
    }
}

/// Number of spikes of either sign over all steps: the sum of `|s[t, ...]|` over t, `[T, ...]` to `[...]`. No gradient.
///
/// # Errors
/// A scalar.
pub fn events(spikes: &Tensor) -> Result<Tensor> {
    let Some((_, shape)) = spikes.dims().split_first() else {
        return Err(Error::argument("events", "needs [T, ...], got a scalar"));
    };
    if !takes(&[spikes]) {
        return reference::events(spikes);
    }
    let len = shape.iter().product();
    let sum = with_values(&spikes.detach(), |spikes| total(spikes, len, f32::abs))?;
    Ok(Tensor::from_vec(sum, shape, spikes.device())?)
}

/// Sum over the steps of `f(x[t, i])`, step after step.
pub(crate) fn total(x: &[f32], len: usize, f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let mut sum = vec![0f32; len];
    sum.par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, sum)| {
            for step in x.chunks_exact(len) {
                for (sum, x) in sum.iter_mut().zip(&step[chunk * CHUNK..]) {
                    *sum += f(*x);
                }
            }
        });
    sum
}

struct Hold {
    steps: usize,
}

impl CustomOp1 for Hold {
    fn name(&self) -> &'static str {
        "hold"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = values(x, layout)?;
        let mut y = vec![0f32; self.steps * x.len()];
        if !x.is_empty() {
            y.par_chunks_mut(x.len()).for_each(|y| y.copy_from_slice(x));
        }
        let mut shape = layout.dims().to_vec();
        shape[0] = self.steps;
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, gy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gx = with_values(gy, |gy| total(gy, x.elem_count(), |g| g))?;
        Ok(Some(Tensor::from_vec(gx, x.shape(), x.device())?))
    }
}
