//! The gradient of the weight from events: what did not fire adds nothing to it.

use rayon::prelude::*;

use super::geometry::Geometry;
use super::layout::interleave;
use crate::ops::events::{Kernels, Segment};
use crate::ops::memory::zeros;

/// Numbers of the gradients of the outputs of images that are worked on together: they stay in the second-level cache.
const TOGETHER: usize = 1 << 17;
/// Channels of a task.
const CHANNELS: usize = 8;

/// Whether [`backward_weight`] takes such a convolution.
pub(super) fn takes(g: &Geometry) -> bool {
    g.stride == 1 && g.padding < g.kernel && g.width <= 256
}

/// Gradient of the weight, `[O, C, k, k]`, of a convolution that [`takes`] allows. Every number is one chain of additions
/// over the events of its channel, image after image.
pub(super) fn backward_weight(g: &Geometry, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let line = g.out_channels.next_multiple_of(Kernels::best().lanes);
    let grid = Grid::new(g, line);
    let together = (TOGETHER / grid.len()).clamp(1, g.images.max(1));
    // [C, taps, line]
    let mut sums = zeros(g.channels * g.taps() * line);
    let mut strips = vec![0f32; together * grid.len()];
    for first in (0..g.images).step_by(together) {
        let images = first..(first + together).min(g.images);
        let events: Vec<Events> = strips
            .par_chunks_mut(grid.len())
            .zip(images.into_par_iter())
            .map(|(strip, image)| {
                let events = Events::new(&grid, &x[image * g.image()..][..g.image()]);
                if !events.is_empty() {
                    let gradient = g.out_channels * g.out_plane();
                    grid.fill(&gy[image * gradient..][..gradient], strip);
                }
                events
            })
            .collect();
        sums.par_chunks_mut(CHANNELS * g.taps() * line)
            .enumerate()
            .for_each(|(task, sums)| {
                let mut segments = Vec::new();
                for (c, sums) in sums.chunks_exact_mut(g.taps() * line).enumerate() {
                    for (tap, sums) in sums.chunks_exact_mut(line).enumerate() {
                        segments.clear();
                        for (image, events) in events.iter().enumerate() {
                            let strip = image * grid.len() + grid.tap(tap);
                            events.of_channel(&grid, task * CHANNELS + c, strip, &mut segments);
                        }
                        // SAFETY: a row is that of an input position in its image's grid, moved by less than a kernel.
                        unsafe { Kernels::best().add_rows(&segments, &strips, line, sums) };
                    }
                }
            });
    }
    let depth = g.channels * g.taps();
    let mut gw = zeros(g.out_channels * depth);
    const LINES: usize = 16;
    gw.par_chunks_mut(LINES * depth)
        .enumerate()
        .for_each(|(part, gw)| {
            for (d, sums) in sums.chunks_exact(line).enumerate() {
                let sums = &sums[part * LINES..];
                for (to, sum) in gw[d..].iter_mut().step_by(depth).zip(sums) {
                    *to = *sum;
                }
            }
        });
    gw
}

/// The gradient of an image's output with margins, `[H + k - 1, W + k - 1, line]`, in which the output position that tap
/// (a, b) joins to input position (y, x) is (y + k - 1 - a, x + k - 1 - b).
struct Grid<'a> {
    g: &'a Geometry,
    line: usize,
    height: usize,
    width: usize,
    /// Input rows whose positions have numbers that fit in a byte.
    rows: usize,
}

impl<'a> Grid<'a> {
    fn new(g: &'a Geometry, line: usize) -> Self {
        let width = g.width + g.kernel - 1;
        Self {
            g,
            line,
            height: g.height + g.kernel - 1,
            width,
            rows: ((256 - g.width) / width + 1).min(g.height),
        }
    }

    /// Numbers.
    fn len(&self) -> usize {
        self.height * self.width * self.line
    }

    /// Blocks of input rows.
    fn blocks(&self) -> usize {
        self.g.height.div_ceil(self.rows)
    }

    /// From an input position's own place to the output position that a tap joins it to.
    fn tap(&self, tap: usize) -> usize {
        let (a, b) = (tap / self.g.kernel, tap % self.g.kernel);
        ((self.g.kernel - 1 - a) * self.width + self.g.kernel - 1 - b) * self.line
    }

