//! Gradients of a 3x3 convolution of stride 1 by Winograd's F(2x2, 3x3) ([`super::transform`]): 16 products per pair of
//! channels and 2x2 outputs instead of 36.
//!
//! Its rounding differs from that of the direct sum by a small factor (a test holds both against f64). So it computes
//! gradients alone: the forward pass adds in the one order that the event-driven engine shares.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::blocks::Block;
use super::geometry::Geometry;
use super::layout::{Strip, channels_last, deinterleave};
use super::pieces::{self, Piece};
use super::transform::{FREQUENCIES, Square, Transforms};
use crate::ops::cpu::{Disjoint, Unwritten, scratch};
use crate::ops::tile::{Instructions, Operands};
use crate::ops::transpose::transpose;

/// Blocks below which groups of channels become tasks of their own.
const TASKS: usize = 16;
/// Weights of a pair of channels.
const TAPS: usize = 9;

#[derive(Default)]
struct Scratch {
    strip: Vec<f32>,
    gradient: Vec<f32>,
    spread: Vec<f32>,
    weight: Vec<f32>,
    spread_gradient: Vec<f32>,
    products: Vec<f32>,
    sums: Vec<f32>,
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

/// `B' d B` of each tile, `[16, tiles, channels]` with lines filled up to whole vectors.
fn spread_input(
    g: &Geometry,
    x: &[f32],
    block: &Block,
    channels: Range<usize>,
    (strip_buffer, to): (&mut Vec<f32>, &mut Vec<f32>),
) {
    let transforms = Transforms::best();
    let count = channels.len();
    let line = count.next_multiple_of(transforms.lanes);
    let strip = Strip::new(g, block.images.len(), block.rows.clone());
    // the last vector of the last cell ends beyond it
    let values = scratch(strip_buffer, strip.len(count) + transforms.lanes);
    strip.fill(
        g,
        x,
        block.images.clone(),
        channels,
        &mut values[..strip.len(count)],
    );
    let corners = strip.output_rows(g).step_by(2);
    let cells = corners.flat_map(|row| (0..g.out_width).step_by(2).map(move |j| row + j));
    let tiles = block.positions(g) / 4;
    let to = scratch(to, FREQUENCIES * tiles * line);
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
            (transforms.input)(from, square, to, tiles * line, count);
        }
    }
}

/// The convolution of gradients `x` with the weight of the forward pass, `[C, O, 3, 3]`, its taps turned round.
pub(super) fn convolve(g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let (instructions, transforms) = (Instructions::best(), Transforms::best());
    let blocks = Block::all(g, 2);
    let groups = instructions.groups(g.out_channels);
    let size = |width: usize| FREQUENCIES * g.channels * width;
    // with few blocks each group is a task that makes its own weights; with many they share them
    let split = if blocks.len() < TASKS {
        groups.len()
    } else {
        1
    };
    let mut shared = vec![
        0f32;
        if split == 1 {
            size(instructions.padded(g.out_channels))
        } else {
            0
        }
    ];
    shared
        .par_chunks_mut(size(instructions.width()))
        .zip(&groups)
        .for_each(|(to, &(first, width))| spread_weight(g, weight, first, width, to));
    let line = g.channels.next_multiple_of(transforms.lanes);
    let mut y = Unwritten::new(g.images * g.out_channels * g.out_plane());
    let out = y.places();
    (0..blocks.len() * split).into_par_iter().for_each(|task| {
        let (part, block) = (task % split, &blocks[task / split]);
        let corners = tiles(g, block);
        let count = corners.len();
        BUFFERS.with_borrow_mut(|buffers| {
            let input = (&mut buffers.strip, &mut buffers.spread);
            spread_input(g, x, block, 0..g.channels, input);
            let rows: Vec<usize> = (0..count).map(|tile| tile * line).collect();
            for (first, width) in groups.iter().skip(part).step_by(split).cloned() {
                let weight: &[f32] = if split == 1 {
                    &shared[size(first)..][..size(width)]
                } else {
                    let own = scratch(&mut buffers.weight, size(width));
                    spread_weight(g, weight, first, width, own);
                    own
                };
                let lines = count * width;
                let products = scratch(&mut buffers.products, FREQUENCIES * lines + width);
                products.fill(0.0);
                let targets: Vec<usize> = (0..count).map(|tile| tile * width).collect();
                for f in 0..FREQUENCIES {
                    let operands = Operands {
                        segments: &[(0, 0)],
                        depth: g.channels,
                        a: &buffers.spread[f * count * line..][..count * line],
                        a_step: 1,
                        b: &weight[f * g.channels * width..][..g.channels * width],
                        b_step: width,
                    };
                    // SAFETY: `products` has a line for each frequency and tile and a spare one, and is this thread's.
                    unsafe {
                        let to = products[f * lines..].as_mut_ptr();
                        let spare = (FREQUENCIES - f) * lines;
                        instructions.run(&operands, &rows, to, &targets, spare, width);
                    }
                }
                let sums = scratch(&mut buffers.sums, block.positions(g) * width);
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
                let kept = width.min(g.out_channels - first);
                let plane = block.rows.len() * g.out_width;
                for (image, sums) in block.images.clone().zip(sums.chunks_exact(plane * width)) {
                    let start = (image * g.out_channels + first) * g.out_plane()
                        + block.rows.start * g.out_width;
                    // SAFETY: these rows of these output channels of this image are this task's alone.
                    unsafe { deinterleave(sums, width, kept, out.at(start), g.out_plane()) };
                }
            }
        });
    });
    // SAFETY: every block wrote its outputs of every group of channels.
    unsafe { y.written() }
}

