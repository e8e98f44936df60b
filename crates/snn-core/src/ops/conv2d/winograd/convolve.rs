//! The convolution.

use std::ops::Range;

use rayon::prelude::*;

use super::spread::Shared;
use super::{BUFFERS, Scratch, Winograd, pitch};
use crate::ops::aligned::{Aligned, Shelf};
use crate::ops::conv2d::blocks::{Block, TASKS};
use crate::ops::conv2d::layout::channels_first;
use crate::ops::cpu::Unwritten;
use crate::ops::packed::{Order, channel_blocks};
use crate::ops::tile::{Instructions, Operands};

static TRANSFORMS: Shelf = Shelf::new();

impl Winograd<'_> {
    /// The convolution of `x` with a weight in one of its orders.
    pub(in super::super) fn convolve(
        &self,
        x: &[f32],
        weight: (&[f32], Order),
        bias: Option<&[f32]>,
    ) -> Vec<f32> {
        let (g, instructions) = (self.g, Instructions::best());
        let blocks = self.blocks();
        let groups = instructions.groups(g.out_channels);
        let tiles_of_blocks: Vec<usize> = blocks.iter().map(|block| self.count(block)).collect();
        let widths: Vec<usize> = groups.iter().map(|group| group.1).collect();
        // of few blocks the groups of output channels are tasks of their own, which share the inputs, unless these are more
        // than the weights and there are blocks enough for all threads
        let enough = 2 * rayon::current_num_threads();
        let tiles = tiles_of_blocks.iter().sum::<usize>();
        let few = blocks.len() < TASKS && (tiles <= g.out_channels || blocks.len() < enough);
        let split = if few { groups.len() } else { 1 };
        // where there are groups enough too, a task takes its group through all blocks, with weights of its own: at all
        // frequencies those of all groups may be larger than everything else
        let own = blocks.len() == 1 || few && groups.len() >= enough;
        let together = if own { blocks.len() } else { 1 };
        let (inputs, weights) = rayon::join(
            || {
                few.then(|| {
                    Shared::new(self, &TRANSFORMS, &tiles_of_blocks, |i, channels, to| {
                        BUFFERS.with_borrow_mut(|buffers| {
                            self.spread_input(x, &blocks[i], channels, &mut buffers.strip, to);
                        });
                    })
                })
            },
            || {
                (!own).then(|| {
                    Shared::new(self, &TRANSFORMS, &widths, |i, channels, to| {
                        self.spread_weight(weight, channels, groups[i], to);
                    })
                })
            },
        );
        let mut y = Unwritten::new(g.images * g.out_channels * g.out_plane());
        let out = y.places();
        let tasks = blocks.len() / together * split;
        (0..tasks).into_par_iter().for_each(|task| {
            let (part, some) = (task % split, task / split * together);
            let some = some..some + together;
            BUFFERS.with_borrow_mut(|buffers| {
                let Scratch {
                    strip,
                    spread,
                    weight: own_weight,
                    products,
                    sums,
                    ..
                } = buffers;
                if inputs.is_none() {
                    let block = &blocks[some.start];
                    let count = self.count(block);
                    let own = spread.first(self.size(g.channels, count));
                    for channels in channel_blocks(g.channels) {
                        let to = &mut own[self.size(channels.start, count)..];
                        self.spread_input(x, block, channels, strip, to);
                    }
                }
                for i in (part..groups.len()).step_by(split) {
                    let (first, width) = groups[i];
                    let weight: &[f32] = match &weights {
                        Some(weights) => weights.of(i),
                        None => {
                            let own = own_weight.first(self.size(g.channels, width));
                            for channels in channel_blocks(g.channels) {
                                let to = &mut own[self.size(channels.start, width)..];
                                self.spread_weight(weight, channels, groups[i], to);
                            }
                            own
                        }
                    };
                    let channels = first..g.out_channels.min(first + width);
                    let bias = bias.map(|bias| &bias[channels.clone()]);
                    for (i, block) in some.clone().zip(&blocks[some.clone()]) {
                        let input = inputs.as_ref().map_or(&spread[..], |inputs| inputs.of(i));
                        let sums = sums.first(block.positions(g) * width);
                        self.outputs_of(block, input, (weight, width), products, sums);
                        if let Some(bias) = bias {
                            for sums in sums.chunks_exact_mut(width) {
                                sums.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
                            }
                        }
                        // SAFETY: these channels of this block are this task's alone.
                        unsafe { channels_first(g, sums, width, block, channels.clone(), out) };
                    }
                }
            });
        });
        // SAFETY: every block wrote its outputs of every group of channels.
        unsafe { y.written() }
    }

    /// A block's outputs of a group of channels, `[positions, width]`, from its inputs and the group's weights at all
    /// frequencies.
    fn outputs_of(
        &self,
        block: &Block,
        input: &[f32],
        (weight, width): (&[f32], usize),
        products: &mut Aligned,
        sums: &mut [f32],
    ) {
        let corners = self.outputs(block);
        let lines = pitch(corners.len() * width);
        let products = products.first(self.transforms.frequencies * lines + width);
        self.multiply((input, corners.len()), (weight, width), products);
        let square = self.square(width);
        for (tile, corner) in corners.iter().enumerate() {
            // SAFETY: a tile's outputs are lines of `sums`, and `products` has its line at each frequency.
            unsafe {
                let from = products[tile * width..].as_ptr();
                let to = sums[corner * width..].as_mut_ptr();
                (self.transforms.output)(from, lines, to, square, width);
            }
        }
    }

    /// At each frequency the product of some tiles' inputs with a group's weights, summed over channels,
    /// `[frequencies, tiles, width]` with a spare line at the end.
    fn multiply(
        &self,
        (input, count): (&[f32], usize),
        (weight, width): (&[f32], usize),
        products: &mut [f32],
    ) {
        let (instructions, lines) = (Instructions::best(), pitch(count * width));
        let spare = products.len() - width;
        let targets: Vec<usize> = (0..count).map(|tile| tile * width).collect();
        let blocks: Vec<Range<usize>> = channel_blocks(self.g.channels).collect();
        // blocks of equally many channels are one sum
        for blocks in blocks.chunk_by(|a, b| a.len() == b.len()) {
            let depth = blocks[0].len();
            let line = self.padded(depth);
            let rows: Vec<usize> = (0..count).map(|tile| tile * line).collect();
            for f in 0..self.transforms.frequencies {
                let segments: Vec<(usize, usize)> = blocks
                    .iter()
                    .map(|channels| {
                        let of = |each| self.size(channels.start, each) + f * pitch(line * each);
                        (of(count), of(width))
                    })
                    .collect();
                let first = f * lines;
                if blocks[0].start == 0 {
                    products[first..][..count * width].fill(0.0);
                }
                let operands = Operands {
                    segments: &segments,
                    depth,
                    a: input,
                    a_step: 1,
                    b: weight,
                    b_step: width,
                };
                // SAFETY: `products` has a line for each frequency and tile and a spare one, and is this thread's.
                unsafe {
                    let to = products[first..].as_mut_ptr();
                    instructions.run(&operands, &rows, to, &targets, spare - first, width);
                }
            }
        }
    }
}
