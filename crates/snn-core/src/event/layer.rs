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
    /// Number of the family: its stages have the same taps of different rows of the kernel, so that what one of them adds
    /// at a row of outputs another one adds at another row. Stages of whole kernels, which share nothing, have number 0.
    family: usize,
}

impl Stage {
    /// Rows, with the one of zeros.
    fn rows(&self) -> usize {
        self.taps.len() * self.channels.len() + 1
    }

    /// All of a layer, in the order in which a dense convolution adds.
    fn all(channels: usize, kernel: usize) -> Vec<Self> {
        let width = Kernels::best().columns() * size_of::<f32>();
        let (mut stages, mut start, mut families) = (Vec::new(), 0, 1);
        for (block, channels) in channel_blocks(channels).enumerate() {
            // a row's number fits in a byte
            let most = usize::from(u8::MAX).min(CACHED / width) / channels.len();
            let most = most.max(1);
            let mut push = |taps, family| {
                let stage = Self {
                    block,
                    channels: channels.clone(),
                    taps,
                    start,
                    family,
                };
                start += stage.rows();
                stages.push(stage);
            };
            if kernel * kernel <= most {
                push(0..kernel * kernel, 0);
                continue;
            }
            let parts = kernel.div_ceil(most);
            for first in (0..kernel).map(|row| row * kernel) {
                for part in 0..parts {
                    let taps = part * kernel / parts..(part + 1) * kernel / parts;
                    push(first + taps.start..first + taps.end, families + part);
                }
            }
            families += parts;
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
        let stages = Stage::all(channels, kernel);
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

    /// Adds up the currents of all output positions at all steps, of about `together` cells at a time; `each` finds them in
    /// `work`. A cell is a position at a step.
    pub(crate) fn currents(
        &self,
        raster: &Raster,
        together: usize,
        work: &mut Work,
        mut each: impl FnMut(&mut Work),
    ) {
        assert!(raster.channels == self.channels);
        let (all, steps) = (raster.images, raster.steps);
        let Window {
            out_height: height,
            out_width: width,
            ..
        } = self.window;
        let images = (together / (width * steps)).clamp(1, all);
        let columns = (together / (images * steps)).clamp(1, width);
        let rows = (together / (images * columns * steps)).clamp(1, height);
        for image in (0..all).step_by(images) {
            for column in (0..width).step_by(columns) {
                work.forget();
                for row in (0..height).step_by(rows) {
                    let patch = Patch {
                        images: image..all.min(image + images),
                        rows: row..height.min(row + rows),
                        columns: column..width.min(column + columns),
                    };
                    self.add_up(raster, &patch, work);
                    each(work);
                }
            }
        }
    }

    /// Adds up the currents of a patch.
    fn add_up(&self, raster: &Raster, patch: &Patch, work: &mut Work) {
        let kernels = Kernels::best();
        let steps = raster.steps;
        let cells = patch.images.len() * patch.columns.len() * steps;
        work.hold(self, patch, steps);
        for (i, stage) in self.stages.iter().enumerate() {
            for row in patch.rows.clone() {
                self.list(raster, stage, patch, row, work);
            }
            for columns in columns(self.line) {
                let rows = self.rows(stage, &columns);
                let (weight, after) = self.weight[rows.start..].split_at(rows.len());
                let mut next = &after[..after.len().min(weight.len())];
                // the first stage begins every sum
                let start = (i == 0).then_some(&self.bias[columns.clone()]);
                let strips = work.sums[columns.start * work.cells..][..columns.len() * work.cells]
                    .chunks_exact_mut(columns.len() * (cells + 1));
                for (row, sums) in patch.rows.clone().zip(strips) {
                    let lists = &work.lists[stage.family][self.slot(row, stage, work.slots)];
                    kernels.add(&lists.1, weight, start, sums, std::mem::take(&mut next));
                }
            }
        }
    }

    /// The first row of inputs under a stage at a row of outputs, from the first row of the padding on.
    fn top(&self, row: usize, stage: &Stage) -> usize {
        row * self.window.stride + stage.taps.start / self.kernel
    }

    /// The place of the lists that a stage adds at a row of outputs.
    fn slot(&self, row: usize, stage: &Stage, slots: usize) -> usize {
        self.top(row, stage) % slots
    }

    /// Lists what a stage adds at a row of outputs, unless an earlier stage of its family has added the same elsewhere.
    fn list(&self, raster: &Raster, stage: &Stage, patch: &Patch, row: usize, work: &mut Work) {
        let (top, slot) = (self.top(row, stage), self.slot(row, stage, work.slots));
        let (listed, lists) = &mut work.lists[stage.family][slot];
        let wanted = Some((stage.block, top));
        if std::mem::replace(listed, wanted) == wanted {
            return;
        }
        self.under(raster, stage, patch, top, &mut work.taps);
        let spikes = Spikes {
            words: &raster.words,
            blocks: raster.blocks,
            counts: raster.counts(stage.block),
            values: raster.values.of_events(),
            line: raster.line,
            taps: &work.taps,
            per_position: stage.taps.len(),
            block: stage.block,
            steps: raster.steps,
            channels: stage.channels.len(),
        };
        // SAFETY: a raster's counts are those of its words, which have no bits beyond their channels.
        unsafe { lists.fill(&spikes) };
    }

    /// Where the rows of a stage for some columns lie.
    fn rows(&self, stage: &Stage, columns: &Range<usize>) -> Range<usize> {
        let first = stage.start * self.line + stage.rows() * columns.start;
        first..first + stage.rows() * columns.len()
    }

    /// The cell under each tap of a stage, whose first is over row `top`, at each position of a row of outputs and the first
    /// step; in the padding that at which nothing fires.
    fn under(
        &self,
        raster: &Raster,
        stage: &Stage,
        patch: &Patch,
        top: usize,
        taps: &mut Vec<usize>,
    ) {
        let (height, width, kernel) = (raster.height, raster.width, self.kernel);
        let row = stage.taps.start / kernel;
        let silent = raster.positions();
        taps.clear();
        for image in patch.images.clone() {
            for column in patch.columns.clone() {
                for tap in stage.taps.clone() {
                    let y = (top + tap / kernel - row).checked_sub(self.window.padding);
                    let y = y.filter(|&y| y < height);
                    let x = self.window.under(column, tap % kernel, width);
                    let place = |(y, x)| (image * height + y) * width + x;
                    taps.push(y.zip(x).map_or(silent, place) * raster.steps);
                }
            }
        }
    }
}

/// Output positions whose currents are added up together.
#[derive(Debug)]
struct Patch {
    images: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
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

/// What a layer needs to add up currents, and the currents of some positions.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Of each family, in each slot: of which block and from which row of inputs on the lists are, and the lists.
    lists: Vec<Vec<(Option<(usize, usize)>, Lists)>>,
    /// Slots of a family in use.
    slots: usize,
    taps: Vec<usize>,
    /// `[columns][rows of outputs][cells of the row and one to spare][width of the columns]`
    sums: Aligned,
    line: usize,
    /// Cells of all rows, with those to spare.
    cells: usize,
    steps: usize,
    /// Positions that follow one another, and their first cell among all.
    runs: Vec<(Range<usize>, usize)>,
}

impl Work {
    /// Forgets all lists.
    fn forget(&mut self) {
        for (listed, _) in self.lists.iter_mut().flatten() {
            *listed = None;
        }
    }

    /// Makes room for the lists and the sums of a patch.
    fn hold(&mut self, layer: &Weighted, patch: &Patch, steps: usize) {
        let Window {
            stride,
            out_height,
            out_width,
            ..
        } = layer.window;
        let slots = (patch.rows.len() - 1) * stride + layer.kernel;
        if slots != self.slots {
            self.forget();
            self.slots = slots;
        }
        let families = 1 + layer
            .stages
            .iter()
            .map(|stage| stage.family)
            .max()
            .unwrap_or(0);
        self.lists
            .resize_with(families.max(self.lists.len()), Vec::new);
        for lists in &mut self.lists[..families] {
            let empty = || (None, Kernels::best().lists());
            lists.resize_with(slots.max(lists.len()), empty);
        }
        let (images, width) = (patch.images.len(), patch.columns.len());
        let cells = images * width * steps + 1;
        (self.line, self.cells, self.steps) = (layer.line, patch.rows.len() * cells, steps);
        self.sums.first(self.cells * self.line);
        self.runs.clear();
        for (i, row) in patch.rows.clone().enumerate() {
            for (j, image) in patch.images.clone().enumerate() {
                let first = (image * out_height + row) * out_width + patch.columns.start;
                let cell = i * cells + j * width * steps;
                self.runs.push((first..first + width, cell));
            }
        }
    }

    /// Adds `scale` times the events at the same positions to the sums of their channels.
    pub(super) fn add_events(&mut self, raster: &Raster, scale: &[f32]) {
        let together = Kernels::best().columns();
        for (positions, first) in &self.runs {
            for (at, position) in positions.clone().enumerate() {
                for step in 0..raster.steps {
                    let cell = first + at * raster.steps + step;
                    raster.each(step, position, |channel, value| {
                        let first = channel / together * together;
                        let width = together.min(self.line - first);
                        let place = first * self.cells + cell * width + channel - first;
                        self.sums[place] += scale[channel] * value;
                    });
                }
            }
        }
    }

    /// Groups of output channels and positions that follow one another, with their currents
    /// `[positions, steps, channels of the group]`.
    pub(crate) fn sums(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>, &[f32])> {
        columns(self.line).flat_map(move |columns| {
            let width = columns.len();
            let sums = &self.sums[columns.start * self.cells..];
            self.runs.iter().map(move |(positions, first)| {
                let sums = &sums[first * width..][..positions.len() * self.steps * width];
                (columns.clone(), positions.clone(), sums)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::rng::Seed;

    /// The currents `[images, O, H', W']` at each step, `together` cells at a time.
    fn currents(layer: &Weighted, raster: &Raster, together: usize) -> Vec<Vec<f32>> {
        let plane = layer.window.out_height * layer.window.out_width;
        let size = raster.images * layer.out_channels * plane;
        let mut all = vec![vec![f32::NAN; size]; raster.steps];
        layer.currents(raster, together, &mut Work::default(), |work| {
            for (columns, positions, sums) in work.sums() {
                for (at, position) in positions.enumerate() {
                    for (step, all) in all.iter_mut().enumerate() {
                        let cell = at * raster.steps + step;
                        for (c, sum) in columns.clone().zip(&sums[cell * columns.len()..]) {
                            if c < layer.out_channels {
                                let (image, place) = (position / plane, position % plane);
                                all[(image * layer.out_channels + c) * plane + place] = *sum;
                            }
                        }
                    }
                }
            }
        });
        all
    }

    /// However the map is cut, with whole kernels, rows of a kernel and parts of rows as stages, against the dense
    /// convolution.
    #[test]
    fn currents_are_those_of_a_dense_convolution() {
        for (channels, kernel, stride, padding, [height, width]) in [
            (5, 3, 1, 1, [6, 7]),
            (70, 3, 1, 1, [5, 4]),
            (70, 3, 2, 1, [8, 8]),
            (40, 3, 1, 0, [7, 5]),
            (64, 5, 1, 2, [6, 6]),
            (33, 5, 3, 4, [7, 9]),
            (130, 1, 2, 0, [4, 6]),
        ] {
            let seed = Seed::new(8).index(channels as u64);
            let (images, steps, out_channels) = (3, 2, 41);
            let draw = |shape: &[usize], purpose: &str| {
                seed.derive(purpose)
                    .normal(shape, 0.0, 1.0, &Device::Cpu)
                    .expect("numbers")
            };
            let weight = draw(&[out_channels, channels, kernel, kernel], "weight");
            let bias = draw(&[out_channels], "bias");
            let maps = draw(&[steps * images, channels, height, width], "maps");
            let spikes = maps
                .gt(1.0)
                .and_then(|fired| fired.to_dtype(candle_core::DType::F32))
                .expect("spikes");
            let side = |side: usize| (side + 2 * padding - kernel) / stride + 1;
            let window = Window {
                stride,
                padding,
                out_height: side(height),
                out_width: side(width),
            };
            let layer = Weighted::new(0, &weight, Some(&bias), window).expect("a layer");
            let numbers: Vec<f32> = spikes
                .flatten_all()
                .and_then(|spikes| spikes.to_vec1())
                .expect("numbers");
            let shape = [channels, height, width];
            let maps = numbers.chunks_exact(channels * height * width);
            let raster = Raster::of_dense(maps, images, shape);
            let dense = spikes
                .conv2d(&weight, padding, stride, 1, 1)
                .and_then(|y| y.broadcast_add(&bias.reshape((1, out_channels, 1, 1))?))
                .and_then(|y| y.reshape((steps, ())))
                .and_then(|y| y.to_vec2::<f32>())
                .expect("a convolution");
            let whole = currents(&layer, &raster, 1 << 20);
            for (ours, dense) in whole.iter().flatten().zip(dense.iter().flatten()) {
                assert!((ours - dense).abs() < 1e-3, "{ours} {dense}");
            }
            for together in [1, 7, 24, 60] {
                assert_eq!(currents(&layer, &raster, together), whole, "{together}");
            }
        }
    }
}