/// `G w G'` for `width` output channels from `first` on, `[16, C, width]`.
fn spread_weight(g: &Geometry, weight: &[f32], first: usize, width: usize, to: &mut [f32]) {
    let transforms = Transforms::best();
    let lanes = transforms.lanes;
    let square = Square {
        row: 3 * lanes,
        column: lanes,
    };
    let mut kernels = vec![0f32; TAPS * lanes];
    for c in 0..g.channels {
        for o in (0..width).step_by(lanes) {
            let count = lanes.min(g.out_channels.saturating_sub(first + o));
            let from = &weight[(c * g.out_channels + first + o) * TAPS..][..count * TAPS];
            for (lane, kernel) in from.chunks_exact(TAPS).enumerate() {
                for (tap, value) in kernel.iter().rev().enumerate() {
                    kernels[tap * lanes + lane] = *value;
                }
            }
            // SAFETY: `kernels` are 3x3 vectors; each frequency has a line of `width` for each channel.
            unsafe {
                let to = to[c * width + o..].as_mut_ptr();
                (transforms.weight)(kernels.as_ptr(), square, to, g.channels * width, lanes);
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
    let step = count.next_multiple_of(transforms.lanes);
    let spare = sums.len() - line;
    let corners = tiles(g, block);
    BUFFERS.with_borrow_mut(|buffers| {
        let input = (&mut buffers.strip, &mut buffers.spread);
        spread_input(g, x, block, piece.channels.clone(), input);
        let gradient = scratch(&mut buffers.gradient, block.positions(g) * line);
        channels_last(g, gy, block, piece.outputs.clone(), line, gradient);
        let size = corners.len() * line;
        let spread = scratch(&mut buffers.spread_gradient, FREQUENCIES * size);
        let square = Square {
            row: g.out_width * line,
            column: line,
        };
        for (tile, corner) in corners.iter().enumerate() {
            // SAFETY: a tile's 2x2 gradients are lines of `gradient`; `spread` has a line for each tile and frequency.
            unsafe {
                let from = gradient[corner * line..].as_ptr();
                let to = spread[tile * line..].as_mut_ptr();
                (transforms.gradient)(from, square, to, size, line);
            }
        }
        let rows: Vec<usize> = (0..count).collect();
        for f in 0..FREQUENCIES {
            for (first, width) in instructions.groups(line) {
                let operands = Operands {
                    segments: &[(0, 0)],
                    depth: corners.len(),
                    a: &buffers.spread[f * corners.len() * step..][..corners.len() * step],
                    a_step: step,
                    b: &spread[f * size + first..(f + 1) * size],
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
