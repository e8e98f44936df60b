//! Channels last: how images lie in memory while a convolution works on them.

use std::ops::Range;

use super::geometry::Geometry;

/// Positions that are transposed at a time, so that both sides stay in the first-level cache.
const POSITIONS: usize = 32;

/// `to[i * line + c] = from[c * pitch + i]` for c below `count` and as many i as `to` has lines.
pub(super) fn interleave(from: &[f32], pitch: usize, count: usize, to: &mut [f32], line: usize) {
    for (part, to) in to.chunks_mut(POSITIONS * line).enumerate() {
        let len = to.len().div_ceil(line);
        for c in 0..count {
            let from = &from[c * pitch + part * POSITIONS..][..len];
            for (to, from) in to[c..].iter_mut().step_by(line).zip(from) {
                *to = *from;
            }
        }
    }
}

/// The other way: `to(c, start, len)[i] = from[(start + i) * line + c]` for c below `count`, over `positions` positions.
pub(super) fn deinterleave<'a>(
    from: &[f32],
    line: usize,
    count: usize,
    positions: usize,
    to: impl Fn(usize, usize, usize) -> &'a mut [f32],
) {
    for start in (0..positions).step_by(POSITIONS) {
        let len = POSITIONS.min(positions - start);
        let from = &from[start * line..][..len * line];
        for c in 0..count {
            for (to, from) in to(c, start, len)
                .iter_mut()
                .zip(from[c..].iter().step_by(line))
            {
                *to = *from;
            }
        }
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

    /// Copies the block `channels` of the images from `x` `[N, C, H, W]`.
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
