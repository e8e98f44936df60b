//! Where currents are added up, and what is kept from one patch of a map to the next.

use std::ops::Range;

use super::layer::{Weighted, Window};
use super::raster::Raster;
use crate::ops::aligned::Aligned;
use crate::ops::events::{Kernels, Lists};

/// Output positions whose currents are added up together.
#[derive(Debug)]
pub(super) struct Patch {
    pub(super) images: Range<usize>,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// Groups of output channels that are added up side by side.
pub(super) fn groups(line: usize) -> impl Iterator<Item = Range<usize>> {
    let together = Kernels::best().columns();
    (0..line)
        .step_by(together)
        .map(move |first| first..(first + together).min(line))
}

/// What a stage adds at a row of outputs.
#[derive(Debug)]
pub(super) struct Listed {
    /// The block of channels, and the first row of inputs; none if the lists are out of date.
    pub(super) of: Option<(usize, usize)>,
    pub(super) lists: Lists,
}

/// What a layer needs to add up currents, and the currents of some positions.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Of each family, in each slot.
    pub(super) lists: Vec<Vec<Listed>>,
    /// Slots of a family in use.
    pub(super) slots: usize,
    pub(super) taps: Vec<usize>,
    /// `[groups][rows of outputs][cells of the row and one to spare][channels of the group]`
    pub(super) sums: Aligned,
    line: usize,
    /// Cells of all rows, with those to spare.
    pub(super) cells: usize,
    steps: usize,
    /// Positions that follow one another, and their first cell among all.
    runs: Vec<(Range<usize>, usize)>,
}

impl Work {
    /// Makes room for the lists of patches of so many rows, and forgets all lists.
    pub(super) fn begin(&mut self, layer: &Weighted, rows: usize) {
        self.slots = (rows - 1) * layer.window.stride + layer.kernel;
        let families = layer.families.max(self.lists.len());
        self.lists.resize_with(families, Vec::new);
        for family in &mut self.lists[..layer.families] {
            let empty = || Listed {
                of: None,
                lists: Kernels::best().lists(),
            };
            family.resize_with(self.slots.max(family.len()), empty);
        }
        for listed in self.lists.iter_mut().flatten() {
            listed.of = None;
        }
    }

    /// Makes room for the sums of a patch.
    pub(super) fn hold(&mut self, layer: &Weighted, patch: &Patch, steps: usize) {
        let Window {
            out_height,
            out_width,
            ..
        } = layer.window;
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
        groups(self.line).flat_map(move |group| {
            let width = group.len();
            let sums = &self.sums[group.start * self.cells..];
            self.runs.iter().map(move |(positions, first)| {
                let sums = &sums[first * width..][..positions.len() * self.steps * width];
                (group.clone(), positions.clone(), sums)
            })
        })
    }
}
