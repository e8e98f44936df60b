//! One weighted layer, as a sum of the rows of its weight that events select.

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use super::raster::Raster;
use super::stage::Stage;
use super::work::{Patch, Work, groups};
use crate::Result;
use crate::ops::aligned::Aligned;
use crate::ops::cpu::with_values;
use crate::ops::events::{Kernels, Spikes};

/// A convolution, or a linear layer as a convolution of one position, with its weight as rows of output channels,
/// `[stage][group][taps of the stage, channels of its block, and one of zeros][O of this group, filled up to whole
/// vectors]`.
#[derive(Debug)]
pub(crate) struct Weighted {
    /// Index in the topology.
    pub(super) layer: usize,
    pub(super) out_channels: usize,
    channels: usize,
    pub(super) kernel: usize,
    pub(super) window: Window,
    /// Output channels, filled up to whole vectors.
    pub(crate) line: usize,
    stages: Vec<Stage>,
    /// Families of stages.
    pub(super) families: usize,
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
            families: 1 + stages.iter().map(|stage| stage.family).max().unwrap_or(0),
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
        let images = (together / (width * steps)).min(all).max(1);
        let columns = (together / (images * steps)).clamp(1, width);
        let rows = (together / (images * columns * steps)).clamp(1, height);
        for image in (0..all).step_by(images) {
            for column in (0..width).step_by(columns) {
                work.begin(self, rows);
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
            for group in groups(self.line) {
                let weights = self.weights(stage, &group);
                let (weight, after) = self.weight[weights.start..].split_at(weights.len());
                let mut next = &after[..after.len().min(weight.len())];
                let width = group.len();
                let sums = &mut work.sums[group.start * work.cells..][..width * work.cells];
                let sums = sums.chunks_exact_mut(width * (cells + 1));
                // the first stage begins every sum
                let start = (i == 0).then_some(&self.bias[group]);
                for (row, sums) in patch.rows.clone().zip(sums) {
                    let slot = self.slot(row, stage, work.slots);
                    let lists = &work.lists[stage.family][slot].lists;
                    kernels.add(lists, weight, start, sums, std::mem::take(&mut next));
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

    /// Lists what a stage adds at a row of outputs, unless its slot still holds that.
    fn list(&self, raster: &Raster, stage: &Stage, patch: &Patch, row: usize, work: &mut Work) {
        let (top, slot) = (self.top(row, stage), self.slot(row, stage, work.slots));
        let listed = &mut work.lists[stage.family][slot];
        let wanted = Some((stage.block, top));
        if listed.of == wanted {
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
        unsafe { listed.lists.fill(&spikes) };
        listed.of = wanted;
    }

    /// Where the weights of a stage for a group of output channels lie.
    fn weights(&self, stage: &Stage, group: &Range<usize>) -> Range<usize> {
        let first = stage.start * self.line + stage.rows() * group.start;
        first..first + stage.rows() * group.len()
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

impl Window {
    /// The place under a tap of an output along a side of the map; none in the padding.
    fn under(&self, at: usize, tap: usize, side: usize) -> Option<usize> {
        let place = (at * self.stride + tap).checked_sub(self.padding)?;
        (place < side).then_some(place)
    }
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
        for group in groups(line) {
            let (part, after) = rest.split_at_mut(stage.rows() * group.len());
            parts.push((stage, group, part));
            rest = after;
        }
    }
    parts.into_par_iter().for_each(|(stage, group, part)| {
        let (width, outputs) = (group.len(), group.end.min(out_channels) - group.start);
        let depth = channels * taps;
        for (c, channel) in stage.channels.clone().enumerate() {
            let from = &weight[group.start * depth + channel * taps..];
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::ops::conv2d::{Sums, conv2d_with};
    use crate::rng::Seed;

    /// The currents `[images, O, H', W']` at each step, `together` cells at a time.
    fn currents(
        layer: &Weighted,
        raster: &Raster,
        together: usize,
        work: &mut Work,
    ) -> Vec<Vec<f32>> {
        let plane = layer.window.out_height * layer.window.out_width;
        let size = raster.images * layer.out_channels * plane;
        let mut all = vec![vec![f32::NAN; size]; raster.steps];
        layer.currents(raster, together, work, |work| {
            for (group, positions, sums) in work.sums() {
                for (at, position) in positions.enumerate() {
                    for (step, all) in all.iter_mut().enumerate() {
                        let cell = at * raster.steps + step;
                        for (c, sum) in group.clone().zip(&sums[cell * group.len()..]) {
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

    /// What one row of the kernel selected is not listed again for another row, unless all lists are forgotten.
    #[test]
    fn rows_of_a_kernel_share_their_lists() {
        let window = Window {
            stride: 1,
            padding: 1,
            out_height: 4,
            out_width: 5,
        };
        let weight = Seed::new(9).normal(&[16, 64, 3, 3], 0.0, 1.0, &Device::Cpu);
        let weight = weight.expect("a weight");
        let layer = Weighted::new(0, &weight, None, window).expect("a layer");
        let map = vec![1.0; 64 * 4 * 5];
        let raster = Raster::of_dense(std::iter::once(&map[..]), 1, [64, 4, 5]);
        let [first, second, _] = &layer.stages[..] else {
            panic!("a stage for each row of the kernel");
        };
        let patch = Patch {
            images: 0..1,
            rows: 0..1,
            columns: 0..5,
        };
        let mut work = Work::default();
        work.begin(&layer, 1);
        layer.list(&raster, second, &patch, 0, &mut work);
        let slot = layer.slot(0, second, work.slots);
        let lists = &mut work.lists[second.family][slot].lists;
        assert_eq!(lists.cells(), 5);
        *lists = Kernels::best().lists();
        let cells = |work: &Work| work.lists[first.family][slot].lists.cells();
        layer.list(&raster, first, &patch, 1, &mut work);
        assert_eq!(cells(&work), 0, "the same, and not listed again");
        work.begin(&layer, 1);
        layer.list(&raster, first, &patch, 1, &mut work);
        assert_eq!(cells(&work), 5);
    }

    /// However the map is cut, with whole kernels, rows of a kernel and parts of rows as stages, and whatever was added up
    /// before, bit for bit.
    #[test]
    fn currents_are_those_of_a_dense_convolution() {
        let mut work = Work::default();
        for (channels, kernel, stride, padding, [height, width]) in [
            (5, 3, 1, 1, [6, 7]),
            (70, 3, 1, 1, [5, 4]),
            (70, 3, 2, 1, [8, 8]),
            (40, 3, 1, 0, [7, 5]),
            (64, 5, 1, 2, [6, 6]),
            (33, 5, 3, 4, [7, 9]),
            (33, 3, 2, 5, [4, 3]),
            (130, 1, 2, 0, [4, 6]),
        ] {
            let seed = Seed::new(8).index((channels * kernel + stride) as u64);
            let (images, steps, out_channels) = (3, 2, 41);
            let draw = |shape: &[usize], purpose: &str| {
                seed.derive(purpose)
                    .normal(shape, 0.0, 1.0, &Device::Cpu)
                    .expect("numbers")
            };
            let weight = draw(&[out_channels, channels, kernel, kernel], "weight");
            let bias = draw(&[out_channels], "bias");
            let side = |side: usize| (side + 2 * padding - kernel) / stride + 1;
            let window = Window {
                stride,
                padding,
                out_height: side(height),
                out_width: side(width),
            };
            let layer = Weighted::new(0, &weight, Some(&bias), window).expect("a layer");
            for purpose in ["maps", "other maps"] {
                let maps = draw(&[steps * images, channels, height, width], purpose);
                let spikes = maps.gt(1.0).and_then(|fired| fired.to_dtype(DType::F32));
                let spikes = spikes.expect("spikes");
                let dense = conv2d_with(
                    &spikes,
                    &weight,
                    Some(&bias),
                    stride,
                    padding,
                    Sums::Ordered,
                )
                .and_then(|y| Ok(y.reshape((steps, ()))?.to_vec2::<f32>()?))
                .expect("a convolution");
                let spikes = spikes.flatten_all().and_then(|spikes| spikes.to_vec1());
                let spikes: Vec<f32> = spikes.expect("numbers");
                let maps = spikes.chunks_exact(channels * height * width);
                let raster = Raster::of_dense(maps, images, [channels, height, width]);
                for together in [1 << 20, 1, 7, 24, 60] {
                    let ours = currents(&layer, &raster, together, &mut work);
                    assert_eq!(ours, dense, "{channels} {kernel} {together}");
                }
            }
        }
    }
}
