//! One weighted layer, as a sum of the rows of its weight that events select.

use candle_core::Tensor;

use super::lists::Lists;
use crate::Result;
use crate::ops::cpu::with_values;
use crate::ops::events::{Kernels, Segment};
use crate::ops::packed::channel_blocks;

/// A convolution, or a linear layer as a convolution of one position, with its weight as lines of output channels,
/// `[block of channels][k, k, channels of the block][O, filled up to whole vectors]`.
#[derive(Debug)]
pub(super) struct Weighted {
    /// Index in the topology.
    pub(super) layer: usize,
    pub(super) out_channels: usize,
    out_width: usize,
    channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Numbers of a line.
    pub(super) line: usize,
    weight: Vec<f32>,
    /// A line.
    bias: Vec<f32>,
}

/// How a window moves over a map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) out_width: usize,
}

impl Weighted {
    /// `weight` `[O, C, k, k]` or `[O, F]`, `bias` `[O]`.
    pub(super) fn new(
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
        let mut lines = vec![0f32; channels * taps * line];
        with_values(weight, |weight| {
            let mut lines = lines.chunks_exact_mut(line);
            for block in channel_blocks(channels) {
                for tap in 0..taps {
                    for (c, line) in block.clone().zip(&mut lines) {
                        for (o, to) in line[..out_channels].iter_mut().enumerate() {
                            *to = weight[(o * channels + c) * taps + tap];
                        }
                    }
                }
            }
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
            weight: lines,
            bias: start,
        })
    }

    /// The currents at output position `position` and step `step`, into `sums`; returns how many spikes met a weight here,
    /// each with `out_channels` of them.
    pub(super) fn currents<'a>(
        &self,
        lists: &'a Lists,
        (step, position): (usize, usize),
        segments: &mut Vec<Segment<'a>>,
        sums: &mut [f32],
    ) -> u64 {
        assert!(lists.channels == self.channels);
        let (i, j) = (position / self.out_width, position % self.out_width);
        // the window's part inside the map
        let inside = |at: usize, side: usize| {
            let first = at * self.stride;
            let from = self.padding.saturating_sub(first).min(self.kernel);
            let to = (side + self.padding).saturating_sub(first).min(self.kernel);
            from..to.max(from)
        };
        let (rows, columns) = (inside(i, lists.height), inside(j, lists.width));
        segments.clear();
        let mut spikes = 0;
        for (block, channels) in channel_blocks(self.channels).enumerate() {
            let taps = self.kernel * self.kernel;
            for a in rows.clone() {
                let y = i * self.stride + a - self.padding;
                for b in columns.clone() {
                    let x = j * self.stride + b - self.padding;
                    let at = (step, y * lists.width + x);
                    if block == 0 {
                        spikes += u64::from(lists.spikes(at));
                    }
                    let (rows, values) = lists.block(at, block);
                    if !rows.is_empty() {
                        let tap = a * self.kernel + b;
                        let start = channels.start * taps + tap * channels.len();
                        segments.push(Segment {
                            rows,
                            values,
                            start: start * self.line,
                        });
                    }
                }
            }
        }
        sums.copy_from_slice(&self.bias);
        // SAFETY: a segment's rows are places of channels within their block, whose lines begin at its start.
        unsafe { Kernels::best().add_rows(segments, &self.weight, self.line, sums) };
        spikes
    }
}
