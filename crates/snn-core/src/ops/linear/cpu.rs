//! Matrix products over blocks of rows of one size, the last one filled up with zeros: a row's numbers do not depend on
//! how many rows there are.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::ops::cpu::{Disjoint, Matrix, product, scratch};

/// Rows per product.
const ROWS: usize = 16;
/// Numbers of the panel of the weight that a task works with: half a megabyte, so that it stays in the second-level
/// cache.
const PANEL: usize = 1 << 17;
/// Columns of a block of the weight's gradient; its rows are a quarter of that.
const COLUMNS: usize = 256;
/// Tasks below which the rows are shared out.
const TASKS: usize = 32;
/// Side of the squares in which a matrix is transposed.
const TILE: usize = 16;

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

#[derive(Default)]
struct Scratch {
    panel: Vec<f32>,
    rows: Vec<f32>,
    results: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::default();
}

/// `[N, O]`
pub(super) fn forward(s: &Sizes, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (k, m) = (s.inputs, s.outputs);
    rows_times(x, (s.rows, k, m), bias, |columns, panel| {
        transpose(&weight[columns.start * k..][..columns.len() * k], k, panel);
    })
}

/// Gradient of the input, `[N, F]`.
pub(super) fn backward_data(s: &Sizes, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    let (k, m) = (s.outputs, s.inputs);
    rows_times(gy, (s.rows, k, m), None, |columns, panel| {
        for (to, from) in panel
            .chunks_exact_mut(columns.len())
            .zip(weight.chunks_exact(m))
        {
            to.copy_from_slice(&from[columns.clone()]);
        }
    })
}

/// Gradient of the weight, `[O, F]`.
pub(super) fn backward_weight(s: &Sizes, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let mut gw = vec![0f32; s.outputs * s.inputs];
    let (rows, columns) = (s.outputs.div_ceil(COLUMNS / 4), s.inputs.div_ceil(COLUMNS));
    let out = Disjoint::new(&mut gw);
    (0..rows * columns).into_par_iter().for_each(|task| {
        let (o, f) = (task / columns * (COLUMNS / 4), task % columns * COLUMNS);
        let (height, width) = ((COLUMNS / 4).min(s.outputs - o), COLUMNS.min(s.inputs - f));
        if s.rows > 0 {
            let a = Matrix {
                values: &gy[o..],
                row: 1,
                column: s.outputs,
            };
            let b = Matrix {
                values: &x[f..],
                row: s.inputs,
                column: 1,
            };
            // SAFETY: this block of the result is this task's alone.
            unsafe {
                product(
                    (height, s.rows, width),
                    a,
                    b,
                    out.at(o * s.inputs + f),
                    s.inputs,
                    false,
                )
            };
        }
    });
    gw
}

/// Gradient of the bias, `[O]`.
pub(super) fn backward_bias(s: &Sizes, gy: &[f32]) -> Vec<f32> {
    let mut sums = vec![0f64; s.outputs];
    for row in gy.chunks_exact(s.outputs) {
        for (sum, g) in sums.iter_mut().zip(row) {
            *sum += f64::from(*g);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// `a b (+ bias in every row)` for `a` n x k, row after row, and b k x m, of which `fill` writes some columns, row after
/// row.
fn rows_times(
    a: &[f32],
    (n, k, m): (usize, usize, usize),
    bias: Option<&[f32]>,
    fill: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let mut y = vec![0f32; n * m];
    if n == 0 {
        return y;
    }
    let width = (PANEL / k).clamp(32, 512);
    let panels = m.div_ceil(width);
    // few panels: the rows are shared out, and each task has its own copy of the panel
    let rows = n.div_ceil(TASKS.div_ceil(panels)).next_multiple_of(ROWS);
    let groups = n.div_ceil(rows);
    let out = Disjoint::new(&mut y);
    (0..panels * groups).into_par_iter().for_each(|task| {
        let (panel, group) = (task / groups, task % groups);
        let columns = panel * width..((panel + 1) * width).min(m);
        let width = columns.len();
        BUFFERS.with_borrow_mut(|buffers| {
            let panel = scratch(&mut buffers.panel, k * width);
            fill(columns.clone(), panel);
            let b = Matrix {
                values: panel,
                row: width,
                column: 1,
            };
            let results = scratch(&mut buffers.results, ROWS * width);
            for first in (group * rows..((group + 1) * rows).min(n)).step_by(ROWS) {
                let height = ROWS.min(n - first);
                let mut here = &a[first * k..][..height * k];
                if height < ROWS {
                    let filled = scratch(&mut buffers.rows, ROWS * k);
                    filled[..height * k].copy_from_slice(here);
                    filled[height * k..].fill(0.0);
                    here = filled;
                }
                if let Some(bias) = bias {
                    for row in results.chunks_exact_mut(width) {
                        row.copy_from_slice(&bias[columns.clone()]);
                    }
                }
                let a = Matrix {
                    values: here,
                    row: k,
                    column: 1,
                };
                // SAFETY: `results` is this thread's and has ROWS rows of `width` numbers.
                unsafe {
                    let to = results.as_mut_ptr();
                    product((ROWS, k, width), a, b, to, width, bias.is_some());
                }
                for (i, row) in results.chunks_exact(width).take(height).enumerate() {
                    // SAFETY: these columns of this row are this task's alone.
                    unsafe { out.slice((first + i) * m + columns.start, width) }
                        .copy_from_slice(row);
                }
            }
        });
    });
    y
}

/// The transpose of a matrix with rows of `columns` numbers.
fn transpose(matrix: &[f32], columns: usize, to: &mut [f32]) {
    let rows = matrix.len() / columns;
    for first_column in (0..columns).step_by(TILE) {
        for first_row in (0..rows).step_by(TILE) {
            for column in first_column..(first_column + TILE).min(columns) {
                let to = &mut to[column * rows..][first_row..(first_row + TILE).min(rows)];
                for (i, to) in to.iter_mut().enumerate() {
                    *to = matrix[(first_row + i) * columns + column];
                }
            }
        }
    }
}