    /// Fills in `gy` `[O, H', W']`, leaving the margins as they are.
    fn fill(&self, gy: &[f32], strip: &mut [f32]) {
        let (g, margin) = (self.g, self.g.kernel - 1 - self.g.padding);
        for i in 0..g.out_height {
            let to = ((i + margin) * self.width + margin) * self.line;
            let to = &mut strip[to..][..g.out_width * self.line];
            interleave(
                &gy[i * g.out_width..],
                g.out_plane(),
                g.out_channels,
                to,
                self.line,
            );
        }
    }
}

/// Positions and values of an image's numbers that are not zero, by channel and block of rows.
struct Events {
    /// Where each channel's block ends.
    ends: Vec<u32>,
    rows: Vec<u8>,
    values: Vec<f32>,
}

impl Events {
    fn new(grid: &Grid, image: &[f32]) -> Self {
        let mut events = Self {
            ends: Vec::with_capacity(grid.g.channels * grid.blocks()),
            rows: Vec::new(),
            values: Vec::new(),
        };
        for plane in image.chunks_exact(grid.g.plane()) {
            for block in plane.chunks(grid.rows * grid.g.width) {
                for (y, row) in block.chunks_exact(grid.g.width).enumerate() {
                    for (x, &value) in row.iter().enumerate() {
                        if value != 0.0 {
                            events.rows.push((y * grid.width + x) as u8);
                            events.values.push(value);
                        }
                    }
                }
                events.ends.push(events.rows.len() as u32);
            }
        }
        events
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds the segments of a channel; `strip` is where the output positions of its first row are.
    fn of_channel<'a>(
        &'a self,
        grid: &Grid,
        channel: usize,
        strip: usize,
        segments: &mut Vec<Segment<'a>>,
    ) {
        for block in 0..grid.blocks() {
            let at = channel * grid.blocks() + block;
            let from = at.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
            let range = from..self.ends[at] as usize;
            if !range.is_empty() {
                segments.push(Segment {
                    rows: &self.rows[range.clone()],
                    values: Some(&self.values[range]),
                    start: strip + block * grid.rows * grid.width * grid.line,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu;
    use super::*;

    /// Against the dense gradient, on sizes around those of blocks, lines and bytes.
    #[test]
    fn equals_the_dense_gradient() {
        let mut stream = crate::rng::Seed::new(1).stream();
        for (images, channels, [height, width], out_channels, kernel, padding) in [
            (1, 1, [1, 1], 1, 1, 0),
            (3, 5, [4, 3], 7, 3, 1),
            (2, 9, [33, 31], 17, 3, 0),
            (2, 3, [3, 256], 5, 3, 2),
            (130, 17, [2, 2], 33, 3, 1),
            (2, 2, [6, 7], 129, 5, 2),
        ] {
            let (x, w) = (
                [images, channels, height, width],
                [out_channels, channels, kernel, kernel],
            );
            let g = Geometry::new(&x, &w, 1, padding).expect("sizes that fit");
            assert!(takes(&g));
            for share in [0.0, 0.1, 1.0] {
                let x: Vec<f32> = (0..images * g.image())
                    .map(|_| match stream.uniform() < share {
                        true => stream.uniform() + 0.25,
                        false => 0.0,
                    })
                    .collect();
                let gy: Vec<f32> = (0..images * out_channels * g.out_plane())
                    .map(|_| stream.uniform() - 0.5)
                    .collect();
                let (few, dense) = (
                    backward_weight(&g, &x, &gy),
                    cpu::backward_weight(&g, &x, &gy),
                );
                let size = dense.iter().fold(0f32, |size, x| size.max(x.abs()));
                for (a, b) in few.iter().zip(&dense) {
                    // sums of the same products, up to a few hundred of them, in another order
                    assert!((a - b).abs() <= 2e-5 * size, "{g:?} {share}: {a} {b}");
                }
            }
        }
        let strided = Geometry::new(&[1, 1, 4, 4], &[1, 1, 3, 3], 2, 1).expect("sizes that fit");
        assert!(!takes(&strided));
    }
}
