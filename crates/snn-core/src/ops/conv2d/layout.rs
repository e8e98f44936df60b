//! Channels last: how images lie in memory while a convolution works on them.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::Block;
use super::geometry::Geometry;
use crate::ops::aligned::{LINE, Lent, Shelf};
use crate::ops::cpu::Disjoint;
use crate::ops::packed::channel_blocks;
use crate::ops::tile::Instructions;
use crate::ops::transpose::transpose;

/// `to[i * line + c] = from[c * pitch + i]` for c below `count` and as many i as `to` has lines.
fn interleave(from: &[f32], pitch: usize, count: usize, to: &mut [f32], line: usize) {
    let positions = to.len().div_ceil(line);
    assert!((count - 1) * pitch + positions <= from.len() && count <= line);
    assert!((positions - 1) * line + count <= to.len());
    // SAFETY: the last number of each side was checked.
    unsafe {
        let to = (to.as_mut_ptr(), line);
        transpose((from.as_ptr(), pitch), (count, positions), to);
    }
}

/// The other way: `to[c * pitch + i] = from[i * line + c]` for c below `count` and as many i as `from` has lines.
///
/// # Safety
/// `to` is valid for writes at these places, which nobody else touches.
unsafe fn deinterleave(from: &[f32], line: usize, count: usize, to: *mut f32, pitch: usize) {
    let positions = from.len() / line;
    assert!(count <= line);
    // SAFETY: whole lines are read; the writes are the caller's promise.
    unsafe { transpose((from.as_ptr(), line), (positions, count), (to, pitch)) }
}

/// Some output channels of a block, `[positions, line]` from `[N, O, H', W']`; what a line holds beyond them is 0.
pub(super) fn channels_last(
    g: &Geometry,
    y: &[f32],
    block: &Block,
    channels: Range<usize>,
    line: usize,
    to: &mut [f32],
) {
    let plane = block.rows.len() * g.out_width;
    if line > channels.len() {
        to.fill(0.0);
    }
    let images = block.images.clone().zip(to.chunks_exact_mut(plane * line));
    for (image, to) in images {
        let channel = image * g.out_channels + channels.start;
        let first = channel * g.out_plane() + block.rows.start * g.out_width;
        interleave(&y[first..], g.out_plane(), channels.len(), to, line);
    }
}

/// The other way: some output channels of a block, `[positions, line]`, to `[N, O, H', W']`.
///
/// # Safety
/// `y` is such a tensor, in which nobody else touches these channels of this block.
pub(super) unsafe fn channels_first(
    g: &Geometry,
    from: &[f32],
    line: usize,
    block: &Block,
    channels: Range<usize>,
    y: Disjoint,
) {
    let plane = block.rows.len() * g.out_width;
    let images = block.images.clone().zip(from.chunks_exact(plane * line));
    for (image, from) in images {
        let channel = image * g.out_channels + channels.start;
        let first = channel * g.out_plane() + block.rows.start * g.out_width;
        // SAFETY: the caller's promise.
        unsafe { deinterleave(from, line, channels.len(), y.at(first), g.out_plane()) };
    }
}

/// The padded input rows under a block of output rows, `[images, rows, W + 2 padding, channels]`, one block of channels
/// after another.
#[derive(Debug, Clone)]
pub(super) struct Strip {
    images: usize,
    out_rows: usize,
    height: usize,
    width: usize,
    /// Row of the input at the top; negative in the padding.
    top: isize,
}

impl Strip {
    pub(super) fn new(g: &Geometry, images: usize, rows: Range<usize>) -> Self {
        Self {
            images,
            out_rows: rows.len(),
            height: (rows.len() - 1) * g.stride + g.kernel,
            width: g.width + 2 * g.padding,
            top: (rows.start * g.stride) as isize - g.padding as isize,
        }
    }

    /// Numbers of so many channels.
    pub(super) fn len(&self, channels: usize) -> usize {
        self.images * self.height * self.width * channels
    }

    /// Cells from a row to the `a`-th below it.
    pub(super) fn row(&self, a: usize) -> usize {
        a * self.width
    }

    /// The first cell under each output row.
    pub(super) fn output_rows(&self, g: &Geometry) -> impl Iterator<Item = usize> {
        let (stride, height, width) = (g.stride, self.height, self.width);
        let out_rows = self.out_rows;
        (0..self.images).flat_map(move |image| {
            (0..out_rows).map(move |i| (image * height + i * stride) * width)
        })
    }

    /// The first cell under each output position.
    pub(super) fn cells(&self, g: &Geometry) -> Vec<usize> {
        self.output_rows(g)
            .flat_map(|row| (0..g.out_width).map(move |j| row + j * g.stride))
            .collect()
    }

