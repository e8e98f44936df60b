//! What an event-driven layer does at one position and step: adds the rows of the weight that its events select, and
//! lets the neurons of the position fire.

use std::sync::OnceLock;

use super::simd::{Four, Vector};
use crate::neuron::{Firing, NeuronSettings, Reset};

/// Events whose rows lie in one block of the weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// Row of each event, from the start of the block.
    pub(crate) rows: &'a [u8],
    /// Factor of each event; none where all are 1.
    pub(crate) values: Option<&'a [f32]>,
    /// Where the block starts.
    pub(crate) start: usize,
}

/// # Safety
/// Every row that a segment selects lies in the weight, with `B` vectors from its start on; `sums` is valid for as many;
/// the instructions exist.
type Add = unsafe fn(segments: &[Segment], weight: *const f32, line: usize, sums: *mut f32);

/// # Safety
/// The instructions exist.
type Fire = unsafe fn(
    settings: &NeuronSettings,
    currents: &[f32],
    thresholds: &[f32],
    membranes: &mut [f32],
    fired: &mut [u8],
);

/// A set of instructions and the functions that use it.
#[derive(Debug)]
pub(crate) struct Kernels {
    /// Numbers of a vector.
    pub(crate) lanes: usize,
    /// By number of vectors, from one.
    add: [Add; 8],
    fire: Fire,
}

impl Kernels {
    /// The widest that this processor has.
    pub(crate) fn best() -> &'static Self {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| Self::all()[0])
    }

    /// All that this processor has, the widest first.
    fn all() -> Vec<&'static Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                all.push(&x86::AVX512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(&x86::AVX2);
            }
        }
        all.push(&PORTABLE);
        all
    }

    /// `sums[j] += sum over events of value * weight[start + row * line + j]`, one chain of fused multiply-adds for each j
    /// in the order of the events: what a dense product computes whose chains have the same order, as those of zeros
    /// change nothing.
    ///
    /// # Safety
    /// Every row that a segment selects lies in `weight`, `line` numbers from its start on.
    pub(crate) unsafe fn add_rows(
        &self,
        segments: &[Segment],
        weight: &[f32],
        line: usize,
        sums: &mut [f32],
    ) {
        assert!(sums.len() == line && line.is_multiple_of(self.lanes));
        let most = self.add.len() * self.lanes;
        for first in (0..line).step_by(most) {
            let vectors = (line - first).min(most) / self.lanes;
            // SAFETY: the columns end within the line; the rows are the caller's promise.
            unsafe {
                let (weight, sums) = (weight.as_ptr().add(first), sums.as_mut_ptr().add(first));
                (self.add[vectors - 1])(segments, weight, line, sums);
            }
        }
    }

    /// One step of the neurons: integrates `currents` into `membranes`, and says who fired (1 or 0).
    pub(crate) fn fire(
        &self,
        settings: &NeuronSettings,
        currents: &[f32],
        thresholds: &[f32],
        membranes: &mut [f32],
        fired: &mut [u8],
    ) {
        // SAFETY: these kernels were chosen because the processor has their instructions.
        unsafe { (self.fire)(settings, currents, thresholds, membranes, fired) }
    }
}

/// # Safety
/// As [`Add`].
#[inline(always)]
unsafe fn add<V: Vector, const B: usize>(
    segments: &[Segment],
    weight: *const f32,
    line: usize,
    sums: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let mut totals: [V; B] = std::array::from_fn(|v| V::load(sums.add(v * V::LANES)));
        for segment in segments {
            let block = weight.add(segment.start);
            let mut row = |row: u8, value: V| {
                let from = block.add(usize::from(row) * line);
                for (v, total) in totals.iter_mut().enumerate() {
                    *total = total.plus(value, V::load(from.add(v * V::LANES)));
                }
            };
            match segment.values {
                None => {
                    let one = V::splat(1.0);
                    segment.rows.iter().for_each(|&event| row(event, one));
                }
                Some(values) => {
                    for (&event, &value) in segment.rows.iter().zip(values) {
                        row(event, V::splat(value));
                    }
                }
            }
        }
        for (v, total) in totals.into_iter().enumerate() {
            total.store(sums.add(v * V::LANES));
        }
    }
}

#[inline(always)]
fn fire(
    settings: &NeuronSettings,
    currents: &[f32],
    thresholds: &[f32],
    membranes: &mut [f32],
    fired: &mut [u8],
) {
    match (settings.reset, settings.firing) {
        (Reset::Soft, Firing::Above) => {
            step::<false, false>(settings.leak, currents, thresholds, membranes, fired);
        }
        (Reset::Soft, Firing::AtOrAbove) => {
            step::<false, true>(settings.leak, currents, thresholds, membranes, fired);
        }
        (Reset::Hard, Firing::Above) => {
            step::<true, false>(settings.leak, currents, thresholds, membranes, fired);
        }
        (Reset::Hard, Firing::AtOrAbove) => {
            step::<true, true>(settings.leak, currents, thresholds, membranes, fired);
        }
    }
}

