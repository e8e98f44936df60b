//! Mean over non-overlapping squares.

pub mod reference;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::{planes_per_task, takes, values, with_values};
use super::widest::{self, Task};
use crate::{Error, Result};

/// `[N, C, H, W]` (or `[T, N, C, H, W]`) to `[N, C, H / k, W / k]`; a stride other than `k` is not offered.
///
/// # Errors
/// A kernel that does not divide both sides.
pub fn avg_pool2d(x: &Tensor, kernel: usize) -> Result<Tensor> {
    let pool = match *x.dims() {
        [ref leading @ .., channels, height, width]
            if !leading.is_empty()
                && kernel > 0
                && height.is_multiple_of(kernel)
                && width.is_multiple_of(kernel)
                && height * width > 0 =>
        {
            AvgPool {
                kernel,
                shape: [leading, &[channels, height / kernel, width / kernel]].concat(),
            }
        }
        ref dims => {
            return Err(Error::argument(
                "avg_pool2d",
                format!(
                    "needs [N, C, H, W] with both sides multiples of the kernel {kernel}, got {dims:?}"
                ),
            ));
        }
    };
    if takes(&[x]) {
        Ok(x.contiguous()?.apply_op1(pool)?)
    } else {
        reference::avg_pool2d(x, kernel)
    }
}

/// Gradient `[N, C, k H, k W]` of [`avg_pool2d`]'s `x`, from the gradient `gy` `[N, C, H, W]` (or `[T, N, C, H, W]`) of its
/// result, without a graph.
///
/// # Errors
/// A `gy` that is no `[N, C, H, W]`, a kernel of 0.
pub fn backward(gy: &Tensor, kernel: usize) -> Result<Tensor> {
    let (leading, [channels, height, width]) = match *gy.dims() {
        [ref leading @ .., c, h, w]
            if !leading.is_empty()
                && gy.elem_count() > 0
                && h.checked_mul(kernel).is_some_and(|h| h > 0)
                && w.checked_mul(kernel).is_some_and(|w| w > 0) =>
        {
            (leading, [c, h, w])
        }
        ref dims => {
            let message = format!("needs [N, C, H, W] and a kernel, got {dims:?} and {kernel}");
            return Err(Error::argument("gy", message));
        }
    };
    let shape = [leading, &[channels, height * kernel, width * kernel]].concat();
    if takes(&[gy]) {
        let pool = AvgPool {
            kernel,
            shape: gy.dims().to_vec(),
        };
        return Ok(Tensor::from_vec(pool.gradient(gy)?, shape, gy.device())?);
    }
    let planes = leading.iter().product::<usize>() * channels;
    let gx = gy
        .reshape((planes * height, 1, width, 1))?
        .broadcast_as((planes * height, kernel, width, kernel))?
        .reshape(shape)?;
    Ok((gx * (1.0 / (kernel * kernel) as f64))?)
}

/// Means of squares of side `k` of whole rows of squares, `columns` squares a row; `y` is zero before.
pub(crate) fn pool(x: &[f32], y: &mut [f32], columns: usize, k: usize) {
    widest::run(Pool { x, y, columns, k });
}

struct Pool<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    columns: usize,
    k: usize,
}

impl Task for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.k {
            // the usual side, known to the inner loop
            2 => self.rows(2),
            k => self.rows(k),
        }
    }
}

impl Pool<'_> {
    #[inline(always)]
    fn rows(self, k: usize) {
        let (columns, share) = (self.columns, 1.0 / (k * k) as f32);
        for (y, rows) in self
            .y
            .chunks_exact_mut(columns)
            .zip(self.x.chunks_exact(columns * k * k))
        {
            for row in rows.chunks_exact(columns * k) {
                for (y, x) in y.iter_mut().zip(row.chunks_exact(k)) {
                    *y += x.iter().sum::<f32>();
                }
            }
            y.iter_mut().for_each(|y| *y *= share);
        }
    }
}

/// Gradient of what [`pool`] took the means of.
pub(crate) fn spread(gy: &[f32], gx: &mut [f32], columns: usize, k: usize) {
    widest::run(Spread { gy, gx, columns, k });
}

struct Spread<'a> {
    gy: &'a [f32],
    gx: &'a mut [f32],
    columns: usize,
    k: usize,
}

impl Task for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match self.k {
            // as above
            2 => self.rows(2),
            k => self.rows(k),
        }
    }
}

impl Spread<'_> {
    #[inline(always)]
    fn rows(self, k: usize) {
        let (columns, share) = (self.columns, 1.0 / (k * k) as f32);
        for (rows, gy) in self
            .gx
            .chunks_exact_mut(columns * k * k)
            .zip(self.gy.chunks_exact(columns))
        {
            for row in rows.chunks_exact_mut(columns * k) {
                for (gx, g) in row.chunks_exact_mut(k).zip(gy) {
                    gx.fill(g * share);
                }
            }
        }
    }
}

struct AvgPool {
    kernel: usize,
    /// Of the result.
    shape: Vec<usize>,
}

impl AvgPool {
    /// Numbers of a plane of the result, of a plane of the input, and of a row of the result.
    fn sizes(&self) -> (usize, usize, usize) {
        let columns = self.shape[self.shape.len() - 1];
        let plane = self.shape[self.shape.len() - 2] * columns;
        (plane, plane * self.kernel * self.kernel, columns)
    }

    fn gradient(&self, gy: &Tensor) -> candle_core::Result<Vec<f32>> {
        let k = self.kernel;
        let (plane, to_plane, columns) = self.sizes();
        let mut gx = vec![0f32; gy.elem_count() * k * k];
        let planes = planes_per_task(to_plane);
        with_values(gy, |gy| {
            gx.par_chunks_mut(to_plane * planes)
                .zip(gy.par_chunks(plane * planes))
                .for_each(|(gx, gy)| {
                    spread(gy, gx, columns, k);
                });
        })?;
        Ok(gx)
    }
}

impl CustomOp1 for AvgPool {
    fn name(&self) -> &'static str {
        "avg-pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, k) = (values(x, layout)?, self.kernel);
        let (plane, from_plane, columns) = self.sizes();
        let mut y = vec![0f32; self.shape.iter().product()];
        let planes = planes_per_task(from_plane);
        y.par_chunks_mut(plane * planes)
            .zip(x.par_chunks(from_plane * planes))
            .for_each(|(y, x)| {
                pool(x, y, columns, k);
            });
        Ok((CpuStorage::F32(y), Shape::from(self.shape.clone())))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, gy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let gx = self.gradient(gy)?;
        Ok(Some(Tensor::from_vec(gx, x.shape(), x.device())?))
    }
}
