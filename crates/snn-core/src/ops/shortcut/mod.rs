//! The shortcut of a residual network: earlier activations beside the weighted way.

pub mod reference;

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::avg_pool::{self, pool, spread};
use super::cpu::{scratch, takes, values, with_values};
use super::widest::{self, Task};
use crate::{Error, Result};

/// Adds `scale[c]` times the mean of a square of `earlier`, side `k`, to the first channels of `x`:
///
/// ```text
/// y[.., c, i, j] = x[.., c, i, j] + scale[c] * mean over a, b < k of earlier[.., c, k i + a, k j + b]    c < C'
/// ```
///
/// and `y = x` in the other channels, as if `earlier` were filled up with channels of zeros (option A of He et al., "Deep
/// residual learning for image recognition", CVPR 2016, with a mean instead of every k-th pixel). `x` `[N, C, H, W]` (or
/// `[T, N, C, H, W]`), `earlier` `[N, C', k H, k W]`, `scale` `[C']`, C' at most C. Differentiable in `x` and `earlier`;
/// the scale is a constant.
///
/// # Errors
/// Shapes that do not fit, with the shapes.
pub fn shortcut(x: &Tensor, earlier: &Tensor, scale: &Tensor, kernel: usize) -> Result<Tensor> {
    let fits = match (x.dims(), earlier.dims(), scale.dims()) {
        ([leading @ .., c, h, w], [rows @ .., few, height, width], &[scales]) => {
            !leading.is_empty()
                && leading == rows
                && few <= c
                && *few == scales
                && kernel > 0
                && h.checked_mul(kernel) == Some(*height)
                && w.checked_mul(kernel) == Some(*width)
                && x.elem_count() > 0
                && earlier.elem_count() > 0
        }
        _ => false,
    };
    if !fits {
        return Err(Error::argument(
            "shortcut",
            format!(
                "{:?} cannot be added to {:?} with the scale {:?} and the kernel {kernel}",
                earlier.dims(),
                x.dims(),
                scale.dims()
            ),
        ));
    }
    if !takes(&[x, earlier, scale]) {
        return reference::shortcut(x, earlier, scale, kernel);
    }
    let [.., c, h, w] = *x.dims() else {
        unreachable!("checked above")
    };
    let maps = Maps {
        scale: scale.detach().to_vec1()?,
        kernel,
        shape: [c, h, w],
    };
    Ok(x.contiguous()?.apply_op2(&earlier.contiguous()?, maps)?)
}

/// Gradient `[N, C', k H, k W]` of [`shortcut`]'s `earlier`, from `scale` `[C']` and the gradient `gy` `[N, C, H, W]` (or
/// `[T, N, C, H, W]`) of its result, without a graph. That of `x` is `gy`.
///
/// # Errors
/// A scale that does not fit.
pub fn backward(gy: &Tensor, scale: &Tensor, kernel: usize) -> Result<Tensor> {
    let few = scale.elem_count();
    let (leading, [c, h, w]) = match *gy.dims() {
        [ref leading @ .., c, h, w]
            if !leading.is_empty()
                && gy.elem_count() > 0
                && scale.rank() == 1
                && (1..=c).contains(&few)
                && h.checked_mul(kernel).is_some_and(|h| h > 0)
                && w.checked_mul(kernel).is_some_and(|w| w > 0) =>
        {
            (leading, [c, h, w])
        }
        ref dims => {
            let message = format!("{dims:?} and the scale {:?} do not fit", scale.dims());
            return Err(Error::argument("shortcut", message));
        }
    };
    if takes(&[gy, scale]) {
        let maps = Maps {
            scale: scale.detach().to_vec1()?,
            kernel,
            shape: [c, h, w],
        };
        let shape = [leading, &[few, h * kernel, w * kernel]].concat();
        let g = with_values(gy, |gy| maps.gradient(gy))?;
        return Ok(Tensor::from_vec(g, shape, gy.device())?);
    }
    let scaled = gy
        .narrow(leading.len(), 0, few)?
        .broadcast_mul(&scale.reshape((few, 1, 1))?)?;
    avg_pool::backward(&scaled, kernel)
}

