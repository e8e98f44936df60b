//! Matrix products over blocks of rows of one size, the last one filled up with zeros: a row's numbers do not depend on
//! how many rows there are.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::ops::cpu::{Disjoint, Matrix, product, scratch};

/// Rows per product.
const ROWS: usize = 16;
/// Columns of the result per product.
const COLUMNS: usize = 512;
/// Side of the squares in which a matrix is transposed.
const TILE: usize = 32;

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

thread_local! {
    static BUFFERS: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// `[N, O]`
pub(super) fn forward(s: &Sizes, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let weight = transposed(weight, s.outputs, s.inputs);
    rows_times(x, &weight, (s.rows, s.inputs, s.outputs), bias)
}

/// Gradient of the input, `[N, F]`.
pub(super) fn backward_data(s: &Sizes, weight: &[f32], gy: &[f32]) -> Vec<f32> {
    rows_times(gy, weight, (s.rows, s.outputs, s.inputs), None)
}

/// Gradient of the weight, `[O, F]`.
pub(super) fn backward_weight(s: &Sizes, x: &[f32], gy: &[f32]) -> Vec<f32> {
    let mut gw = vec![0f32; s.outputs * s.inputs];
    let (rows, columns) = (s.outputs.div_ceil(4 * ROWS), s.inputs.div_ceil(COLUMNS));
    let out = Disjoint::new(&mut gw);
    (0..rows * columns).into_par_iter().for_each(|task| {
        let (o, f) = (task / columns * 4 * ROWS, task % columns * COLUMNS);
        let (height, width) = ((4 * ROWS).min(s.outputs - o), COLUMNS.min(s.inputs - f));
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

/// `a b (+ bias in every row)` for `a` n x k and `b` k x m, both row after row.
fn rows_times(
    a: &[f32],
    b: &[f32],
    (n, k, m): (usize, usize, usize),
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let mut y = vec![0f32; n * m];
    let columns = m.div_ceil(COLUMNS);
    let out = Disjoint::new(&mut y);
    (0..n.div_ceil(ROWS) * columns)
        .into_par_iter()
        .for_each(|task| {
            let (first, column) = (task / columns * ROWS, task % columns * COLUMNS);
            let (height, width) = (ROWS.min(n - first), COLUMNS.min(m - column));
            BUFFERS.with_borrow_mut(|(rows, results)| {
                let here = &a[first * k..][..height * k];
                let here = if height == ROWS {
                    here
                } else {
                    let rows = scratch(rows, ROWS * k);
                    rows[..height * k].copy_from_slice(here);
                    rows[height * k..].fill(0.0);
                    rows
                };
                let results = scratch(results, ROWS * width);
                if let Some(bias) = bias {
                    for row in results.chunks_exact_mut(width) {
                        row.copy_from_slice(&bias[column..][..width]);
                    }
                }
                let a = Matrix {
                    values: here,
                    row: k,
                    column: 1,
                };
                let b = Matrix {
                    values: &b[column..],
                    row: m,
                    column: 1,
                };
                // SAFETY: `results` is this thread's and has ROWS rows of `width` numbers.
                unsafe {
                    product(
                        (ROWS, k, width),
                        a,
                        b,
                        results.as_mut_ptr(),
                        width,
                        bias.is_some(),
                    )
                };
                for (i, row) in results.chunks_exact(width).take(height).enumerate() {
                    // SAFETY: this part of this row is this task's alone.
                    unsafe { out.slice((first + i) * m + column, width) }.copy_from_slice(row);
                }
            });
        });
    y
}

/// The transpose of a matrix stored row after row.
fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut to = vec![0f32; matrix.len()];
    to.par_chunks_mut(TILE * rows)
        .enumerate()
        .for_each(|(tile, to)| {
            let first = tile * TILE;
            for start in (0..rows).step_by(TILE) {
                for (j, to) in to.chunks_exact_mut(rows).enumerate() {
                    for (i, to) in to[start..].iter_mut().take(TILE).enumerate() {
                        *to = matrix[(start + i) * columns + first + j];
                    }
                }
            }
        });
    to
}
