//! A convolution of maps in which little fired, as sums over events.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::Result;
use crate::event::layer::{Weighted, Window, Work};
use crate::event::raster::Raster;
use crate::ops::cpu::Disjoint;
use crate::ops::memory::zeros;

/// Share of numbers that are not zero below which events are faster than a dense convolution.
pub(super) const FEW: f64 = 0.6;
/// Steps of a task.
const STEPS: usize = 16;
/// Currents that are added up together: with the rows of a block they stay in the second-level cache.
const SUMS: usize = 1 << 16;

/// Sizes of a convolution but for its channels and its kernel, which its weight tells.
#[derive(Debug)]
pub(super) struct Convolution {
    /// `[C, H, W]`
    pub(super) input: [usize; 3],
    /// `[O, H', W']`
    pub(super) output: [usize; 3],
    pub(super) stride: usize,
    pub(super) padding: usize,
}

/// Share of numbers that are not zero.
pub(super) fn share(x: &[f32]) -> f64 {
    const CHUNK: usize = 1 << 14;
    let count = |x: &[f32]| x.iter().map(|x| usize::from(*x != 0.0)).sum::<usize>();
    let all: usize = x.par_chunks(CHUNK).map(count).sum();
    all as f64 / x.len().max(1) as f64
}

/// The dense convolution's result, bit for bit, of `rows` maps, `images` of each step after those of another.
pub(super) fn forward(
    convolution: &Convolution,
    weight: &Tensor,
    bias: Option<&Tensor>,
    x: &[f32],
    rows: usize,
    images: usize,
) -> Result<Vec<f32>> {
    let (input, [channels, height, width]) = (convolution.input, convolution.output);
    let window = Window {
        stride: convolution.stride,
        padding: convolution.padding,
        out_height: height,
        out_width: width,
    };
    let layer = Weighted::new(0, weight, bias, window)?;
    let (positions, line, steps) = (height * width, layer.line, rows / images);
    let (map, size) = (input.iter().product::<usize>(), channels * positions);
    let together = (SUMS / (steps.min(STEPS) * line)).clamp(1, positions);
    let stretches = steps.div_ceil(STEPS);
    let mut y = zeros(rows * size);
    let out = Disjoint::new(&mut y);
    (0..images * stretches)
        .into_par_iter()
        .for_each_init(Work::default, |work, task| {
            let (image, start) = (task / stretches, task % stretches * STEPS);
            let steps = STEPS.min(steps - start);
            let row = |step: usize| (start + step) * images + image;
            let maps = (0..steps).map(|step| &x[row(step) * map..][..map]);
            let raster = Raster::of_dense(maps, 1, input);
            for first in (0..positions).step_by(together) {
                let some = first..(first + together).min(positions);
                layer.currents(&raster, some.clone(), work);
                for (columns, sums) in work.sums() {
                    let width = columns.len();
                    for step in 0..steps {
                        for c in columns.start..columns.end.min(channels) {
                            let start = row(step) * size + c * positions + first;
                            // SAFETY: these currents of this image and step are this task's alone.
                            let to = unsafe { out.slice(start, some.len()) };
                            let from = sums[step * width + c - columns.start..].iter();
                            for (to, from) in to.iter_mut().zip(from.step_by(steps * width)) {
                                *to = *from;
                            }
                        }
                    }
                }
            }
        });
    Ok(y)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::conv2d::conv2d;

    #[test]
    fn the_share_counts_what_is_not_zero() {
        let mut x = vec![0.0; 40_000];
        x[15_000..25_000].fill(-0.5);
        assert_eq!(share(&x), 0.25);
        assert_eq!(share(&[]), 0.0);
    }

    /// Whatever share of the maps fired: over several stretches of steps, blocks of channels and columns, with and without bias.
    #[test]
    fn equals_the_dense_convolution() -> Result<()> {
        let mut stream = crate::rng::Seed::new(1).stream();
        for (steps, images, [c, h, w], o, [kernel, stride, padding]) in [
            (1, 1, [1, 1, 1], 1, [1, 1, 0]),
            (19, 2, [67, 5, 7], 33, [3, 2, 1]),
            (33, 3, [3, 9, 9], 130, [3, 1, 1]),
            (2, 2, [64, 20, 20], 64, [3, 1, 0]),
        ] {
            let rows = steps * images;
            let x: Vec<f32> = (0..rows * c * h * w)
                .map(|_| match stream.uniform() < 0.1 {
                    true => 0.25 + stream.uniform(),
                    false => 0.0,
                })
                .collect();
            let mut normal = |shape: &[usize]| {
                let values = (0..shape.iter().product()).map(|_| stream.uniform() - 0.5);
                Tensor::from_vec(values.collect::<Vec<f32>>(), shape, &Device::Cpu)
            };
            let (weight, bias) = (normal(&[o, c, kernel, kernel])?, normal(&[o])?);
            let dense = Tensor::from_slice(&x, (rows, c, h, w), &Device::Cpu)?;
            for bias in [None, Some(&bias)] {
                let dense = conv2d(&dense, &weight, bias, stride, padding)?;
                let (_, _, height, width) = dense.dims4()?;
                let convolution = Convolution {
                    input: [c, h, w],
                    output: [o, height, width],
                    stride,
                    padding,
                };
                let few = forward(&convolution, &weight, bias, &x, rows, images)?;
                assert_eq!(few, dense.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(())
    }
}
