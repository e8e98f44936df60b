//! Quantisation, clip, floor, shift (Bu et al., ICLR 2022): the activation whose values are the rates of a neuron.

pub mod reference;

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::{CHUNK, map, sum_of, takes, values, with_all, zip};
use super::mean::total;
use super::widest::{self, Task};
use crate::{Error, Result};

/// A staircase of `levels` steps from 0 to a trained threshold `theta`,
///
/// ```text
/// y = theta / L * clip(floor(L x / theta + 1/2), 0, L)
/// ```
///
/// which is what a neuron without leak, with soft reset, threshold theta and a membrane of theta / 2 at the start gives on
/// average over T = L steps of a constant current x, if it fires at the threshold; one that fires above it only differs
/// where x lies on a step's edge. `x` any shape, `threshold` `[1]`, positive. Gradients pass straight through the
/// floor, as in that work's code:
///
/// ```text
/// dy/dx = 1 for 0 < x < theta, else 0        dy/dtheta = (y - x dy/dx) / theta
/// ```
///
/// # Errors
/// No levels, or more than 2^20; a threshold of another shape; on the CPU a threshold that is not positive.
pub fn qcfs(x: &Tensor, threshold: &Tensor, levels: usize) -> Result<Tensor> {
    check(threshold, levels)?;
    if takes(&[x, threshold]) {
        let op = Qcfs { levels };
        Ok(x.contiguous()?.apply_op2(&threshold.contiguous()?, op)?)
    } else {
        reference::qcfs(x, threshold, levels)
    }
}

/// Whether there is a staircase of so many levels and a threshold of this shape.
pub(super) fn check(threshold: &Tensor, levels: usize) -> Result<()> {
    if !(1..=MAX_LEVELS).contains(&levels) {
        return Err(Error::argument(
            "levels",
            format!("must be in 1..={MAX_LEVELS}, got {levels}"),
        ));
    }
    if threshold.dims() != [1] {
        return Err(Error::argument(
            "threshold",
            format!("must be [1], got {:?}", threshold.dims()),
        ));
    }
    Ok(())
}

/// Gradients of [`qcfs`]'s `x` and `threshold` `[1]`, from its result `y` and the gradient `gy` of that, `x`, `y` and `gy` of one
/// shape, without a graph.
///
/// # Errors
/// Unequal shapes, a threshold of another shape.
pub fn backward(
    x: &Tensor,
    threshold: &Tensor,
    y: &Tensor,
    gy: &Tensor,
) -> Result<(Tensor, Tensor)> {
    if x.dims() != gy.dims() || x.dims() != y.dims() || threshold.dims() != [1] {
        let message = format!(
            "input {:?}, threshold {:?}, result {:?} and gradient {:?} do not fit",
            x.dims(),
            threshold.dims(),
            y.dims(),
            gy.dims()
        );
        return Err(Error::argument("qcfs", message));
    }
    if takes(&[x, threshold, y, gy]) {
        return Ok(gradients((x, threshold), y, gy)?);
    }
    let inside = inside(x, threshold)?;
    let zeros = gy.zeros_like()?;
    let gx = inside.where_cond(gy, &zeros)?;
    let line = inside.where_cond(x, &zeros)?;
    let sum = total(&(gy * (y - line)?)?)?.reshape(1)?;
    Ok((gx, (sum / threshold)?))
}

/// The gradient of x alone, by operations of the tensor library.
pub(super) fn data_by_operations(x: &Tensor, threshold: &Tensor, gy: &Tensor) -> Result<Tensor> {
    Ok(inside(x, threshold)?.where_cond(gy, &gy.zeros_like()?)?)
}

/// Where the staircase lets gradients through.
fn inside(x: &Tensor, threshold: &Tensor) -> Result<Tensor> {
    Ok((x.gt(0.0)? * x.broadcast_lt(threshold)?)?)
}

fn gradients(
    (x, threshold): (&Tensor, &Tensor),
    y: &Tensor,
    gy: &Tensor,
) -> candle_core::Result<(Tensor, Tensor)> {
    // the levels take no part
    let staircase = Staircase::new(1, threshold.to_vec1::<f32>()?[0])?;
    let (gx, of_threshold) = with_all([x, y, gy], |[x, y, gy]| {
        let gx = zip(x, gy, |x, g| if staircase.passes(x) { g } else { 0.0 });
        (gx, threshold_gradient(x, y, gy, staircase))
    })?;
    let gx = Tensor::from_vec(gx, x.shape(), x.device())?;
    Ok((gx, Tensor::from_vec(vec![of_threshold], 1, x.device())?))
}

