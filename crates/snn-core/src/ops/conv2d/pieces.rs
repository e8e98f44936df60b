//! The gradient of a weight, piece by piece: a piece is small enough to stay in the second-level cache.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{Block, TASKS};
use super::geometry::Geometry;
use crate::ops::aligned::{Aligned, Lent};
use crate::ops::cpu::{Disjoint, Unwritten};
use crate::ops::packed::channel_blocks;
use crate::ops::tile::Instructions;

thread_local! {
    /// Lent while in use: a thread may do other tasks in between.
    static SUMS: Cell<Aligned> = const { Cell::new(Aligned::new()) };
}

/// Some input and some output channels.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) channels: Range<usize>,
    pub(super) outputs: Range<usize>,
    /// Numbers of a line of outputs, filled up to whole vectors.
    pub(super) line: usize,
}

/// Gradient of the weight, `[O, C, k, k]`. A piece is a sum of `places` lines of outputs per channel, and a spare line:
/// `add` adds what a block gives to it; `gather` writes the weights that the sum of such parts, in order, stands for.
pub(super) fn weight_gradient(
    g: &Geometry,
    places: usize,
    blocks: &[Block],
    add: impl Fn(&Piece, &Block, &mut [f32]) + Sync,
    gather: impl Fn(&Piece, &[&[f32]], Disjoint) + Sync,
) -> Vec<f32> {
    let pieces: Vec<Piece> = channel_blocks(g.channels)
        .flat_map(|channels| {
            channel_blocks(g.out_channels).map(move |outputs| Piece {
                channels: channels.clone(),
                line: Instructions::best().padded(outputs.len()),
                outputs,
            })
        })
        .collect();
    let size = |piece: &Piece| (places * piece.channels.len() + 1) * piece.line;
    let region = pieces.iter().map(size).max().unwrap_or(0);
    let parts = TASKS.div_ceil(pieces.len()).min(blocks.len()).max(1);
    let mut gw = Unwritten::new(g.out_channels * g.channels * g.taps());
    let out = gw.places();
    let sum = |piece: &Piece, part: usize, sums: &mut [f32]| {
        sums.fill(0.0);
        for block in &blocks[part * blocks.len() / parts..(part + 1) * blocks.len() / parts] {
            add(piece, block, sums);
        }
    };
    if parts == 1 {
        pieces.par_iter().for_each(|piece| {
            let mut sums = Lent::new(&SUMS, size(piece));
            sum(piece, 0, sums.values());
            gather(piece, &[&sums], out);
        });
    } else {
        let mut all = Lent::new(&SUMS, parts * pieces.len() * region);
        all.values()
            .par_chunks_exact_mut(region)
            .enumerate()
            .for_each(|(task, sums)| {
                let piece = &pieces[task / parts];
                sum(piece, task % parts, &mut sums[..size(piece)]);
            });
        pieces
            .par_iter()
            .zip(all.par_chunks_exact(parts * region))
            .for_each(|(piece, sums)| {
                let parts: Vec<&[f32]> = sums.chunks_exact(region).collect();
                gather(piece, &parts, out);
            });
    }
    // SAFETY: every piece wrote its weights.
    unsafe { gw.written() }
}
