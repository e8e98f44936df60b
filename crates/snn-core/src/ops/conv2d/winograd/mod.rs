//! A 3x3 convolution of stride 1 and its gradients by Winograd's F(4x4, 3x3) or F(2x2, 3x3) ([`transform`]): 36 products
//! per pair of channels and 4x4 outputs instead of 144, or 16 per 2x2 outputs instead of 36.
//!
//! Its rounding differs from that of the direct sum by a small factor (a test holds both against f64). So the forward pass
//! takes it only where that is allowed: else it adds in the one order that the event-driven engine shares.

mod convolve;
mod gradient;
mod spread;
mod transform;

use std::cell::RefCell;

use self::transform::{Square, Transforms};
use super::blocks::Block;
use super::geometry::Geometry;
use crate::ops::aligned::{Aligned, LINE};
use crate::ops::packed::channel_blocks;

/// Weights of a pair of channels.
const TAPS: usize = 9;

/// Tiles of a block.
const BLOCK: usize = 64;

#[derive(Default)]
struct Scratch {
    strip: Aligned,
    spread: Aligned,
    weight: Aligned,
    spread_gradient: Aligned,
    products: Aligned,
    sums: Aligned,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Numbers from one frequency's to the next one's, where each has `count`: a cache line more, since lines at distances of
/// a power of two push one another out of the first-level cache.
fn pitch(count: usize) -> usize {
    count + LINE
}

/// A convolution whose outputs are whole tiles.
pub(super) struct Winograd<'a> {
    g: &'a Geometry,
    transforms: &'static Transforms,
}

impl<'a> Winograd<'a> {
    /// By the largest tiles that the outputs of these sizes are cut into without a rest, if any. The number of images has no
    /// say in it: an image's result must not depend on its batch.
    pub(super) fn of(g: &'a Geometry) -> Option<Self> {
        let sides = [g.out_height, g.out_width];
        let whole = |tile: usize| sides.iter().all(|s| *s >= 4 && s.is_multiple_of(tile));
        let transforms = Transforms::best().iter().rev().find(|t| whole(t.side))?;
        (g.kernel == 3 && g.stride == 1).then_some(Self { g, transforms })
    }

    fn blocks(&self) -> Vec<Block> {
        let side = self.transforms.side;
        Block::all(self.g, side, BLOCK * side * side)
    }

    /// Tiles of a block.
    fn count(&self, block: &Block) -> usize {
        block.positions(self.g) / (self.transforms.side * self.transforms.side)
    }

    /// The upper left corner of each tile of a block, whose rows of outputs begin at `rows`.
    fn corners(&self, rows: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
        let (side, width) = (self.transforms.side, self.g.out_width);
        rows.step_by(side)
            .flat_map(move |row| (0..width).step_by(side).map(move |j| row + j))
    }

    /// The upper left output of each tile of a block.
    fn outputs(&self, block: &Block) -> Vec<usize> {
        let rows = block.images.len() * block.rows.len();
        self.corners((0..rows).map(|row| row * self.g.out_width))
            .collect()
    }

    /// Where the outputs of a tile lie among lines of `width` numbers.
    fn square(&self, width: usize) -> Square {
        Square {
            row: self.g.out_width * width,
            column: width,
        }
    }

    /// So many channels, filled up to whole vectors.
    fn padded(&self, channels: usize) -> usize {
        channels.next_multiple_of(self.transforms.lanes)
    }

    /// Numbers of `each` times some channels at every frequency, one block of channels after another.
    fn size(&self, channels: usize, each: usize) -> usize {
        channel_blocks(channels)
            .map(|block| self.transforms.frequencies * pitch(self.padded(block.len()) * each))
            .sum()
    }
}
