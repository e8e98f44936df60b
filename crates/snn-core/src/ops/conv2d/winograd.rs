//! A 3x3 convolution of stride 1 and its gradients by Winograd's F(2x2, 3x3) ([`super::transform`]): 16 products per pair
//! of channels and 2x2 outputs instead of 36.
//!
//! Its rounding differs from that of the direct sum by a small factor (a test holds both against f64). So the forward pass
//! takes it only where that is allowed: else it adds in the one order that the event-driven engine shares.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::thread::LocalKey;

use rayon::prelude::*;

use super::blocks::{Block, TASKS};
use super::geometry::Geometry;
use super::layout::{Strip, channels_first, channels_last};
use super::pieces::{self, Piece};
use super::transform::{FREQUENCIES, Square, Transforms};
use crate::ops::aligned::{Aligned, LINE, Lent};
use crate::ops::cpu::{Disjoint, Unwritten};
use crate::ops::packed::{Order, channel_blocks};
use crate::ops::tile::{Instructions, Operands};
use crate::ops::transpose::transpose;

/// Weights of a pair of channels.
const TAPS: usize = 9;

#[derive(Default)]
struct Scratch {
    strip: Aligned,
    gradient: Aligned,
    spread: Aligned,
    weight: Aligned,
    spread_gradient: Aligned,
    products: Aligned,
    sums: Aligned,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Whether these sizes are whole tiles, of which there are enough to be worth the transforms.
pub(super) fn applies(g: &Geometry) -> bool {
    let whole = |side: usize| side >= 4 && side.is_multiple_of(2);
    g.kernel == 3 && g.stride == 1 && whole(g.out_height) && whole(g.out_width)
}

/// Upper left output of each tile of a block.
fn tiles(g: &Geometry, block: &Block) -> Vec<usize> {
    (0..block.images.len() * block.rows.len())
        .step_by(2)
        .flat_map(|row| {
            (0..g.out_width)
                .step_by(2)
                .map(move |j| row * g.out_width + j)
        })
        .collect()
}

/// Numbers from one frequency's to the next one's, where each has `count`: a cache line more, since lines at distances of
/// a power of two push one another out of the first-level cache.
fn pitch(count: usize) -> usize {
    count + LINE
}

/// So many channels, filled up to whole vectors.
fn padded(channels: usize) -> usize {
    channels.next_multiple_of(Transforms::best().lanes)
}

/// Numbers of `each` times some channels at every frequency, one block of channels after another.
fn size(channels: usize, each: usize) -> usize {
    channel_blocks(channels)
        .map(|block| FREQUENCIES * pitch(padded(block.len()) * each))
        .sum()
}

/// Transforms that tasks share, a region for each block or group, one block of channels after another.
struct Shared {
    values: Lent,
    region: usize,
}

impl Shared {
    /// `make` writes some channels of a region; `each` is how many numbers it has of a channel at a frequency.
    fn new(
        from: &'static LocalKey<Cell<Aligned>>,
        channels: usize,
        each: &[usize],
        make: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        let region = size(channels, each.iter().copied().max().unwrap_or(0));
        let mut values = Lent::new(from, region * each.len());
        let places = Disjoint::new(values.values());
        let blocks: Vec<Range<usize>> = channel_blocks(channels).collect();
        let tasks = (0..each.len() * blocks.len()).into_par_iter();
        tasks.for_each(|task| {
            let (i, channels) = (task / blocks.len(), &blocks[task % blocks.len()]);
            let (start, end) = (size(channels.start, each[i]), size(channels.end, each[i]));
            // SAFETY: these channels of this region are this task's alone.
            let to = unsafe { places.slice(i * region + start, end - start) };
            make(i, channels.clone(), to);
        });
        Self { values, region }
    }

