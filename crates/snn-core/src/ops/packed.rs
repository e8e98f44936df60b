//! Weights in the order in which tiles read them.

use std::ops::Range;

use rayon::prelude::*;

use super::tile::Instructions;

/// Input channels that are multiplied in one go: with their weights they stay in the second-level cache.
const CHANNELS: usize = 64;

/// The channels, cut into blocks.
pub(crate) fn channel_blocks(channels: usize) -> impl Iterator<Item = Range<usize>> {
    (0..channels)
        .step_by(CHANNELS)
        .map(move |first| first..(first + CHANNELS).min(channels))
}

/// The sizes of a weight `[O, C, taps]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) out_channels: usize,
    pub(super) channels: usize,
    pub(super) taps: usize,
}

/// The weights, one group of output channels after another and in each one block of channels after another,
/// `[taps, channels, group]`; groups are as wide as the widest tile, the last one is filled up to whole vectors.
pub(super) struct Packed {
    pub(super) instructions: &'static Instructions,
    pub(super) sizes: Sizes,
    values: Vec<f32>,
}

impl Packed {
    /// Weights whose number for output channel o, channel c and tap t is `weight[at(o, c, t)]`.
    pub(super) fn new(
        instructions: &'static Instructions,
        sizes: Sizes,
        weight: &[f32],
        at: impl Fn(usize, usize, usize) -> usize + Sync,
    ) -> Self {
        let depth = sizes.channels * sizes.taps;
        let mut values = vec![0f32; instructions.padded(sizes.out_channels) * depth];
        values
            .par_chunks_mut(instructions.width() * depth)
            .enumerate()
            .for_each(|(group, values)| {
                let (first, width) = (group * instructions.width(), values.len() / depth);
                let count = width.min(sizes.out_channels - first);
                for channels in channel_blocks(sizes.channels) {
                    let start = channels.start * sizes.taps * width;
                    let to = &mut values[start..][..channels.len() * sizes.taps * width];
                    for (c, channel) in channels.clone().enumerate() {
                        for tap in 0..sizes.taps {
                            let to = &mut to[(tap * channels.len() + c) * width..][..count];
                            for (o, to) in to.iter_mut().enumerate() {
                                *to = weight[at(first + o, channel, tap)];
                            }
                        }
                    }
                }
            });
        Self {
            instructions,
            sizes,
            values,
        }
    }

    /// First output channel and width of each group.
    pub(super) fn groups(&self) -> Vec<(usize, usize)> {
        let (all, width) = (
            self.instructions.padded(self.sizes.out_channels),
            self.instructions.width(),
        );
        (0..all)
            .step_by(width)
            .map(|first| (first, width.min(all - first)))
            .collect()
    }

    /// The weights of some channels, whole blocks of them, for the group at `first`.
    pub(super) fn block(&self, first: usize, width: usize, channels: &Range<usize>) -> &[f32] {
        let start = (first * self.sizes.channels + channels.start * width) * self.sizes.taps;
        &self.values[start..][..channels.len() * self.sizes.taps * width]
    }

    /// The first numbers of every line of a tile: the bias where there is one, else zero.
    pub(super) fn start(
        &self,
        bias: Option<&[f32]>,
        first: usize,
        lines: &mut [f32],
        width: usize,
    ) {
        for line in lines.chunks_exact_mut(width) {
            line.fill(0.0);
            if let Some(bias) = bias {
                let count = width.min(bias.len() - first);
                line[..count].copy_from_slice(&bias[first..][..count]);
            }
        }
    }
}
