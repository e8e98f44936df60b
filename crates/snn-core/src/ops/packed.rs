//! Weights in the order in which tiles read them.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::aligned::{Aligned, Lent, Shelf};
use super::tile::Instructions;
use super::transpose::transpose;

/// Input channels that are multiplied in one go: with their weights they stay in the second-level cache.
const CHANNELS: usize = 64;

/// Output channels whose weights are turned at a time.
const ROWS: usize = 8;

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

/// How a weight lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `[O, C, taps]`
    Output,
    /// `[C, O, taps]` with the taps turned round: the weight of the convolution that takes gradients back.
    Input,
}

static VALUES: Shelf = Shelf::new();

thread_local! {
    /// Room for a few outputs' weights on their way.
    static COLUMNS: Cell<Aligned> = const { Cell::new(Aligned::new()) };
}

/// The weights, one group of output channels after another and in each one block of channels after another,
/// `[taps, channels, group]`; groups are as wide as the widest tile, the last one is filled up to whole vectors.
pub(super) struct Packed {
    pub(super) instructions: &'static Instructions,
    pub(super) sizes: Sizes,
    values: Lent,
}

impl Packed {
    pub(super) fn new(sizes: Sizes, weight: &[f32], order: Order) -> Self {
        let instructions = Instructions::best();
        let depth = sizes.channels * sizes.taps;
        let padded = instructions.padded(sizes.out_channels);
        let mut values = VALUES.lend(padded * depth);
        values
            .values()
            .par_chunks_mut(instructions.width() * depth)
            .zip(instructions.groups(sizes.out_channels))
            .for_each(|(values, group)| {
                for channels in channel_blocks(sizes.channels) {
                    let start = channels.start * sizes.taps * group.1;
                    pack(sizes, weight, order, &channels, group, &mut values[start..]);
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
        self.instructions.groups(self.sizes.out_channels)
    }

    /// The weights of some channels, whole blocks of them, for the group at `first`.
    pub(super) fn block(&self, first: usize, width: usize, channels: &Range<usize>) -> &[f32] {
        let start = (first * self.sizes.channels + channels.start * width) * self.sizes.taps;
        &self.values[start..][..channels.len() * self.sizes.taps * width]
    }
}

/// The first numbers of every line of a tile: the bias where there is one, else zero.
pub(super) fn start(bias: Option<&[f32]>, first: usize, lines: &mut [f32], width: usize) {
    for line in lines.chunks_exact_mut(width) {
        line.fill(0.0);
        if let Some(bias) = bias {
            let count = width.min(bias.len() - first);
            line[..count].copy_from_slice(&bias[first..][..count]);
        }
    }
}

/// A block `[taps, channels, width]` of the weights of the `width` output channels from `first` on, at the start of `to`.
pub(super) fn pack(
    sizes: Sizes,
    weight: &[f32],
    order: Order,
    channels: &Range<usize>,
    (first, width): (usize, usize),
    to: &mut [f32],
) {
    let outputs = first..sizes.out_channels.min(first + width);
    let to = &mut to[..channels.len() * sizes.taps * width];
    if outputs.len() < width {
        to.fill(0.0);
    }
    match order {
        Order::Output => turn(sizes, weight, channels, &outputs, to, width),
        Order::Input => copy(sizes, weight, channels, &outputs, to, width),
    }
}

/// A block `[taps, channels, width]` from `[O, C, taps]`, a few outputs at a time: the rows of many would push one
/// another out of the cache.
fn turn(
    sizes: Sizes,
    weight: &[f32],
    channels: &Range<usize>,
    outputs: &Range<usize>,
    to: &mut [f32],
    width: usize,
) {
    let depth = channels.len() * sizes.taps;
    let mut columns = COLUMNS.take();
    let lines = columns.first(depth * ROWS);
    for few in outputs.clone().step_by(ROWS) {
        let count = ROWS.min(outputs.end - few);
        let from = &weight[(few * sizes.channels + channels.start) * sizes.taps..];
        assert!((count - 1) * sizes.channels * sizes.taps + depth <= from.len());
        // SAFETY: the rows were checked; there are `depth` lines of `ROWS`.
        unsafe {
            let from = (from.as_ptr(), sizes.channels * sizes.taps);
            transpose(from, (count, depth), (lines.as_mut_ptr(), ROWS));
        }
        for (place, column) in lines.chunks_exact(ROWS).enumerate() {
            let (c, tap) = (place / sizes.taps, place % sizes.taps);
            let line = (tap * channels.len() + c) * width + few - outputs.start;
            to[line..][..count].copy_from_slice(&column[..count]);
        }
    }
    COLUMNS.set(columns);
}

/// A block `[taps, channels, width]` from `[C, O, taps]`.
fn copy(
    sizes: Sizes,
    weight: &[f32],
    channels: &Range<usize>,
    outputs: &Range<usize>,
    to: &mut [f32],
    width: usize,
) {
    for (c, channel) in channels.clone().enumerate() {
        let from = &weight[(channel * sizes.out_channels + outputs.start) * sizes.taps..]
            [..outputs.len() * sizes.taps];
        for tap in 0..sizes.taps {
            let to = &mut to[(tap * channels.len() + c) * width..][..outputs.len()];
            let turned = from[sizes.taps - 1 - tap..].iter().step_by(sizes.taps);
            for (to, from) in to.iter_mut().zip(turned) {
                *to = *from;
            }
        }
    }
}