    /// Copies the block `channels` of the images from `x` `[N, C, H, W]` to the start of `to`.
    pub(super) fn fill(
        &self,
        g: &Geometry,
        x: &[f32],
        images: Range<usize>,
        channels: Range<usize>,
        to: &mut [f32],
    ) {
        let count = channels.len();
        let (left, inside) = (g.padding * count, g.width * count);
        let to = &mut to[..self.len(count)];
        for (i, row) in to.chunks_exact_mut(self.width * count).enumerate() {
            let (image, y) = (images.start + i / self.height, i % self.height);
            match usize::try_from(self.top + y as isize) {
                Ok(y) if y < g.height => {
                    row[..left].fill(0.0);
                    row[left + inside..].fill(0.0);
                    let first = (image * g.channels + channels.start) * g.plane() + y * g.width;
                    let to = &mut row[left..][..inside];
                    interleave(&x[first..], g.plane(), count, to, count);
                }
                _ => row.fill(0.0),
            }
        }
    }
}

static STRIPS: Shelf = Shelf::new();
static LINES: Shelf = Shelf::new();

/// The strips of all blocks.
pub(super) struct Strips {
    values: Lent,
    strips: Vec<Strip>,
    /// Numbers from one strip to the next.
    pitch: usize,
}

impl Strips {
    fn strips(g: &Geometry, blocks: &[Block]) -> Vec<Strip> {
        let strip = |block: &Block| Strip::new(g, block.images.len(), block.rows.clone());
        blocks.iter().map(strip).collect()
    }

    fn pitch(g: &Geometry, strips: &[Strip]) -> usize {
        let sizes = strips.iter().map(|strip| strip.len(g.channels));
        sizes.max().unwrap_or(0)
    }

    /// Numbers of them all.
    pub(super) fn size(g: &Geometry, blocks: &[Block]) -> usize {
        Self::pitch(g, &Self::strips(g, blocks)) * blocks.len()
    }

    pub(super) fn new(g: &Geometry, x: &[f32], blocks: &[Block]) -> Self {
        let channels: Vec<Range<usize>> = channel_blocks(g.channels).collect();
        let strips = Self::strips(g, blocks);
        let pitch = Self::pitch(g, &strips);
        let mut values = STRIPS.lend(pitch * blocks.len() + LINE);
        let places = Disjoint::new(values.values());
        (0..blocks.len() * channels.len())
            .into_par_iter()
            .for_each(|task| {
                let (i, channels) = (task / channels.len(), &channels[task % channels.len()]);
                let (images, strip) = (blocks[i].images.clone(), &strips[i]);
                let start = i * pitch + strip.len(channels.start);
                // SAFETY: these channels of this strip are this task's alone.
                let to = unsafe { places.slice(start, strip.len(channels.len())) };
                strip.fill(g, x, images, channels.clone(), to);
            });
        Self {
            values,
            strips,
            pitch,
        }
    }

    /// The strip of a block from a channel on that begins a block of channels, one block of channels after another, and at
    /// least a vector beyond it.
    pub(super) fn of(&self, block: usize, channel: usize) -> &[f32] {
        &self.values[block * self.pitch + self.strips[block].len(channel)..]
    }
}

/// All output positions, one block after another, in each one block of channels after another, `[positions, line]`.
pub(super) struct Lines {
    values: Lent,
    /// Numbers of a position.
    pitch: usize,
}

impl Lines {
    /// Numbers of them all.
    pub(super) fn size(g: &Geometry) -> usize {
        g.images * g.out_plane() * Instructions::best().padded(g.out_channels)
    }

    /// From `y` `[N, O, H', W']`.
    pub(super) fn new(g: &Geometry, y: &[f32], blocks: &[Block]) -> Self {
        let pitch = Instructions::best().padded(g.out_channels);
        let mut values = LINES.lend(Self::size(g));
        let mut rest = values.values();
        let mut tasks = Vec::new();
        for block in blocks {
            for channels in channel_blocks(g.out_channels) {
                let line = Instructions::best().padded(channels.len());
                let (to, after) = rest.split_at_mut(block.positions(g) * line);
                rest = after;
                tasks.push((block, channels, line, to));
            }
        }
        tasks
            .into_par_iter()
            .for_each(|(block, channels, line, to)| {
                channels_last(g, y, block, channels, line, to);
            });
        Self { values, pitch }
    }

    /// The lines of a block from a channel on that begins a block of channels.
    pub(super) fn of(&self, g: &Geometry, block: &Block, channel: usize) -> &[f32] {
        let before = block.images.start * g.out_plane() + block.rows.start * g.out_width;
        &self.values[before * self.pitch + block.positions(g) * channel..]
    }
}