    fn of(&self, i: usize) -> &[f32] {
        &self.values[i * self.region..][..self.region]
    }
}

thread_local! {
    static INPUTS: Cell<Aligned> = const { Cell::new(Aligned::new()) };
    static WEIGHTS: Cell<Aligned> = const { Cell::new(Aligned::new()) };
}

/// `B' d B` of each tile of a block, `[16, tiles, channels]` with lines filled up to whole vectors.
fn spread_input(
    g: &Geometry,
    x: &[f32],
    block: &Block,
    channels: Range<usize>,
    strip_buffer: &mut Aligned,
    to: &mut [f32],
) {
    let transforms = Transforms::best();
    let count = channels.len();
    let line = padded(count);
    let strip = Strip::new(g, block.images.len(), block.rows.clone());
    // the last vector of the last cell ends beyond it
    let values = strip_buffer.first(strip.len(count) + transforms.lanes);
    strip.fill(g, x, block.images.clone(), channels, values);
    let corners = strip.output_rows(g).step_by(2);
    let cells = corners.flat_map(|row| (0..g.out_width).step_by(2).map(move |j| row + j));
    let tiles = block.positions(g) / 4;
    assert!(to.len() >= FREQUENCIES * pitch(tiles * line));
    let square = Square {
        row: strip.row(1) * count,
        column: count,
    };
    for (tile, cell) in cells.enumerate() {
        // SAFETY: a tile's 4x4 cells lie in the strip, and `to` has a line for each tile and frequency.
        unsafe {
            let (from, to) = (
                values[cell * count..].as_ptr(),
                to[tile * line..].as_mut_ptr(),
            );
            (transforms.input)(from, square, to, pitch(tiles * line), count);
        }
    }
}

/// The convolution of `x` with a weight in one of its orders.
pub(super) fn convolve(
    g: &Geometry,
    x: &[f32],
    weight: (&[f32], Order),
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let (instructions, transforms) = (Instructions::best(), Transforms::best());
    let blocks = Block::all(g, 2);
    let groups = instructions.groups(g.out_channels);
    let tiles_of_blocks: Vec<usize> = blocks.iter().map(|block| block.positions(g) / 4).collect();
    let widths: Vec<usize> = groups.iter().map(|group| group.1).collect();
    // of few blocks the groups of output channels are tasks of their own, which share the inputs
    let few = blocks.len() < TASKS;
    let split = if few { groups.len() } else { 1 };
    // weights that one task alone needs are made by that task
    let alone = blocks.len() == 1;
    let (inputs, weights) = rayon::join(
        || {
            few.then(|| {
                Shared::new(&INPUTS, g.channels, &tiles_of_blocks, |i, channels, to| {
                    BUFFERS.with_borrow_mut(|buffers| {
                        spread_input(g, x, &blocks[i], channels, &mut buffers.strip, to);
                    });
                })
            })
        },
        || {
            (!alone).then(|| {
                Shared::new(&WEIGHTS, g.channels, &widths, |i, channels, to| {
                    spread_weight(g, weight, channels, groups[i], to);
                })
            })
        },
    );
    let mut y = Unwritten::new(g.images * g.out_channels * g.out_plane());
    let out = y.places();
    (0..blocks.len() * split).into_par_iter().for_each(|task| {
        let (part, block) = (task % split, &blocks[task / split]);
        let corners = tiles(g, block);
        let count = corners.len();
        BUFFERS.with_borrow_mut(|buffers| {
            let input: &[f32] = match &inputs {
                Some(inputs) => inputs.of(task / split),
                None => {
                    let own = buffers.spread.first(size(g.channels, count));
                    for channels in channel_blocks(g.channels) {
                        let to = &mut own[size(channels.start, count)..];
                        spread_input(g, x, block, channels, &mut buffers.strip, to);
                    }
                    own
                }
            };
            for i in (part..groups.len()).step_by(split) {
                let (first, width) = groups[i];
                let lines = pitch(count * width);
                let products = buffers.products.first(FREQUENCIES * lines + width);
                let targets: Vec<usize> = (0..count).map(|tile| tile * width).collect();
                for channels in channel_blocks(g.channels) {
                    let (depth, line) = (channels.len(), padded(channels.len()));
                    let weight = match &weights {
                        Some(weights) => &weights.of(i)[size(channels.start, width)..],
                        None => {
                            let len = FREQUENCIES * pitch(line * width);
                            let own = buffers.weight.first(len);
                            spread_weight(g, weight, channels.clone(), groups[i], own);
                            own
                        }
                    };
                    let input = &input[size(channels.start, count)..];
                    let rows: Vec<usize> = (0..count).map(|tile| tile * line).collect();
                    for f in 0..FREQUENCIES {
                        if channels.start == 0 {
                            products[f * lines..][..count * width].fill(0.0);
                        }
                        let operands = Operands {
                            segments: &[(0, 0)],
                            depth,
                            a: &input[f * pitch(count * line)..][..count * line],
                            a_step: 1,
                            b: &weight[f * pitch(line * width)..][..depth * width],
                            b_step: width,
                        };
                        // SAFETY: `products` has a line for each frequency and tile and a spare one, and is this thread's.
                        unsafe {
                            let to = products[f * lines..].as_mut_ptr();
                            let spare = (FREQUENCIES - f) * lines;
                            instructions.run(&operands, &rows, to, &targets, spare, width);
                        }
                    }
                }
                let sums = buffers.sums.first(block.positions(g) * width);
                let square = Square {
                    row: g.out_width * width,
                    column: width,
                };
                for (tile, corner) in corners.iter().enumerate() {
                    // SAFETY: a tile's 2x2 outputs are lines of `sums`.
                    unsafe {
                        let from = products[tile * width..].as_ptr();
                        let to = sums[corner * width..].as_mut_ptr();
                        (transforms.output)(from, lines, to, square, width);
                    }
                }
                let channels = first..g.out_channels.min(first + width);
                if let Some(bias) = bias {
                    for sums in sums.chunks_exact_mut(width) {
                        for (sum, bias) in sums.iter_mut().zip(&bias[channels.clone()]) {
                            *sum += bias;
                        }
                    }
                }
                // SAFETY: these channels of this block are this task's alone.
                unsafe { channels_first(g, sums, width, block, channels, out) };
            }
        });
    });
    // SAFETY: every block wrote its outputs of every group of channels.
    unsafe { y.written() }
}

/// `G w G'` of the weights between some channels and `width` output channels from `first` on, `[16, channels, width]`.
fn spread_weight(
    g: &Geometry,
    (weight, order): (&[f32], Order),
    channels: Range<usize>,
    (first, width): (usize, usize),
    to: &mut [f32],
) {
    let transforms = Transforms::best();
    let lanes = transforms.lanes;
    let square = Square {
        row: 3 * lanes,
        column: lanes,
    };
    let frequency = pitch(padded(channels.len()) * width);
    assert!(to.len() >= FREQUENCIES * frequency);
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
            // SAFETY: `from` has `count` kernels; `kernels` are 3x3 vectors; each frequency has a line of `width` for each
            // channel.
            unsafe {
                let from = (from.as_ptr(), row);
                transpose(from, (count, TAPS), (kernels.as_mut_ptr(), lanes));
                let to = to[c * width + o..].as_mut_ptr();
                spread(kernels.as_ptr(), square, to, frequency, lanes);
            }
        }
    }
}