#[inline(always)]
fn step<const HARD: bool, const AT: bool>(
    leak: f32,
    currents: &[f32],
    thresholds: &[f32],
    membranes: &mut [f32],
    fired: &mut [u8],
) {
    let neurons = currents.iter().zip(thresholds).zip(membranes).zip(fired);
    for (((current, &threshold), membrane), fired) in neurons {
        let u = leak * *membrane + current;
        let fires = if AT { u >= threshold } else { u > threshold };
        let reset = if HARD { 0.0 } else { u - threshold };
        *membrane = if fires { reset } else { u };
        *fired = u8::from(fires);
    }
}

macro_rules! kernels {
    ($name:ident, $vector:ty, $add:ident, $fire:ident, $($feature:literal)?) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $add<const B: usize>(
            segments: &[Segment],
            weight: *const f32,
            line: usize,
            sums: *mut f32,
        ) {
            // SAFETY: the caller's promise.
            unsafe { add::<$vector, B>(segments, weight, line, sums) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn $fire(
            settings: &NeuronSettings,
            currents: &[f32],
            thresholds: &[f32],
            membranes: &mut [f32],
            fired: &mut [u8],
        ) {
            fire(settings, currents, thresholds, membranes, fired);
        }

        pub(super) static $name: Kernels = Kernels {
            lanes: <$vector as Vector>::LANES,
            add: [
                $add::<1>,
                $add::<2>,
                $add::<3>,
                $add::<4>,
                $add::<5>,
                $add::<6>,
                $add::<7>,
                $add::<8>,
            ],
            fire: $fire,
        };
    };
}

kernels!(PORTABLE, Four, add_portable, fire_portable,);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernels, NeuronSettings, Segment, Vector, add, fire};
    use crate::ops::simd::x86::{Eight, Sixteen};

    kernels!(AVX512, Sixteen, add_avx512, fire_avx512, "avx512f,avx512bw");
    kernels!(AVX2, Eight, add_avx2, fire_avx2, "avx2,fma");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, n: usize) -> Vec<f32> {
        let mut stream = crate::rng::Seed::new(seed).stream();
        (0..n).map(|_| stream.uniform() - 0.5).collect()
    }

    #[test]
    fn rows_are_added_with_their_values() {
        for kernels in Kernels::all() {
            for vectors in [1, 2, 5, 8, 9, 17] {
                let line = vectors * kernels.lanes;
                let weight = noise(1, 30 * line);
                let before = noise(2, line);
                let segments = [
                    Segment {
                        rows: &[0, 3, 9],
                        values: None,
                        start: 0,
                    },
                    Segment {
                        rows: &[],
                        values: None,
                        start: 5 * line,
                    },
                    Segment {
                        rows: &[1, 2],
                        values: Some(&[0.5, -1.0]),
                        start: 20 * line,
                    },
                ];
                let mut sums = before.clone();
                // SAFETY: rows up to 22 of 30 are selected.
                unsafe { kernels.add_rows(&segments, &weight, line, &mut sums) };
                for j in 0..line {
                    let at = |row: usize| f64::from(weight[row * line + j]);
                    let expected =
                        f64::from(before[j]) + at(0) + at(3) + at(9) + 0.5 * at(21) - at(22);
                    assert!((f64::from(sums[j]) - expected).abs() < 1e-6, "{line} {j}");
                }
            }
        }
    }

    #[test]
    fn neurons_fire_as_in_the_scan() {
        use candle_core::{Device, Tensor};
        let (neurons, steps) = (37, 5);
        let thresholds: Vec<f32> = noise(3, neurons).iter().map(|x| x.abs() + 0.1).collect();
        let currents = noise(4, steps * neurons);
        for (reset, firing) in [
            (Reset::Soft, Firing::Above),
            (Reset::Soft, Firing::AtOrAbove),
            (Reset::Hard, Firing::Above),
            (Reset::Hard, Firing::AtOrAbove),
        ] {
            let settings = NeuronSettings {
                reset,
                firing,
                leak: 0.9,
                ..NeuronSettings::default()
            };
            let tensor = |values: &[f32], shape: &[usize]| {
                Tensor::from_slice(values, shape, &Device::Cpu).expect("a tensor")
            };
            let scan = crate::neuron::scan(
                &tensor(&currents, &[steps, 1, neurons]),
                &tensor(&thresholds, &[neurons]),
                &tensor(&vec![0.0; neurons], &[1, neurons]),
                &settings,
            )
            .expect("a scan");
            let spikes: Vec<f32> = scan
                .spikes
                .flatten_all()
                .and_then(|s| s.to_vec1())
                .expect("spikes");
            for kernels in Kernels::all() {
                let (mut membranes, mut fired) = (vec![0.0; neurons], vec![0; neurons]);
                for t in 0..steps {
                    let currents = &currents[t * neurons..][..neurons];
                    kernels.fire(&settings, currents, &thresholds, &mut membranes, &mut fired);
                    let expected = &spikes[t * neurons..][..neurons];
                    assert!(fired.iter().zip(expected).all(|(a, b)| f32::from(*a) == *b));
                }
                let last: Vec<f32> = scan
                    .membrane
                    .flatten_all()
                    .and_then(|m| m.to_vec1())
                    .expect("membranes");
                assert_eq!(membranes, last);
            }
        }
    }
}
