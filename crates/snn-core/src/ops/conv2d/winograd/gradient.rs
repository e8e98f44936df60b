//! The gradient of the weight.

use super::transform::Square;
use super::{BUFFERS, TAPS, Winograd, pitch};
use crate::ops::conv2d::blocks::Block;
use crate::ops::conv2d::pieces::{self, Piece};
use crate::ops::cpu::Disjoint;
use crate::ops::tile::{Instructions, Operands};
use crate::ops::transpose::transpose;

impl Winograd<'_> {
    /// Gradient of the weight, `[O, C, 3, 3]`.
    pub(in super::super) fn backward_weight(&self, x: &[f32], gy: &[f32]) -> Vec<f32> {
        pieces::weight_gradient(
            self.g,
            self.transforms.frequencies,
            &self.blocks(),
            (x, gy),
            |piece, block, values, gradient, sums| {
                self.add_products((values, gradient), piece, block, sums);
            },
            |piece, parts, out| self.gather_weight(piece, parts, out),
        )
    }

    /// Adds what one block gives for a piece, `[frequencies, c, o]` with a spare line at the end.
    fn add_products(
        &self,
        (values, gradient): (&[f32], &[f32]),
        piece: &Piece,
        block: &Block,
        sums: &mut [f32],
    ) {
        let (instructions, transforms) = (Instructions::best(), self.transforms);
        let (count, line) = (piece.channels.len(), piece.line);
        let step = self.padded(count);
        let spare = sums.len() - line;
        let corners = self.outputs(block);
        let (of_input, of_gradient) = (pitch(corners.len() * step), pitch(corners.len() * line));
        BUFFERS.with_borrow_mut(|buffers| {
            let input = buffers.spread.first(transforms.frequencies * of_input);
            self.spread_strip(values, block, count, input);
            let spread = buffers
                .spread_gradient
                .first(transforms.frequencies * of_gradient);
            let square = self.square(line);
            for (tile, corner) in corners.iter().enumerate() {
                // SAFETY: a tile's gradients are lines of `gradient`; `spread` has a line for each tile and frequency.
                unsafe {
                    let from = gradient[corner * line..].as_ptr();
                    let to = spread[tile * line..].as_mut_ptr();
                    (transforms.gradient)(from, square, to, of_gradient, line);
                }
            }
            let rows: Vec<usize> = (0..count).collect();
            for f in 0..transforms.frequencies {
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
    fn gather_weight(&self, piece: &Piece, parts: &[&[f32]], out: Disjoint) {
        let (g, transforms) = (self.g, self.transforms);
        let lanes = transforms.lanes;
        let (channels, outputs) = (&piece.channels, &piece.outputs);
        let (depth, taps) = (g.channels * TAPS, channels.len() * TAPS);
        let square = Square {
            row: 3 * lanes,
            column: lanes,
        };
        let mut products = vec![0f32; transforms.frequencies * lanes];
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
                // SAFETY: `products` has a vector for each frequency, `kernels` 3x3.
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
}
