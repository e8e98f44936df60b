//! Inputs and weights at the frequencies of tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::transform::Square;
use super::{TAPS, Winograd, pitch};
use crate::ops::aligned::{Aligned, LINE, Lent, Shelf};
use crate::ops::conv2d::blocks::Block;
use crate::ops::conv2d::layout::Strip;
use crate::ops::cpu::Disjoint;
use crate::ops::packed::{Order, channel_blocks};
use crate::ops::transpose::transpose;

/// Transforms that tasks share, a region for each block or group, one block of channels after another.
pub(super) struct Shared {
    values: Lent,
    region: usize,
}

impl Shared {
    /// `make` writes some channels of a region; `each` is how many numbers it has of a channel at a frequency.
    pub(super) fn new(
        winograd: &Winograd,
        from: &'static Shelf,
        each: &[usize],
        make: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        let channels = winograd.g.channels;
        let region = winograd.size(channels, each.iter().copied().max().unwrap_or(0));
        let mut values = from.lend(region * each.len());
        let places = Disjoint::new(values.values());
        let blocks: Vec<Range<usize>> = channel_blocks(channels).collect();
        let tasks = (0..each.len() * blocks.len()).into_par_iter();
        tasks.for_each(|task| {
            let (i, channels) = (task / blocks.len(), &blocks[task % blocks.len()]);
            let [start, end] = [channels.start, channels.end].map(|c| winograd.size(c, each[i]));
            // SAFETY: these channels of this region are this task's alone.
            let to = unsafe { places.slice(i * region + start, end - start) };
            make(i, channels.clone(), to);
        });
        Self { values, region }
    }

    pub(super) fn of(&self, i: usize) -> &[f32] {
        &self.values[i * self.region..][..self.region]
    }
}

impl Winograd<'_> {
    /// `B' d B` of each tile of a block, `[frequencies, tiles, channels]` with lines filled up to whole vectors.
    pub(super) fn spread_input(
        &self,
        x: &[f32],
        block: &Block,
        channels: Range<usize>,
        strip_buffer: &mut Aligned,
        to: &mut [f32],
    ) {
        let count = channels.len();
        let strip = Strip::new(self.g, block.images.len(), block.rows.clone());
        let values = strip_buffer.first(strip.len(count) + LINE);
        strip.fill(self.g, x, block.images.clone(), channels, values);
        self.spread_strip(values, block, count, to);
    }

    /// The same from `count` channels of the block's strip, which other numbers follow up to whole vectors.
    pub(super) fn spread_strip(&self, values: &[f32], block: &Block, count: usize, to: &mut [f32]) {
        let (g, transforms) = (self.g, self.transforms);
        let line = self.padded(count);
        let strip = Strip::new(g, block.images.len(), block.rows.clone());
        let frequency = pitch(self.count(block) * line);
        assert!(to.len() >= transforms.frequencies * frequency);
        assert!(values.len() >= strip.len(count) + line - count);
        let square = Square {
            row: strip.row(1) * count,
            column: count,
        };
        for (tile, cell) in self.corners(strip.output_rows(g)).enumerate() {
            // SAFETY: the cells under a tile lie in the strip, and `to` has a line for each tile and frequency.
            unsafe {
                let from = values[cell * count..].as_ptr();
                let to = to[tile * line..].as_mut_ptr();
                (transforms.input)(from, square, to, frequency, count);
            }
        }
    }

    /// `G w G'` of the weights between some channels and `width` output channels from `first` on,
    /// `[frequencies, channels, width]`.
    pub(super) fn spread_weight(
        &self,
        (weight, order): (&[f32], Order),
        channels: Range<usize>,
        (first, width): (usize, usize),
        to: &mut [f32],
    ) {
        let (g, transforms) = (self.g, self.transforms);
        let lanes = transforms.lanes;
        let square = Square {
            row: 3 * lanes,
            column: lanes,
        };
        let frequency = pitch(self.padded(channels.len()) * width);
        assert!(to.len() >= transforms.frequencies * frequency);
        let mut kernels = vec![0f32; TAPS * lanes];
        for (c, channel) in channels.enumerate() {
            for o in (0..width).step_by(lanes) {
                let count = lanes.min(g.out_channels - first - o);
                let (start, row, spread) = match order {
                    Order::Output => {
                        let row = g.channels * TAPS;
                        ((first + o) * row + channel * TAPS, row, transforms.weight)
                    }
                    Order::Input => {
                        let start = (channel * g.out_channels + first + o) * TAPS;
                        (start, TAPS, transforms.turned_weight)
                    }
                };
                let from = &weight[start..][..(count - 1) * row + TAPS];
                // SAFETY: `from` has `count` kernels; `kernels` are 3x3 vectors; each frequency has a line of `width` for
                // each channel.
                unsafe {
                    let from = (from.as_ptr(), row);
                    transpose(from, (count, TAPS), (kernels.as_mut_ptr(), lanes));
                    let to = to[c * width + o..].as_mut_ptr();
                    spread(kernels.as_ptr(), square, to, frequency, lanes);
                }
            }
        }
    }
}