/// Beyond any use, and exact in f32.
pub const MAX_LEVELS: usize = 1 << 20;

struct Qcfs {
    levels: usize,
}

/// The function of single numbers.
#[derive(Clone, Copy)]
pub(super) struct Staircase {
    levels: f32,
    threshold: f32,
    /// Levels per unit, and the height of one.
    steps: f32,
    step: f32,
}

impl Staircase {
    /// # Errors
    /// A threshold that is not positive.
    pub(super) fn new(levels: usize, threshold: f32) -> candle_core::Result<Self> {
        if !(threshold.is_finite() && threshold > 0.0) {
            candle_core::bail!(
                "qcfs: the threshold is {threshold}, not a positive number; train with a smaller learning rate"
            );
        }
        let levels = levels as f32;
        Ok(Self {
            levels,
            threshold,
            steps: levels / threshold,
            step: threshold / levels,
        })
    }

    #[inline(always)]
    pub(super) fn at(&self, x: f32) -> f32 {
        floor((x * self.steps + 0.5).clamp(0.0, self.levels)) * self.step
    }

    /// Whether a gradient comes through at `x`.
    #[inline(always)]
    pub(super) fn passes(&self, x: f32) -> bool {
        x > 0.0 && x < self.threshold
    }

    /// The slope of the value with the threshold, times the threshold, at `x`, where the value is `y`.
    #[inline(always)]
    pub(super) fn of_threshold(&self, x: f32, y: f32) -> f32 {
        if self.passes(x) { y - x } else { y }
    }
}

impl CustomOp2 for Qcfs {
    fn name(&self) -> &'static str {
        "qcfs"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        threshold: &CpuStorage,
        of_threshold: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let staircase = Staircase::new(self.levels, values(threshold, of_threshold)?[0])?;
        let y = map(values(x, layout)?, |x| staircase.at(x));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        threshold: &Tensor,
        y: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (gx, of_threshold) = gradients((x, threshold), y, gy)?;
        Ok((Some(gx), Some(of_threshold)))
    }
}

/// The largest whole number that is not above `x`, 0 <= x <= [`MAX_LEVELS`], by operations that every processor has for
/// vectors. A NaN stays a NaN.
#[inline(always)]
fn floor(x: f32) -> f32 {
    // numbers of this size have no fraction: the sum is rounded to a whole number, upwards or downwards
    const WHOLE: f32 = (1 << 23) as f32;
    let near = (x + WHOLE) - WHOLE;
    if near > x { near - 1.0 } else { near }
}

/// `sum of gy (y - x [0 < x < theta]) / theta`, in a fixed order.
fn threshold_gradient(x: &[f32], y: &[f32], gy: &[f32], staircase: Staircase) -> f32 {
    let parts = x
        .par_chunks(CHUNK)
        .zip(y.par_chunks(CHUNK).zip(gy.par_chunks(CHUNK)));
    let sums: Vec<f64> = parts
        .map(|(x, (y, gy))| {
            widest::run(Change {
                x,
                y,
                gy,
                staircase,
            })
        })
        .collect();
    (sums.iter().sum::<f64>() / f64::from(staircase.threshold)) as f32
}

struct Change<'a> {
    x: &'a [f32],
    y: &'a [f32],
    gy: &'a [f32],
    staircase: Staircase,
}

impl Task for Change<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let Self {
            x,
            y,
            gy,
            staircase,
        } = self;
        sum_of(x.len(), |i| {
            f64::from(gy[i]) * f64::from(staircase.of_threshold(x[i], y[i]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LEVELS, floor};

    #[test]
    fn floor_is_the_floor() {
        let whole = [0.0, 1.0, 2.0, 7.0, 8191.0, (MAX_LEVELS - 1) as f32];
        for x in whole {
            let around = [x, x.next_up(), x + 0.25, x + 0.5, (x + 1.0).next_down()];
            for x in around {
                assert_eq!(floor(x), x.floor(), "{x}");
            }
        }
        assert_eq!(floor(MAX_LEVELS as f32), MAX_LEVELS as f32);
        assert!(floor(f32::NAN).is_nan());
    }
}
