//! A convolution of maps in which little fired, as sums over events.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::Result;
use crate::event::layer::{Weighted, Window};
use crate::event::lists::Lists;
use crate::ops::memory::zeros;

/// Share of numbers that are not zero below which events are faster than a dense convolution.
pub(super) const FEW: f64 = 0.2;
/// Output positions that are transposed at a time.
const POSITIONS: usize = 16;

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

/// The dense convolution's result, bit for bit.
pub(super) fn forward(
    convolution: &Convolution,
    weight: &Tensor,
    bias: Option<&Tensor>,
    x: &[f32],
    rows: usize,
) -> Result<Vec<f32>> {
    let (input, [channels, height, width]) = (convolution.input, convolution.output);
    let window = Window {
        stride: convolution.stride,
        padding: convolution.padding,
        out_width: width,
    };
    let layer = Weighted::new(0, weight, bias, window)?;
    let (positions, line) = (height * width, layer.line);
    let mut y = zeros(rows * channels * positions);
    y.par_chunks_mut(channels * positions)
        .zip(x.par_chunks(input.iter().product()))
        .for_each_init(
            || vec![0f32; POSITIONS * line],
            |lines, (y, x)| {
                let lists = Lists::of_dense(x, input);
                let mut segments = Vec::new();
                for first in (0..positions).step_by(POSITIONS) {
                    let count = POSITIONS.min(positions - first);
                    for (p, sums) in lines.chunks_exact_mut(line).take(count).enumerate() {
                        layer.currents(&lists, (0, first + p), &mut segments, sums);
                    }
                    for (c, plane) in y.chunks_exact_mut(positions).enumerate() {
                        let to = &mut plane[first..first + count];
                        for (to, sums) in to.iter_mut().zip(lines.chunks_exact(line)) {
                            *to = sums[c];
                        }
                    }
                }
            },
        );
    Ok(y)
}
