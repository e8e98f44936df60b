//! One weighted layer, as a sum of the rows of its weight that events select.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::raster::Raster;
use crate::Result;
use crate::ops::aligned::Aligned;
use crate::ops::cpu::with_values;
use crate::ops::events::{Kernels, Lists, Spikes};
use crate::ops::packed::channel_blocks;

/// Bytes of a weight's rows that stay in the first-level cache while they are added up.
const CACHED: usize = 28 << 10;

/// A convolution, or a linear layer as a convolution of one position, with its weight as rows of output channels,
/// `[stage][columns][taps of the stage, channels of its block, and one of zeros][O of these columns, filled up to whole
/// vectors]`.
#[derive(Debug)]
pub(crate) struct Weighted {
    /// Index in the topology.
    pub(super) layer: usize,
    pub(super) out_channels: usize,
    channels: usize,
    kernel: usize,
    window: Window,
    /// Output channels, filled up to whole vectors.
    pub(crate) line: usize,
    stages: Vec<Stage>,
    weight: Aligned,
    /// A line.
    bias: Vec<f32>,
}

/// How a window moves over a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) out_height: usize,
    pub(crate) out_width: usize,
}

/// Some taps over a block of channels.
#[derive(Debug, Clone)]
struct Stage {
    block: usize,
    channels: Range<usize>,
    taps: Range<usize>,
    /// Rows of the stages before it.
    start: usize,
}

impl Stage {
    /// Rows, with the one of zeros.
    fn rows(&self) -> usize {
        self.taps.len() * self.channels.len() + 1
    }

    /// All of a layer, in the order in which a dense convolution adds.
    fn all(channels: usize, taps: usize) -> Vec<Self> {
        let width = Kernels::best().columns() * size_of::<f32>();
        let (mut stages, mut start) = (Vec::new(), 0);
        for (block, channels) in channel_blocks(channels).enumerate() {
            // a row's number fits in a byte
            let most = usize::from(u8::MAX).min(CACHED / width) / channels.len();
            let parts = taps.div_ceil(most.max(1));
            for part in 0..parts {
                let stage = Self {
                    block,
                    channels: channels.clone(),
                    taps: part * taps / parts..(part + 1) * taps / parts,
                    start,
                };
                start += stage.rows();
                stages.push(stage);
            }
        }
        stages
    }
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
        let line = out_channels.next_multiple_of(Kernels::best().lanes);
        let stages = Stage::all(channels, kernel * kernel);
        let rows = with_values(weight, |weight| {
            arranged(weight, out_channels, channels, kernel * kernel, &stages)
        })?;
        let mut start = vec![0f32; line];
        if let Some(bias) = bias {
            with_values(bias, |bias| start[..out_channels].copy_from_slice(bias))?;
        }
        Ok(Self {
            layer,
            out_channels,
            channels,
            kernel,
            window,
            line,
            stages,
            weight: rows,
            bias: start,
        })
    }

    /// Spikes that meet a weight, each counted at every output position that it takes part in; each meets `out_channels`
    /// weights there.
    pub(super) fn met(&self, raster: &Raster) -> u64 {
        let windows = |side: usize, outputs: usize| -> Vec<u64> {
            let mut windows = vec![0; side];
            for i in 0..outputs {
                for tap in 0..self.kernel {
                    if let Some(place) = self.window.under(i, tap, side) {
                        windows[place] += 1;
                    }
                }
            }
            windows
        };
        let down = windows(raster.height, self.window.out_height);
        let across = windows(raster.width, self.window.out_width);
        let rows = raster.spikes.chunks_exact(raster.width).enumerate();
        rows.map(|(row, spikes)| {
            let met = spikes
                .iter()
                .zip(&across)
                .map(|(spikes, windows)| spikes * windows);
            down[row % raster.height] * met.sum::<u64>()
        })
        .sum()
    }

    /// Adds the currents of some output positions, those of one image after those of another, at all steps up in `work`.
    pub(crate) fn currents(&self, raster: &Raster, positions: Range<usize>, work: &mut Work) {
        assert!(raster.channels == self.channels);
        let (cells, kernels) = (positions.len() * raster.steps, Kernels::best());
        work.hold(self.line, cells);
        self.under(raster, positions, &mut work.taps);
        for (i, stage) in self.stages.iter().enumerate() {
            let spikes = Spikes {
                words: &raster.words,
                blocks: raster.blocks,
                counts: raster.counts(stage.block),
                values: raster.values.of_events(),
                line: raster.line,
                taps: &work.taps,
                per_position: self.kernel * self.kernel,
                some: stage.taps.clone(),
                block: stage.block,
                steps: raster.steps,
                channels: stage.channels.len(),
            };
            // the first stage begins every sum
            // SAFETY: a raster's counts are those of its words, which have no bits beyond their channels.
            unsafe { work.lists.fill(&spikes, i == 0) };
            for columns in columns(self.line) {
                let width = columns.len();
                let rows = self.rows(stage, &columns);
                let (weight, after) = self.weight[rows.start..].split_at(rows.len());
                let next = &after[..after.len().min(weight.len())];
                let sums = &mut work.sums[columns.start * (cells + 1)..][..width * (cells + 1)];
                let start = (i == 0).then_some(&self.bias[columns]);
                kernels.add(&work.lists, weight, start, sums, next);
            }
        }
    }

    /// Where the rows of a stage for some columns lie.
    fn rows(&self, stage: &Stage, columns: &Range<usize>) -> Range<usize> {
        let first = stage.start * self.line + stage.rows() * columns.start;
        first..first + stage.rows() * columns.len()
    }

    /// The cell under each tap at some output positions and the first step, in the padding that at which nothing fires.
    fn under(&self, raster: &Raster, positions: Range<usize>, taps: &mut Vec<usize>) {
        let Window {
            out_height,
            out_width,
            ..
        } = self.window;
        let silent = raster.positions();
        taps.clear();
        let mut position = positions.start;
        while position < positions.end {
            let (row, first) = (position / out_width, position % out_width);
            let (image, i) = (row / out_height, row % out_height);
            let count = (out_width - first).min(positions.end - position);
            let down: Vec<Option<usize>> = (0..self.kernel)
                .map(|a| self.window.under(i, a, raster.height))
                .map(|y| y.map(|y| (image * raster.height + y) * raster.width))
                .collect();
            for j in first..first + count {
                for row in &down {
                    for b in 0..self.kernel {
                        let x = self.window.under(j, b, raster.width);
                        let input = row.zip(x).map_or(silent, |(row, x)| row + x);
                        taps.push(input * raster.steps);
                    }
                }
            }
            position += count;
        }
    }
}

