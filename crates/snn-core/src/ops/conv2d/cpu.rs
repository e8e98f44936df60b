//! The convolution on the CPU, channels last inside: a tile of output positions and output channels is a sum of outer
//! products over channels and taps ([`crate::ops::tile`]), of patches that lie in memory as they are (no im2col).
//!
//! Work is cut into blocks of output rows, or of several small images, whose operands stay in the second-level cache.
//! An output is one chain of additions in one order however the work is cut, so that an image's result depends neither on
//! its batch nor on the number of threads. The gradient of a weight is the sum of parts that the sizes alone decide.

use std::cell::RefCell;

use rayon::prelude::*;

use super::Sums;
use super::blocks::{Block, Positions, TASKS};
use super::geometry::Geometry;
use super::layout::{Strip, Strips, channels_first};
use super::pieces::{self, Piece};
use super::winograd::Winograd;
use crate::ops::aligned::Aligned;
use crate::ops::cpu::{Disjoint, Matrix, Unwritten, product, sum};
use crate::ops::packed::{self, Order, Packed, Sizes, channel_blocks};
use crate::ops::tile::{Instructions, Operands};
use crate::ops::transpose::transpose;

/// Output positions of a block.
const POSITIONS: usize = 256;

/// Numbers of the patches whose gradients are computed at once where the stride is not 1.
const PATCHES: usize = 1 << 17;

