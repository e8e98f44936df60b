//! How the outputs of a convolution are cut into pieces of work.

use std::ops::Range;

use super::geometry::Geometry;

/// Tasks below which work is cut finer than into blocks or pieces: enough for some threads to be busy to the end. Results
/// must not depend on the number of threads, so this doesn't.
pub(super) const TASKS: usize = 16;

/// Output rows of some images, all of several images or some of one.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) images: Range<usize>,
    pub(super) rows: Range<usize>,
}

impl Block {
    /// Output positions.
    pub(super) fn positions(&self, g: &Geometry) -> usize {
        self.images.len() * self.rows.len() * g.out_width
    }

    /// The whole output, in blocks of about so many positions and a multiple of `step` rows where there are as many.
    pub(super) fn all(g: &Geometry, step: usize, positions: usize) -> Vec<Self> {
        let rows =
            (positions / g.out_width / step * step).clamp(step.min(g.out_height), g.out_height);
        let together = (positions / (rows * g.out_width)).max(1);
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

/// Output positions of a block whose taps over the input, not over the padding, are the same.
#[derive(Debug)]
pub(super) struct Positions {
    /// Rows of taps.
    pub(super) down: Range<usize>,
    /// Columns of taps.
    pub(super) across: Range<usize>,
    /// Places in the block.
    pub(super) at: Vec<usize>,
}

impl Positions {
    /// All positions of a block. Products with the padding are zeros: leaving them out changes no sum.
    pub(super) fn of(g: &Geometry, block: &Block) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let rows = block.images.clone().flat_map(|_| block.rows.clone());
        for (row, i) in rows.enumerate() {
            let down = g.taps_inside(i, g.height);
            for j in 0..g.out_width {
                let across = g.taps_inside(j, g.width);
                let position = row * g.out_width + j;
                match all
                    .iter_mut()
                    .find(|p| p.down == down && p.across == across)
                {
                    Some(positions) => positions.at.push(position),
                    None => all.push(Self {
                        down: down.clone(),
                        across,
                        at: vec![position],
                    }),
                }
            }
        }
        all
    }
}