/// Gradient of the weight, `[O, C, 3, 3]`.
pub(super) fn backward_weight(g: &Geometry, x: &[f32], gy: &[f32]) -> Vec<f32> {
    pieces::weight_gradient(
        g,
        FREQUENCIES,
        &Block::all(g, 2),
        |piece, block, sums| add_products(g, (x, gy), piece, block, sums),
        |piece, parts, out| gather_weight(g, piece, parts, out),
    )
}

/// Adds what one block gives for a piece, `[16, c, o]` with a spare line at the end.
fn add_products(
    g: &Geometry,
    (x, gy): (&[f32], &[f32]),
    piece: &Piece,
    block: &Block,
    sums: &mut [f32],
) {
    let (instructions, transforms) = (Instructions::best(), Transforms::best());
    let (count, line) = (piece.channels.len(), piece.line);
    let step = padded(count);
    let spare = sums.len() - line;
    let corners = tiles(g, block);
    let (of_input, of_gradient) = (pitch(corners.len() * step), pitch(corners.len() * line));
    BUFFERS.with_borrow_mut(|buffers| {
        let input = buffers.spread.first(FREQUENCIES * of_input);
        spread_input(
            g,
            x,
            block,
            piece.channels.clone(),
            &mut buffers.strip,
            input,
        );
        let gradient = buffers.gradient.first(block.positions(g) * line);
        channels_last(g, gy, block, piece.outputs.clone(), line, gradient);
        let spread = buffers.spread_gradient.first(FREQUENCIES * of_gradient);
        let square = Square {
            row: g.out_width * line,
            column: line,
        };
        for (tile, corner) in corners.iter().enumerate() {
            // SAFETY: a tile's 2x2 gradients are lines of `gradient`; `spread` has a line for each tile and frequency.
            unsafe {
                let from = gradient[corner * line..].as_ptr();
                let to = spread[tile * line..].as_mut_ptr();
                (transforms.gradient)(from, square, to, of_gradient, line);
            }
        }
        let rows: Vec<usize> = (0..count).collect();
        for f in 0..FREQUENCIES {
            for (first, width) in instructions.groups(line) {
                let operands = Operands {
                    segments: &[(0, 0)],
                    depth: corners.len(),
                    a: &input[f * of_input..][..corners.len() * step],
                    a_step: step,
                    b: &spread[f * of_gradient + first..][..corners.len() * line - first],
                    b_step: line,
                };
                let targets: Vec<usize> =
                    (0..count).map(|c| (f * count + c) * line + first).collect();
                // SAFETY: `sums` has a line for each frequency and channel and a spare one.
                unsafe {
                    let to = sums.as_mut_ptr();
                    instructions.run(&operands, &rows, to, &targets, spare, width);
                }
            }
        }
    });
}

