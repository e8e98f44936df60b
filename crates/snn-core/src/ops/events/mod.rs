//! What an event-driven layer does: finds the rows of its weight that spikes select, adds them up, and lets neurons fire.
//!
//! A cell is a position of the map at a step. Cells that add about as many rows are added up side by side, so that neither
//! the length of a sum nor the time a sum takes holds the processor up.

mod add;
mod fire;
mod lists;
mod numbers;
mod tally;

use std::sync::OnceLock;

pub(crate) use self::fire::{Currents, Fired, Neurons};
pub(crate) use self::lists::{Lists, SEGMENT, Spikes, Values};
pub(crate) use self::tally::{ROOM, tally};
use crate::neuron::NeuronSettings;
use crate::ops::level::Sets;

/// A set of instructions and the functions that use it.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Numbers of a vector.
    pub(crate) lanes: usize,
    /// Cells that are added up side by side.
    side: usize,
    /// By number of vectors, from one.
    add: [add::Add; 2],
    fire: fire::Fire,
    mark: numbers::Mark,
    compress: numbers::Compress,
}

static SETS: Sets<Kernels> = Sets {
    #[cfg(target_arch = "x86_64")]
    avx512: &x86::AVX512,
    #[cfg(target_arch = "x86_64")]
    avx2: &x86::AVX2,
    portable: &PORTABLE,
};

impl Kernels {
    /// The widest that this processor has.
    pub(crate) fn best() -> &'static Self {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| SETS.best(|set| set.lanes))
    }

    /// Output channels that are added up side by side.
    pub(crate) fn columns(&self) -> usize {
        self.add.len() * self.lanes
    }

    /// Lists of rows for [`Kernels::add`].
    pub(crate) fn lists(&self) -> Lists {
        Lists::new(self.side)
    }

    /// `sums[cell, j] += sum over the cell's list of value * weight[row, j]`, one chain of fused multiply-adds for each j in
    /// the order of the list: what a dense product computes whose chains have the same order, as those of zeros change
    /// nothing. The sums begin with `start` if there is one, else with what is there. `weight`
    /// `[rows, width]`, its last row zero; `sums` `[cells + 1, width]`, the last line being spare. `next` is what will be
    /// read after this: it is brought to the second-level cache on the way.
    pub(crate) fn add(
        &self,
        lists: &Lists,
        weight: &[f32],
        start: Option<&[f32]>,
        sums: &mut [f32],
        next: &[f32],
    ) {
        let width = weight.len() / lists.rows_of_weight();
        assert!(lists.side() == self.side && width.is_multiple_of(self.lanes));
        assert!(weight.len() == lists.rows_of_weight() * width);
        assert!(sums.len() == (lists.cells() + 1) * width);
        assert!(start.is_none_or(|start| start.len() == width));
        let add = self.add[width / self.lanes - 1];
        let start = start.map_or(std::ptr::null(), <[f32]>::as_ptr);
        // SAFETY: the lists hold rows of such a weight and such cells; the instructions are the processor's.
        unsafe { add(lists, weight.as_ptr(), start, sums.as_mut_ptr(), next) }
    }

    /// Lets neurons integrate their currents over all steps, and sets a bit for each spike.
    pub(crate) fn fire(
        &self,
        settings: &NeuronSettings,
        currents: Currents,
        neurons: Neurons,
        fired: Fired,
    ) {
        let channels = neurons.thresholds.len();
        let row = fired.steps * fired.width;
        assert!(row > 0 && fired.words.len().is_multiple_of(row));
        assert!(channels.is_multiple_of(self.lanes) && fired.first.is_multiple_of(self.lanes));
        assert!((fired.first + channels).div_ceil(64) <= fired.width);
        let Some(last) = (fired.words.len() / row).checked_sub(1) else {
            return;
        };
        let end = last * neurons.line + channels;
        assert!(end <= neurons.membranes.len() && end <= neurons.counts.len());
        let end = last * currents.position + (fired.steps - 1) * currents.step + channels;
        assert!(end <= currents.values.len());
        // SAFETY: the sizes were checked; the instructions are the processor's.
        unsafe { (self.fire)(settings, currents, neurons, fired) }
    }

    /// The numbers at the places of the bits, one after another; what follows them in `to` is undefined.
    pub(crate) fn compress(&self, word: u64, numbers: &[f32], to: &mut [f32]) {
        assert!(numbers.len() == to.len() && to.len() <= 64 && to.len().is_multiple_of(self.lanes));
        // SAFETY: the instructions are the processor's.
        unsafe { (self.compress)(word, numbers, to) }
    }

    /// A bit for each of up to 64 numbers that is not zero.
    pub(crate) fn mark(&self, numbers: &[f32]) -> u64 {
        assert!(numbers.len() <= 64 && numbers.len().is_multiple_of(self.lanes));
        // SAFETY: the instructions are the processor's.
        unsafe { (self.mark)(numbers) }
    }
}

macro_rules! kernels {
    ($name:ident, $vector:ty, $side:literal $(, $feature:literal)?) => {
        pub(super) static $name: Kernels = {
            $(#[target_feature(enable = $feature)])?
            unsafe fn add<const B: usize>(
                lists: &Lists,
                weight: *const f32,
                start: *const f32,
                sums: *mut f32,
                next: &[f32],
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::add::add::<$vector, $side, B>(lists, weight, start, sums, next) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn fire(
                settings: &NeuronSettings,
                currents: Currents,
                neurons: Neurons,
                fired: Fired,
            ) {
                // SAFETY: the caller's promise.
                unsafe { super::fire::fire::<$vector>(settings, currents, neurons, fired) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn mark(numbers: &[f32]) -> u64 {
                // SAFETY: the caller's promise.
                unsafe { super::numbers::mark::<$vector>(numbers) }
            }

            $(#[target_feature(enable = $feature)])?
            unsafe fn compress(word: u64, numbers: &[f32], to: &mut [f32]) {
                // SAFETY: the caller's promise.
                unsafe { super::numbers::compress::<$vector>(word, numbers, to) }
            }

            Kernels {
                lanes: <$vector as Vector>::LANES,
                side: $side,
                add: [add::<1>, add::<2>],
                fire,
                mark,
                compress,
            }
        };
    };
}

mod portable {
    use super::{Currents, Fired, Kernels, Lists, NeuronSettings, Neurons};
    use crate::ops::simd::{Four, Vector};

    kernels!(PORTABLE, Four, 4);
}
use portable::PORTABLE;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Currents, Fired, Kernels, Lists, NeuronSettings, Neurons};
    use crate::ops::simd::Vector;
    use crate::ops::simd::x86::{Eight, Sixteen};

    // 32 registers: 16 sums; 16 registers: 8 sums
    kernels!(AVX512, Sixteen, 8, "avx512f");
    kernels!(AVX2, Eight, 4, "avx2,fma");
}
