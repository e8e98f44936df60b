//! The gradient of a weight, piece by piece: a piece is small enough to stay in the second-level cache.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{Block, TASKS};
use super::geometry::Geometry;
use super::layout::{Lines, Strip, Strips, channels_last};
use crate::ops::aligned::{Aligned, LINE, Shelf};
use crate::ops::cpu::{Disjoint, Unwritten};
use crate::ops::packed::channel_blocks;
use crate::ops::tile::Instructions;

/// Numbers up to which inputs and gradients are laid out once for all pieces: what is larger and has to come from memory costs
/// each piece as much time as to lay it out anew, and the memory besides.
const SHARED: usize = 1 << 21;

static SUMS: Shelf = Shelf::new();

thread_local! {
    /// A strip and the gradients of a block.
    static BUFFERS: RefCell<[Aligned; 2]> = const { RefCell::new([Aligned::new(), Aligned::new()]) };
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
/// `add` adds to it what a block gives, from the piece's channels of the block's [`Strip`], which other numbers follow up to
/// whole vectors, and its outputs' gradients `[positions, line]`; `gather` writes the weights that the sum of such parts, in
/// order, stands for.
pub(super) fn weight_gradient(
    g: &Geometry,
    places: usize,
    blocks: &[Block],
    (x, gy): (&[f32], &[f32]),
    add: impl Fn(&Piece, &Block, &[f32], &[f32], &mut [f32]) + Sync,
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
    let several = |channels| channel_blocks(channels).nth(1).is_some();
    let (strips, lines) = rayon::join(
        || {
            let shared = several(g.out_channels) && Strips::size(g, blocks) <= SHARED;
            shared.then(|| Strips::new(g, x, blocks))
        },
        || {
            let shared = several(g.channels) && Lines::size(g) <= SHARED;
            shared.then(|| Lines::new(g, gy, blocks))
        },
    );
    let sum = |piece: &Piece, part: usize, sums: &mut [f32]| {
        sums.fill(0.0);
        let range = part * blocks.len() / parts..(part + 1) * blocks.len() / parts;
        for (i, block) in range.clone().zip(&blocks[range]) {
            BUFFERS.with_borrow_mut(|[strip_buffer, line_buffer]| {
                let values: &[f32] = match &strips {
                    Some(strips) => strips.of(i, piece.channels.start),
                    None => {
                        let strip = Strip::new(g, block.images.len(), block.rows.clone());
                        let len = strip.len(piece.channels.len());
                        let values = strip_buffer.first(len + LINE);
                        strip.fill(g, x, block.images.clone(), piece.channels.clone(), values);
                        values
                    }
                };
                let gradient: &[f32] = match &lines {
                    Some(lines) => lines.of(g, block, piece.outputs.start),
                    None => {
                        let values = line_buffer.first(block.positions(g) * piece.line);
                        channels_last(g, gy, block, piece.outputs.clone(), piece.line, values);
                        values
                    }
                };
                add(piece, block, values, gradient, sums);
            });
        }
    };
    if parts == 1 {
        pieces.par_iter().for_each(|piece| {
            let mut sums = SUMS.lend(size(piece));
            sum(piece, 0, sums.values());
            gather(piece, &[&sums], out);
        });
    } else {
        let mut all = SUMS.lend(parts * pieces.len() * region);
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