/// `G' m G` of a piece, `m` being the sum of the parts.
fn gather_weight(g: &Geometry, piece: &Piece, parts: &[&[f32]], out: Disjoint) {
    let transforms = Transforms::best();
    let lanes = transforms.lanes;
    let (channels, outputs) = (&piece.channels, &piece.outputs);
    let (depth, taps) = (g.channels * TAPS, channels.len() * TAPS);
    let square = Square {
        row: 3 * lanes,
        column: lanes,
    };
    let mut products = vec![0f32; FREQUENCIES * lanes];
    let mut kernels = vec![0f32; taps * lanes];
    for o in (0..outputs.len()).step_by(lanes) {
        for (c, kernels) in kernels.chunks_exact_mut(TAPS * lanes).enumerate() {
            products.fill(0.0);
            for part in parts {
                for (f, to) in products.chunks_exact_mut(lanes).enumerate() {
                    let from = &part[(f * channels.len() + c) * piece.line + o..][..lanes];
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += from;
                    }
                }
            }
            // SAFETY: `products` are 16 vectors, `kernels` 3x3.
            unsafe {
                let to = kernels.as_mut_ptr();
                (transforms.weight_gradient)(products.as_ptr(), lanes, to, square, lanes);
            }
        }
        let count = lanes.min(outputs.len() - o);
        let start = (outputs.start + o) * depth + channels.start * TAPS;
        // SAFETY: the weights of these channels and outputs are this task's alone.
        unsafe {
            let to = (out.at(start), depth);
            transpose((kernels.as_ptr(), lanes), (taps, count), to);
        }
    }
}
