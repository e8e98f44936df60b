//! One weighted layer, as a sum of the rows of its weight that events select.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::lists::{AT_ONCE, BLOCK, Lists};
use crate::Result;
use crate::ops::cpu::with_values;
use crate::ops::events::{Events, Kernels};
use crate::ops::packed::channel_blocks;

/// Output channels that are added up side by side: a tap's rows of a block of channels fit into the first-level cache.
const COLUMNS: usize = 64;

/// A convolution, or a linear layer as a convolution of one position, with its weight as rows of output channels,
/// `[columns][block of channels][k, k, channels of the block][O of these columns, filled up to whole vectors]`.
#[derive(Debug)]
pub(crate) struct Weighted {
    /// Index in the topology.
    pub(super) layer: usize,
    pub(super) out_channels: usize,
    out_width: usize,
    channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Numbers of a line.
    pub(crate) line: usize,
    weight: Vec<f32>,
    /// A line.
    bias: Vec<f32>,
}

/// How a window moves over a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) out_width: usize,
}

impl Weighted {
    /// `weight` `[O, C, k, k]` or `[O, F]`, `bias` `[O]`.
    pub(crate) fn new(
        layer: usize,
        weight: &Tensor,
        bias: Option<&Tensor>,
        window: Window,
    ) -> Result<Self> {
        let (out_channels, channels, kernel) = match *weight.dims() {
            [o, c, k, _] => (o, c, k),
            ref dims => (dims[0], dims[1], 1),
        };
        let taps = kernel * kernel;
        let line = out_channels.next_multiple_of(Kernels::best().lanes);
        let mut rows = vec![0f32; channels * taps * line];
        with_values(weight, |weight| {
            let mut parts = Vec::new();
            let mut rest = &mut rows[..];
            for columns in columns(line) {
                let (part, after) = rest.split_at_mut(channels * taps * columns.len());
                parts.push((columns, part));
                rest = after;
            }
            parts.into_par_iter().for_each(|(columns, part)| {
                let width = columns.len();
                for o in columns.start..columns.end.min(out_channels) {
                    for block in channel_blocks(channels) {
                        let from = &weight[(o * channels + block.start) * taps..];
                        let to = &mut part[block.start * taps * width + o - columns.start..];
                        for (i, from) in from[..block.len() * taps].iter().enumerate() {
                            let (c, tap) = (i / taps, i % taps);
                            to[(tap * block.len() + c) * width] = *from;
                        }
                    }
                }
            });
        })?;
        let mut start = vec![0f32; line];
        if let Some(bias) = bias {
            with_values(bias, |bias| start[..out_channels].copy_from_slice(bias))?;
        }
        Ok(Self {
            layer,
            out_channels,
            out_width: window.out_width,
            channels,
            kernel,
            stride: window.stride,
            padding: window.padding,
            line,
            weight: rows,
            bias: start,
        })
    }

    /// Spikes that meet a weight, each counted at every output position that it takes part in; each meets
    /// `out_channels` weights there.
    pub(super) fn met(&self, lists: &Lists, positions: usize) -> u64 {
        let mut met = 0;
        for position in 0..positions {
            for input in (0..self.taps()).filter_map(|tap| self.under(lists, position, tap)) {
                let spikes = (0..lists.steps).map(|step| u64::from(lists.spikes((step, input))));
                met += spikes.sum::<u64>();
            }
        }
        met
    }

    fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// The position of the map under a tap at an output position; none in the padding.
    fn under(&self, lists: &Lists, position: usize, tap: usize) -> Option<usize> {
        let (i, j) = (position / self.out_width, position % self.out_width);
        let (a, b) = (tap / self.kernel, tap % self.kernel);
        let inside = |at: usize, tap: usize, side: usize| {
            let place = (at * self.stride + tap).checked_sub(self.padding)?;
            (place < side).then_some(place)
        };
        let (y, x) = (inside(i, a, lists.height)?, inside(j, b, lists.width)?);
        Some(y * lists.width + x)
    }

    /// The currents at some output positions and all steps, `[positions, steps, line]`.
    pub(crate) fn currents(
        &self,
        lists: &Lists,
        positions: Range<usize>,
        gathered: &mut Gathered,
        sums: &mut [f32],
    ) {
        assert!(lists.channels == self.channels);
        for sums in sums.chunks_exact_mut(self.line) {
            sums.copy_from_slice(&self.bias);
        }
        for (block, channels) in channel_blocks(self.channels).enumerate() {
            for tap in 0..self.taps() {
                gathered.gather(self, lists, positions.clone(), block, tap);
                for columns in columns(self.line) {
                    let width = columns.len();
                    let first = (columns.start * self.channels + channels.start * width)
                        * self.taps()
                        + tap * channels.len() * width;
                    let weight = &self.weight[first..][..channels.len() * width];
                    let place = (self.line, columns.start);
                    // SAFETY: a row is the place of a channel in this block.
                    unsafe {
                        Kernels::best().add_rows(&gathered.events(), weight, width, sums, place);
                    }
                }
            }
        }
    }
}

/// Groups of columns that are added up side by side.
fn columns(line: usize) -> impl Iterator<Item = Range<usize>> {
    (0..line)
        .step_by(COLUMNS)
        .map(move |first| first..(first + COLUMNS).min(line))
}

/// The events under one tap in one block of channels, for each output position and step in turn.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    rows: Vec<u8>,
    values: Vec<f32>,
    valued: bool,
    /// Where the events of each position and step end.
    ends: Vec<usize>,
}

impl Gathered {
    fn gather(
        &mut self,
        layer: &Weighted,
        lists: &Lists,
        positions: Range<usize>,
        block: usize,
        tap: usize,
    ) {
        self.valued = lists.values(0).is_some();
        let room = positions.len() * lists.steps * BLOCK + AT_ONCE;
        if self.rows.len() < room {
            self.rows.resize(room, 0);
        }
        if self.valued && self.values.len() < room {
            self.values.resize(room, 0.0);
        }
        self.ends.clear();
        let mut end = 0;
        for position in positions {
            let under = layer.under(lists, position, tap);
            for step in 0..lists.steps {
                if let Some(input) = under {
                    let (at, count) = lists.range((step, input), block);
                    for some in (0..count).step_by(AT_ONCE) {
                        let here = end + some..end + some + AT_ONCE;
                        self.rows[here.clone()].copy_from_slice(lists.places(at + some));
                        if let Some(values) = lists.values(at + some) {
                            self.values[here].copy_from_slice(values);
                        }
                    }
                    end += count;
                }
                self.ends.push(end);
            }
        }
    }

    fn events(&self) -> Events<'_> {
        Events {
            rows: &self.rows,
            values: self.valued.then_some(&self.values),
            ends: &self.ends,
        }
    }
}