impl Window {
    /// The place under a tap of an output along a side of the map; none in the padding.
    fn under(&self, at: usize, tap: usize, side: usize) -> Option<usize> {
        let place = (at * self.stride + tap).checked_sub(self.padding)?;
        (place < side).then_some(place)
    }
}

/// Groups of columns that are added up side by side.
fn columns(line: usize) -> impl Iterator<Item = Range<usize>> {
    let together = Kernels::best().columns();
    (0..line)
        .step_by(together)
        .map(move |first| first..(first + together).min(line))
}

/// The weight `[O, C, taps]` as the rows of the stages.
fn arranged(
    weight: &[f32],
    out_channels: usize,
    channels: usize,
    taps: usize,
    stages: &[Stage],
) -> Aligned {
    let all = stages.last().map_or(0, |last| last.start + last.rows());
    let line = out_channels.next_multiple_of(Kernels::best().lanes);
    let mut rows = Aligned::zeros(all * line);
    let mut parts = Vec::new();
    let mut rest = &mut rows[..];
    for stage in stages {
        for columns in columns(line) {
            let (part, after) = rest.split_at_mut(stage.rows() * columns.len());
            parts.push((stage, columns, part));
            rest = after;
        }
    }
    parts.into_par_iter().for_each(|(stage, columns, part)| {
        let (width, outputs) = (columns.len(), columns.end.min(out_channels) - columns.start);
        let depth = channels * taps;
        for (c, channel) in stage.channels.clone().enumerate() {
            let from = &weight[columns.start * depth + channel * taps..];
            for (a, tap) in stage.taps.clone().enumerate() {
                let to = &mut part[(a * stage.channels.len() + c) * width..][..outputs];
                for (to, from) in to.iter_mut().zip(from[tap..].iter().step_by(depth)) {
                    *to = *from;
                }
            }
        }
    });
    rows
}

/// What a layer needs to add up currents, and the currents.
#[derive(Debug)]
pub(crate) struct Work {
    lists: Lists,
    taps: Vec<usize>,
    /// `[columns][cells and one to spare][width of the columns]`
    sums: Aligned,
    line: usize,
    cells: usize,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            lists: Kernels::best().lists(),
            taps: Vec::new(),
            sums: Aligned::default(),
            line: 0,
            cells: 0,
        }
    }
}

impl Work {
    /// Makes room for the sums of some cells.
    fn hold(&mut self, line: usize, cells: usize) {
        (self.line, self.cells) = (line, cells);
        self.sums.first((cells + 1) * line);
    }

    /// Adds `scale` times the events of some positions to the sums of their channels.
    pub(super) fn add_events(&mut self, raster: &Raster, scale: &[f32], positions: Range<usize>) {
        let together = Kernels::best().columns();
        for (at, position) in positions.enumerate() {
            for step in 0..raster.steps {
                let cell = at * raster.steps + step;
                raster.each(step, position, |channel, value| {
                    let first = channel / together * together;
                    let width = together.min(self.line - first);
                    let place = first * (self.cells + 1) + cell * width + channel - first;
                    self.sums[place] += scale[channel] * value;
                });
            }
        }
    }

    /// Groups of output channels, each with its currents `[cells, channels of the group]`; a cell is a position at a step,
    /// `[positions, steps]`.
    pub(crate) fn sums(&self) -> impl Iterator<Item = (Range<usize>, &[f32])> {
        columns(self.line).map(|columns| {
            let sums = &self.sums[columns.start * (self.cells + 1)..];
            let count = columns.len() * self.cells;
            (columns, &sums[..count])
        })
    }
}
