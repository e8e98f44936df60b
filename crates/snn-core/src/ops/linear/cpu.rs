//! Matrix products in tiles ([`crate::ops::tile`]). A row's numbers do not depend on how many rows there are, nor on the
//! number of threads: each is one chain of additions in the order of the inputs.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::ops::cpu::{Disjoint, scratch};
use crate::ops::packed::{self, Order, Packed, channel_blocks};
use crate::ops::tile::{Instructions, Operands};

/// Rows of a task.
const ROWS: usize = 96;
/// Blocks of channels whose weights stay in the second-level cache together.
const BLOCKS: usize = 8;

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

#[derive(Default)]
struct Scratch {
    sums: Vec<f32>,
    columns: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::default();
}

/// `[N, O]`
pub(super) fn forward(s: &Sizes, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let sizes = packed::Sizes {
        out_channels: s.outputs,
        channels: s.inputs,
        taps: 1,
    };
    rows_times(s.rows, x, &Packed::new(sizes, weight, Order::Output), bias)
}

/// Gradient of the input, `[N, F]`.
pub(super) fn backward_data(s: &Sizes, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    let sizes = packed::Sizes {
        out_channels: s.inputs,
        channels: s.outputs,
        taps: 1,
    };
    rows_times(s.rows, gy, &Packed::new(sizes, weight, Order::Input), None)
}

/// Each row of `x` times the weights, and the bias.
fn rows_times(rows: usize, x: &[f32], packed: &Packed, bias: Option<&[f32]>) -> Vec<f32> {
    let (inputs, outputs) = (packed.sizes.channels, packed.sizes.out_channels);
    let mut y = vec![0f32; rows * outputs];
    let groups = packed.groups();
    let out = Disjoint::new(&mut y);
    let parts = rows.div_ceil(ROWS);
    (0..parts * groups.len()).into_par_iter().for_each(|task| {
        let (first, width) = groups[task % groups.len()];
        let from = task / groups.len() * ROWS;
        let count = ROWS.min(rows - from);
        let starts: Vec<usize> = (0..count).map(|r| r * inputs).collect();
        let targets: Vec<usize> = (0..count).map(|r| r * width).collect();
        BUFFERS.with_borrow_mut(|buffers| {
            let sums = scratch(&mut buffers.sums, (count + 1) * width);
            packed::start(bias, first, sums, width);
            let blocks: Vec<_> = channel_blocks(inputs).collect();
            for blocks in blocks.chunks(BLOCKS) {
                let channels = blocks[0].start..blocks[blocks.len() - 1].end;
                let operands = Operands {
                    segments: &[(channels.start, 0)],
                    depth: channels.len(),
                    a: &x[from * inputs..][..count * inputs],
                    a_step: 1,
                    b: packed.block(first, width, &channels),
                    b_step: width,
                };
                let to = sums.as_mut_ptr();
                // SAFETY: `sums` has a line for each row and a spare one, and is this thread's.
                unsafe {
                    packed
                        .instructions
                        .run(&operands, &starts, to, &targets, count * width, width);
                }
            }
            let kept = width.min(outputs - first);
            for (r, line) in sums.chunks_exact(width).take(count).enumerate() {
                // SAFETY: these columns of this row are this task's alone.
                unsafe { out.slice((from + r) * outputs + first, kept) }
                    .copy_from_slice(&line[..kept]);
            }
        });
    });
    y
}

/// Gradient of the weight, `[O, F]`.
pub(super) fn backward_weight(s: &Sizes, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let instructions = Instructions::best();
    let mut gw = vec![0f32; s.outputs * s.inputs];
    if s.rows == 0 {
        return gw;
    }
    let groups = s.inputs.div_ceil(instructions.width());
    let parts = s.outputs.div_ceil(ROWS);
    let out = Disjoint::new(&mut gw);
    (0..parts * groups).into_par_iter().for_each(|task| {
        let first = task % groups * instructions.width();
        let kept = instructions.width().min(s.inputs - first);
        let width = instructions.padded(kept);
        let from = task / groups * ROWS;
        let count = ROWS.min(s.outputs - from);
        BUFFERS.with_borrow_mut(|buffers| {
            // whole vectors of these columns of x, side by side
            let columns = scratch(&mut buffers.columns, s.rows * width);
            columns.fill(0.0);
            for (to, x) in columns
                .chunks_exact_mut(width)
                .zip(x.chunks_exact(s.inputs))
            {
                to[..kept].copy_from_slice(&x[first..][..kept]);
            }
            let sums = scratch(&mut buffers.sums, (count + 1) * width);
            sums.fill(0.0);
            let operands = Operands {
                segments: &[(0, 0)],
                depth: s.rows,
                a: &gy[from..],
                a_step: s.outputs,
                b: columns,
                b_step: width,
            };
            let rows: Vec<usize> = (0..count).collect();
            let targets: Vec<usize> = (0..count).map(|r| r * width).collect();
            let to = sums.as_mut_ptr();
            // SAFETY: `sums` has a line for each row and a spare one, and is this thread's.
            unsafe { instructions.run(&operands, &rows, to, &targets, count * width, width) };
            for (r, line) in sums.chunks_exact(width).take(count).enumerate() {
                // SAFETY: this block of the result is this task's alone.
                unsafe { out.slice((from + r) * s.inputs + first, kept) }
                    .copy_from_slice(&line[..kept]);
            }
        });
    });
    gw
}

/// Gradient of the bias of so many outputs, `[O]`.
pub(super) fn backward_bias(outputs: usize, gy: &[f32]) -> Vec<f32> {
    let mut sums = vec![0f64; outputs];
    for row in gy.chunks_exact(outputs) {
        for (sum, g) in sums.iter_mut().zip(row) {
            *sum += f64::from(*g);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}