/// A shortcut's way from map to map.
#[derive(Debug, Clone)]
pub(crate) struct Maps {
    pub(crate) scale: Vec<f32>,
    pub(crate) kernel: usize,
    /// Of the result, `[C, H, W]`.
    pub(crate) shape: [usize; 3],
}

impl Maps {
    /// Numbers of a map of the result.
    fn outputs(&self) -> usize {
        self.shape.iter().product()
    }

    /// Numbers of an earlier map.
    fn inputs(&self) -> usize {
        self.scale.len() * self.plane() * self.kernel * self.kernel
    }

    fn plane(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// Adds the shortcut of an earlier map to one of the result's.
    fn add_map(&self, earlier: &[f32], y: &mut [f32], pooled: &mut Vec<f32>) {
        let (plane, k) = (self.plane(), self.kernel);
        let planes = y
            .chunks_exact_mut(plane)
            .zip(earlier.chunks_exact(plane * k * k));
        for (&scale, (y, earlier)) in self.scale.iter().zip(planes) {
            let x = match k {
                1 => earlier,
                _ => {
                    let pooled = scratch(pooled, plane);
                    pooled.fill(0.0);
                    pool(earlier, pooled, self.shape[2], k);
                    pooled
                }
            };
            widest::run(Add { x, y, scale });
        }
    }

    /// Adds the shortcuts of earlier maps, which `fill` writes by number, to those of the result.
    pub(crate) fn add(&self, y: &mut [f32], fill: impl Fn(usize, &mut [f32]) + Sync) {
        y.par_chunks_exact_mut(self.outputs())
            .enumerate()
            .for_each_init(
                || (vec![0f32; self.inputs()], Vec::new()),
                |(earlier, pooled), (map, y)| {
                    fill(map, earlier);
                    self.add_map(earlier, y, pooled);
                },
            );
    }

    /// Gradient of earlier maps from that of the result.
    pub(crate) fn gradient(&self, gy: &[f32]) -> Vec<f32> {
        let (plane, k) = (self.plane(), self.kernel);
        let mut all = vec![0f32; gy.len() / self.outputs() * self.inputs()];
        all.par_chunks_exact_mut(self.inputs())
            .zip(gy.par_chunks_exact(self.outputs()))
            .for_each_init(Vec::new, |scaled, (g, gy)| {
                let planes = g
                    .chunks_exact_mut(plane * k * k)
                    .zip(gy.chunks_exact(plane));
                for (&scale, (g, gy)) in self.scale.iter().zip(planes) {
                    match k {
                        1 => widest::run(Add { x: gy, y: g, scale }),
                        _ => {
                            let scaled = scratch(scaled, plane);
                            scaled.fill(0.0);
                            widest::run(Add {
                                x: gy,
                                y: scaled,
                                scale,
                            });
                            spread(scaled, g, self.shape[2], k);
                        }
                    }
                }
            });
        all
    }
}

/// `y += scale * x`
struct Add<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    scale: f32,
}

impl Task for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y += self.scale * x;
        }
    }
}

impl CustomOp2 for Maps {
    fn name(&self) -> &'static str {
        "shortcut"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        earlier: &CpuStorage,
        le: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (mut y, earlier) = (values(x, lx)?.to_vec(), values(earlier, le)?);
        y.par_chunks_exact_mut(self.outputs())
            .zip(earlier.par_chunks_exact(self.inputs()))
            .for_each_init(Vec::new, |pooled, (y, earlier)| {
                self.add_map(earlier, y, pooled);
            });
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        earlier: &Tensor,
        _y: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let g = with_values(gy, |gy| self.gradient(gy))?;
        let g = Tensor::from_vec(g, earlier.shape(), earlier.device())?;
        Ok((Some(gy.clone()), Some(g)))
    }
}
