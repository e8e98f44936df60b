//! The convolution on the CPU, channels last inside: a tile of output positions and output channels is a sum of outer
//! products over channels and taps ([`crate::ops::tile`]), of patches that lie in memory as they are (no im2col).
//!
//! Work is cut into blocks of output rows, or of several small images, whose operands stay in the second-level cache.
//! Every number is one chain of additions over the same operands in the same order however the work is cut, so that an
//! image's result depends neither on its batch nor on the number of threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Geometry;
use super::layout::{Strip, deinterleave, interleave};
use crate::ops::cpu::{Disjoint, Matrix, product, scratch, sum};
use crate::ops::packed::{Packed, Sizes, channel_blocks};
use crate::ops::tile::{Instructions, Operands};

/// Output positions of a block.
const POSITIONS: usize = 256;
/// Blocks below which groups of channels become tasks of their own.
const TASKS: usize = 16;
/// Partial sums of the gradient of the weight.
const PARTS: usize = 16;
/// Numbers of the patches whose gradients are computed at once where the stride is not 1.
const PATCHES: usize = 1 << 17;

#[derive(Default)]
struct Scratch {
    strip: Vec<f32>,
    gradient: Vec<f32>,
    sums: Vec<f32>,
    patches: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Output rows of some images, all of several images or some of one.
#[derive(Debug, Clone)]
struct Block {
    images: Range<usize>,
    rows: Range<usize>,
}

impl Block {
    /// Output positions.
    fn positions(&self, g: &Geometry) -> usize {
        self.images.len() * self.rows.len() * g.out_width
    }

    fn all(g: &Geometry) -> Vec<Self> {
        let rows = (POSITIONS / g.out_width).clamp(1, g.out_height);
        let together = (POSITIONS / (rows * g.out_width)).max(1);
        let images = (0..g.images).step_by(if rows == g.out_height { together } else { 1 });
        let mut blocks = Vec::new();
        for first in images {
            for row in (0..g.out_height).step_by(rows) {
                let last = if rows == g.out_height {
                    (first + together).min(g.images)
                } else {
                    first + 1
                };
                blocks.push(Self {
                    images: first..last,
                    rows: row..(row + rows).min(g.out_height),
                });
            }
        }
        blocks
    }
}

/// `[N, O, H', W']`
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let at = |o: usize, c: usize, tap: usize| (o * g.channels + c) * g.taps() + tap;
    let packed = Packed::new(Instructions::best(), sizes(g), weight, at);
    convolve(g, x, &packed, bias)
}

/// Gradient of the input, `[N, C, H, W]`.
pub(super) fn backward_data(g: &Geometry, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    let Some(transposed) = g.transposed() else {
        return scattered(g, weight, gy);
    };
    // each kernel turned by half a turn
    let at = |o: usize, c: usize, tap: usize| (c * g.channels + o) * g.taps() + g.taps() - 1 - tap;
    let packed = Packed::new(Instructions::best(), sizes(&transposed), weight, at);
    convolve(&transposed, gy, &packed, None)
}

fn sizes(g: &Geometry) -> Sizes {
    Sizes {
        out_channels: g.out_channels,
        channels: g.channels,
        taps: g.taps(),
    }
}