#[derive(Default)]
struct Scratch {
    strip: Aligned,
    sums: Aligned,
    patches: Aligned,
    weight: Aligned,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// `[N, O, H', W']`
pub(super) fn forward(
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    sums: Sums,
) -> Vec<f32> {
    let weight = (weight, Order::Output);
    match Winograd::of(g) {
        Some(winograd) if sums == Sums::Fastest => winograd.convolve(x, weight, bias),
        _ => convolve(g, x, weight, bias),
    }
}

/// Gradients of the input and of the weight, side by side: what threads find nothing to do in one of them turn to the
/// other.
pub(super) fn backward(
    g: &Geometry,
    x: &[f32],
    weight: &[f32],
    gy: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    rayon::join(
        || backward_data(g, weight, gy),
        || backward_weight(g, x, gy),
    )
}

/// Gradient of the input, `[N, C, H, W]`.
pub(super) fn backward_data(g: &Geometry, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    let Some(transposed) = g.transposed() else {
        return scattered(g, weight, gy);
    };
    let weight = (weight, Order::Input);
    match Winograd::of(&transposed) {
        Some(winograd) => winograd.convolve(gy, weight, None),
        None => convolve(&transposed, gy, weight, None),
    }
}

fn sizes(g: &Geometry) -> Sizes {
    Sizes {
        out_channels: g.out_channels,
        channels: g.channels,
        taps: g.taps(),
    }
}

fn convolve(
    g: &Geometry,
    x: &[f32],
    (weight, order): (&[f32], Order),
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let (instructions, sizes) = (Instructions::best(), sizes(g));
    let mut y = Unwritten::new(g.images * g.out_channels * g.out_plane());
    let out = y.places();
    let blocks = Block::all(g, 1, POSITIONS);
    let groups = instructions.groups(g.out_channels);
    // of few blocks the groups of output channels are tasks of their own, which share the strips
    let few = blocks.len() < TASKS;
    let split = if few { groups.len() } else { 1 };
    // weights that one task alone needs are packed by that task
    let alone = blocks.len() == 1;
    let (strips, packed) = rayon::join(
        || few.then(|| Strips::new(g, x, &blocks)),
        || (!alone).then(|| Packed::new(sizes, weight, order)),
    );
    (0..blocks.len() * split).into_par_iter().for_each(|task| {
        let (part, block) = (task % split, &blocks[task / split]);
        let positions = block.positions(g);
        BUFFERS.with_borrow_mut(|buffers| {
            let strip = Strip::new(g, block.images.len(), block.rows.clone());
            let values = match &strips {
                Some(strips) => strips.of(task / split, 0),
                None => {
                    let values = buffers.strip.first(strip.len(g.channels));
                    for channels in channel_blocks(g.channels) {
                        let to = &mut values[strip.len(channels.start)..];
                        strip.fill(g, x, block.images.clone(), channels, to);
                    }
                    &*values
                }
            };
            let cells = strip.cells(g);
            let groups_of_positions = Positions::of(g, block);
            let (mut rows, mut targets, mut segments) = (Vec::new(), Vec::new(), Vec::new());
            for group in groups.iter().skip(part).step_by(split).copied() {
                let (first, width) = group;
                let sums = buffers.sums.first((positions + 1) * width);
                packed::start(bias, first, sums, width);
                for channels in channel_blocks(g.channels) {
                    let count = channels.len();
                    let b = match &packed {
                        Some(packed) => packed.block(first, width, &channels),
                        None => {
                            let b = buffers.weight.first(count * sizes.taps * width);
                            packed::pack(sizes, weight, order, &channels, group, b);
                            b
                        }
                    };
                    for Positions { down, across, at } in &groups_of_positions {
                        rows.clear();
                        rows.extend(at.iter().map(|&p| cells[p] * count));
                        targets.clear();
                        targets.extend(at.iter().map(|&p| p * width));
                        segments.clear();
                        segments.extend(down.clone().map(|a| {
                            let tap = a * g.kernel + across.start;
                            let cell = strip.row(a) + across.start;
                            (cell * count, tap * count * width)
                        }));
                        let operands = Operands {
                            segments: &segments,
                            depth: across.len() * count,
                            a: &values[strip.len(channels.start)..][..strip.len(count)],
                            a_step: 1,
                            b,
                            b_step: width,
                        };
                        let (to, spare) = (sums.as_mut_ptr(), positions * width);
                        // SAFETY: `sums` has a line for each position and a spare one, and is this thread's.
                        unsafe {
                            instructions.run(&operands, &rows, to, &targets, spare, width);
                        }
                    }
                }
                let channels = first..g.out_channels.min(first + width);
                // SAFETY: these channels of this block are this task's alone.
                unsafe { channels_first(g, sums, width, block, channels, out) };
            }
        });
    });
    // SAFETY: every block wrote its outputs of every group of channels.
    unsafe { y.written() }
}

/// The gradient of the input for any stride: gradients of the patches, added up where patches overlap.
fn scattered(g: &Geometry, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    let mut gx = vec![0f32; g.images * g.image()];
    let depth = g.channels * g.taps();
    let group = (PATCHES / (g.taps() * g.out_plane())).clamp(1, g.channels);
    let groups = g.channels.div_ceil(group);
    let out = Disjoint::new(&mut gx);
    (0..g.images * groups).into_par_iter().for_each(|task| {
        let (image, first) = (task / groups, task % groups * group);
        let channels = first..(first + group).min(g.channels);
        let size = channels.len() * g.taps();
        BUFFERS.with_borrow_mut(|buffers| {
            let patches = buffers.patches.first(size * g.out_plane());
            let a = Matrix {
                values: &weight[first * g.taps()..],
                row: 1,
                column: depth,
            };
            let b = Matrix {
                values: &gy[image * g.out_channels * g.out_plane()..],
                row: g.out_plane(),
                column: 1,
            };
            // SAFETY: `patches` is this thread's and has `size` rows of `out_plane` numbers.
            unsafe {
                let to = patches.as_mut_ptr();
                product(
                    (size, g.out_channels, g.out_plane()),
                    a,
                    b,
                    to,
                    g.out_plane(),
                    false,
                );
            }
            // SAFETY: these channels of this image are this task's alone.
            let gx = unsafe {
                out.slice(
                    (image * g.channels + first) * g.plane(),
                    channels.len() * g.plane(),
                )
            };
            add_patches(g, patches, gx);
        });
    });
    gx
}

/// Adds the gradients of patches to the channels of an image they were taken from.
fn add_patches(g: &Geometry, patches: &[f32], gx: &mut [f32]) {
    let mut row = patches.chunks_exact(g.out_width);
    for plane in gx.chunks_exact_mut(g.plane()) {
        for a in 0..g.kernel {
            for b in 0..g.kernel {
                for i in 0..g.out_height {
                    let from = row.next().expect("a row per channel, tap and output row");
                    let Some(y) = (i * g.stride + a)
                        .checked_sub(g.padding)
                        .filter(|&y| y < g.height)
                    else {
                        continue;
                    };
                    let to = &mut plane[y * g.width..][..g.width];
                    for (j, from) in from.iter().enumerate() {
                        if let Some(to) = (j * g.stride + b)
                            .checked_sub(g.padding)
                            .and_then(|x| to.get_mut(x))
                        {
                            *to += from;
                        }
                    }
                }
            }
        }
    }
}

/// Gradient of the weight, `[O, C, k, k]`.
pub(super) fn backward_weight(g: &Geometry, x: &[f32], gy: &[f32]) -> Vec<f32> {
    if let Some(winograd) = Winograd::of(g) {
        return winograd.backward_weight(x, gy);
    }
    pieces::weight_gradient(
        g,
        g.taps(),
        &Block::all(g, 1, POSITIONS),
        (x, gy),
        |piece, block, values, gradient, sums| {
            add_products(g, (values, gradient), piece, block, sums);
        },
        |piece, parts, out| gather_weight(g, piece, parts, out),
    )
}

/// Adds what one block gives for a piece, `[c, tap, o]` with a spare line at the end.
fn add_products(
    g: &Geometry,
    (values, gradient): (&[f32], &[f32]),
    piece: &Piece,
    block: &Block,
    sums: &mut [f32],
) {
    let instructions = Instructions::best();
    let (count, line) = (piece.channels.len(), piece.line);
    let spare = sums.len() - line;
    let strip = Strip::new(g, block.images.len(), block.rows.clone());
    let rows: Vec<usize> = (0..count).collect();
    for (first, width) in instructions.groups(line) {
        for tap in 0..g.taps() {
            let (a, b) = (tap / g.kernel, tap % g.kernel);
            let down = g.outputs_inside(a, g.height, g.out_height);
            let across = g.outputs_inside(b, g.width, g.out_width);
            let segments: Vec<(usize, usize)> = strip
                .output_rows(g)
                .enumerate()
                .filter(|(row, _)| down.contains(&(block.rows.start + row % block.rows.len())))
                .map(|(row, cell)| {
                    let cell = cell + strip.row(a) + b + across.start * g.stride;
                    (cell * count, (row * g.out_width + across.start) * line)
                })
                .collect();
            let operands = Operands {
                segments: &segments,
                depth: across.len(),
                a: values,
                a_step: g.stride * count,
                b: &gradient[first..],
                b_step: line,
            };
            let targets: Vec<usize> = (0..count)
                .map(|c| (c * g.taps() + tap) * line + first)
                .collect();
            // SAFETY: `sums` has a line for each channel and tap and a spare one.
            unsafe {
                let to = sums.as_mut_ptr();
                instructions.run(&operands, &rows, to, &targets, spare, width);
            }
        }
    }
}

/// Writes the weights of a piece, the sum of the parts.
fn gather_weight(g: &Geometry, piece: &Piece, parts: &[&[f32]], out: Disjoint) {
    let lines = piece.channels.len() * g.taps();
    let mut total = parts[0][..lines * piece.line].to_vec();
    for part in &parts[1..] {
        for (total, part) in total.iter_mut().zip(*part) {
            *total += part;
        }
    }
    let depth = g.channels * g.taps();
    let start = piece.outputs.start * depth + piece.channels.start * g.taps();
    // SAFETY: the weights of these channels and outputs are this task's alone.
    unsafe {
        let to = (out.at(start), depth);
        transpose(
            (total.as_ptr(), piece.line),
            (lines, piece.outputs.len()),
            to,
        );
    }
}

/// Gradient of the bias of so many channels, `[O]`, from `gy` of planes of so many numbers.
pub(super) fn backward_bias(channels: usize, plane: usize, gy: &[f32]) -> Vec<f32> {
    let image = channels * plane;
    (0..channels)
        .into_par_iter()
        .map(|o| {
            let planes = gy.chunks_exact(image).map(|gy| &gy[o * plane..][..plane]);
            planes.map(sum).sum::<f64>() as f32
        })
        .collect()
}