fn convolve(g: &Geometry, x: &[f32], packed: &Packed, bias: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![0f32; g.images * g.out_channels * g.out_plane()];
    let blocks = Block::all(g);
    let groups = packed.groups();
    let split = if blocks.len() < TASKS {
        groups.len()
    } else {
        1
    };
    let out = Disjoint::new(&mut y);
    (0..blocks.len() * split).into_par_iter().for_each(|task| {
        let (part, block) = (task % split, &blocks[task / split]);
        let positions = block.positions(g);
        BUFFERS.with_borrow_mut(|buffers| {
            let strip = Strip::new(g, block.images.len(), block.rows.clone());
            let values = scratch(&mut buffers.strip, strip.len(g.channels));
            for channels in channel_blocks(g.channels) {
                let to = &mut values[strip.len(channels.start)..][..strip.len(channels.len())];
                strip.fill(g, x, block.images.clone(), channels, to);
            }
            let cells = strip.cells(g);
            for (first, width) in groups.iter().skip(part).step_by(split).cloned() {
                let sums = scratch(&mut buffers.sums, (positions + 1) * width);
                packed.start(bias, first, sums, width);
                let targets: Vec<usize> = (0..positions).map(|p| p * width).collect();
                for channels in channel_blocks(g.channels) {
                    let count = channels.len();
                    let rows: Vec<usize> = cells.iter().map(|cell| cell * count).collect();
                    let segments: Vec<(usize, usize)> = (0..g.kernel)
                        .map(|a| (strip.row(a) * count, a * g.kernel * count * width))
                        .collect();
                    let operands = Operands {
                        segments: &segments,
                        depth: g.kernel * count,
                        a: &values[strip.len(channels.start)..][..strip.len(count)],
                        a_step: 1,
                        b: packed.block(first, width, &channels),
                        b_step: width,
                    };
                    let to = sums.as_mut_ptr();
                    // SAFETY: `sums` has a line for each position and a spare one, and is this thread's.
                    unsafe {
                        packed.instructions.run(
                            &operands,
                            &rows,
                            to,
                            &targets,
                            positions * width,
                            width,
                        );
                    }
                }
                let count = width.min(g.out_channels - first);
                let plane = block.rows.len() * g.out_width;
                for (image, sums) in block.images.clone().zip(sums.chunks_exact(plane * width)) {
                    let start = (image * g.out_channels + first) * g.out_plane()
                        + block.rows.start * g.out_width;
                    deinterleave(sums, width, count, plane, |lane, from, len| {
                        // SAFETY: these rows of this output channel of this image are this task's alone.
                        unsafe { out.slice(start + lane * g.out_plane() + from, len) }
                    });
                }
            }
        });
    });
    y
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
            let patches = scratch(&mut buffers.patches, size * g.out_plane());
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

/// Gradient of the weight, `[O, C, k, k]`: per part of the blocks and block of channels one sum, then the parts' sums in
/// order.
pub(super) fn backward_weight(g: &Geometry, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let instructions = Instructions::best();
    let (o, depth) = (g.out_channels, g.channels * g.taps());
    let line = instructions.padded(o);
    let blocks = Block::all(g);
    let channels: Vec<Range<usize>> = channel_blocks(g.channels).collect();
    let parts = PARTS.div_ceil(channels.len()).min(blocks.len()).max(1);
    // [part][block of channels][c, tap][o], each with a spare line
    let channels_count = channels.len();
    let most = channels.iter().map(Range::len).max().unwrap_or(0);
    let region = (most * g.taps() + 1) * line;
    let mut sums = vec![0f32; parts * channels.len() * region];
    sums.par_chunks_exact_mut(region)
        .enumerate()
        .for_each(|(task, sums)| {
            let (part, channels) = (task / channels.len(), &channels[task % channels.len()]);
            for block in &blocks[part * blocks.len() / parts..(part + 1) * blocks.len() / parts] {
                add_weight_gradient(g, instructions, (x, gy), block, channels, sums);
            }
        });
    let mut gw = vec![0f32; o * depth];
    const LINE: usize = 16;
    gw.par_chunks_mut(LINE * depth)
        .enumerate()
        .for_each(|(lines, gw)| {
            let (first, count) = (lines * LINE, gw.len() / depth);
            for (i, channels) in channels.iter().enumerate() {
                for d in 0..channels.len() * g.taps() {
                    let mut total = [0f32; LINE];
                    for part in 0..parts {
                        let sums = &sums[(part * channels_count + i) * region..];
                        let sums = &sums[d * line + first..][..count];
                        for (total, sum) in total.iter_mut().zip(sums) {
                            *total += sum;
                        }
                    }
                    for (o, total) in total[..count].iter().enumerate() {
                        gw[o * depth + channels.start * g.taps() + d] = *total;
                    }
                }
            }
        });
    gw
}

/// Adds what one block gives to the gradient of the weight of some channels, `[c, tap, o]` with a spare line at the end.
fn add_weight_gradient(
    g: &Geometry,
    instructions: &Instructions,
    (x, gy): (&[f32], &[f32]),
    block: &Block,
    channels: &Range<usize>,
    sums: &mut [f32],
) {
    let (o, count) = (g.out_channels, channels.len());
    let line = instructions.padded(o);
    let spare = sums.len() - line;
    let plane = block.rows.len() * g.out_width;
    BUFFERS.with_borrow_mut(|buffers| {
        let strip = Strip::new(g, block.images.len(), block.rows.clone());
        let values = scratch(&mut buffers.strip, strip.len(count));
        strip.fill(g, x, block.images.clone(), channels.clone(), values);
        let gradient = scratch(&mut buffers.gradient, block.positions(g) * line);
        gradient.fill(0.0);
        for (image, to) in block
            .images
            .clone()
            .zip(gradient.chunks_exact_mut(plane * line))
        {
            let from = &gy[image * o * g.out_plane() + block.rows.start * g.out_width..];
            interleave(from, g.out_plane(), o, to, line);
        }
        let rows: Vec<usize> = (0..count).collect();
        for first in (0..line).step_by(instructions.width()) {
            let width = instructions.width().min(line - first);
            for tap in 0..g.taps() {
                let segments: Vec<(usize, usize)> = strip
                    .output_rows(g)
                    .enumerate()
                    .map(|(row, cell)| {
                        let cell = cell + strip.row(tap / g.kernel) + tap % g.kernel;
                        (cell * count, row * g.out_width * line)
                    })
                    .collect();
                let operands = Operands {
                    segments: &segments,
                    depth: g.out_width,
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
    });
}

/// Gradient of the bias, `[O]`.
pub(super) fn backward_bias(g: &Geometry, gy: &[f32]) -> Vec<f32> {
    let plane = g.out_plane();
    (0..g.out_channels)
        .into_par_iter()
        .map(|o| {
            let planes =
                (0..g.images).map(|image| &gy[(image * g.out_channels + o) * plane..][..plane]);
            planes.map(sum).sum::<f64>() as f32
        })
        .collect()
}
