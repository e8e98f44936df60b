//! What an event-driven layer does at one position and step: adds the rows of the weight that its events select, and
//! lets the neurons of the position fire.

use std::sync::OnceLock;

use super::simd::{Four, Vector};
use crate::neuron::{Firing, NeuronSettings, Reset};

/// Events as rows of a weight, those of one cell (a position at a step) after those of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Events<'a> {
    /// Row of each event.
    pub(crate) rows: &'a [u8],
    /// Factor of each event; none where all are 1.
    pub(crate) values: Option<&'a [f32]>,
    /// Where the events of each cell end.
    pub(crate) ends: &'a [usize],
}

/// # Safety
/// Every row of the events lies in the weight, `width` numbers apart, with `B` vectors from its start on; `sums` is valid
/// for as many from each multiple of `line`, one for each cell; the ends ascend to at most the number of rows; the
/// instructions exist.
type Add =
    unsafe fn(events: &Events, weight: *const f32, width: usize, sums: *mut f32, line: usize);

/// # Safety
/// The instructions exist.
type Fire = unsafe fn(
    settings: &NeuronSettings,
    currents: &[f32],
    thresholds: &[f32],
    membranes: &mut [f32],
    counts: &mut [f32],
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

    /// `sums[cell * line + first + j] += sum over the cell's events of value * weight[row * width + j]`, one chain of fused
    /// multiply-adds for each j in the order of the events: what a dense product computes whose chains have the same
    /// order, as those of zeros change nothing.
    ///
    /// # Safety
    /// Every row of the events lies in `weight`, `width` numbers each.
    pub(crate) unsafe fn add_rows(
        &self,
        events: &Events,
        weight: &[f32],
        width: usize,
        sums: &mut [f32],
        (line, first): (usize, usize),
    ) {
        let last = events.ends.last().copied().unwrap_or(0);
        assert!(events.ends.is_sorted() && last <= events.rows.len());
        assert!(events.values.is_none_or(|values| last <= values.len()));
        assert!(first + width <= line && events.ends.len() * line <= sums.len());
        assert!(width.is_multiple_of(self.lanes));
        debug_assert!(
            events.rows[..last]
                .iter()
                .all(|&row| (usize::from(row) + 1) * width <= weight.len())
        );
        let most = self.add.len() * self.lanes;
        for column in (0..width).step_by(most) {
            let vectors = (width - column).min(most) / self.lanes;
            // SAFETY: the columns end within the row and the line; the rows are the caller's promise.
            unsafe {
                let weight = weight.as_ptr().add(column);
                let sums = sums.as_mut_ptr().add(first + column);
                (self.add[vectors - 1])(events, weight, width, sums, line);
            }
        }
    }

    /// One step of the neurons: integrates `currents` into `membranes`, says who fired (1 or 0) and adds it to `counts`.
    pub(crate) fn fire(
        &self,
        settings: &NeuronSettings,
        currents: &[f32],
        thresholds: &[f32],
        membranes: &mut [f32],
        counts: &mut [f32],
        fired: &mut [u8],
    ) {
        // SAFETY: these kernels were chosen because the processor has their instructions.
        unsafe { (self.fire)(settings, currents, thresholds, membranes, counts, fired) }
    }
}

/// # Safety
/// As [`Add`].
#[inline(always)]
unsafe fn add<V: Vector, const B: usize>(
    events: &Events,
    weight: *const f32,
    width: usize,
    sums: *mut f32,
    line: usize,
) {
    let mut start = 0;
    for (cell, &end) in events.ends.iter().enumerate() {
        if end == start {
            continue;
        }
        // SAFETY: the caller's promises.
        unsafe {
            let sums = sums.add(cell * line);
            let rows = events.rows.get_unchecked(start..end);
            let mut totals: [V; B] = std::array::from_fn(|v| V::load(sums.add(v * V::LANES)));
            let mut row = |row: u8, value: V| {
                let from = weight.add(usize::from(row) * width);
                for (v, total) in totals.iter_mut().enumerate() {
                    *total = total.plus(value, V::load(from.add(v * V::LANES)));
                }
            };
            match events.values {
                None => {
                    let one = V::splat(1.0);
                    rows.iter().for_each(|&event| row(event, one));
                }
                Some(values) => {
                    for (&event, &value) in rows.iter().zip(values.get_unchecked(start..end)) {
                        row(event, V::splat(value));
                    }
                }
            }
            for (v, total) in totals.into_iter().enumerate() {
                total.store(sums.add(v * V::LANES));
            }
        }
        start = end;
    }
}

#[inline(always)]
fn fire(
    settings: &NeuronSettings,
    currents: &[f32],
    thresholds: &[f32],
    membranes: &mut [f32],
    counts: &mut [f32],
    fired: &mut [u8],
) {
    match (settings.reset, settings.firing) {
        (Reset::Soft, Firing::Above) => {
            step::<false, false>(
                settings.leak,
                currents,
                thresholds,
                membranes,
                counts,
                fired,
            );
        }
        (Reset::Soft, Firing::AtOrAbove) => {
            step::<false, true>(
                settings.leak,
                currents,
                thresholds,
                membranes,
                counts,
                fired,
            );
        }
        (Reset::Hard, Firing::Above) => {
            step::<true, false>(
                settings.leak,
                currents,
                thresholds,
                membranes,
                counts,
                fired,
            );
        }
        (Reset::Hard, Firing::AtOrAbove) => {
            step::<true, true>(
                settings.leak,
                currents,
                thresholds,
                membranes,
                counts,
                fired,
            );
        }
    }
}

#[inline(always)]
fn step<const HARD: bool, const AT: bool>(
    leak: f32,
    currents: &[f32],
    thresholds: &[f32],
    membranes: &mut [f32],
    counts: &mut [f32],
    fired: &mut [u8],
) {
    let neurons = currents.iter().zip(thresholds).zip(membranes);
    for (((current, &threshold), membrane), (count, fired)) in
        neurons.zip(counts.iter_mut().zip(fired))
    {
        let u = leak * *membrane + current;
        let fires = if AT { u >= threshold } else { u > threshold };
        let reset = if HARD { 0.0 } else { u - threshold };
        *membrane = if fires { reset } else { u };
        *count += f32::from(u8::from(fires));
        *fired = u8::from(fires);
    }
}

macro_rules! kernels {
    ($name:ident, $vector:ty, $add:ident, $fire:ident, $($feature:literal)?) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $add<const B: usize>(
            events: &Events,
            weight: *const f32,
            width: usize,
            sums: *mut f32,
            line: usize,
        ) {
            // SAFETY: the caller's promise.
            unsafe { add::<$vector, B>(events, weight, width, sums, line) }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn $fire(
            settings: &NeuronSettings,
            currents: &[f32],
            thresholds: &[f32],
            membranes: &mut [f32],
            counts: &mut [f32],
            fired: &mut [u8],
        ) {
            fire(settings, currents, thresholds, membranes, counts, fired);
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
    use super::{Events, Kernels, NeuronSettings, Vector, add, fire};
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
        let (rows, values) = ([0, 3, 9, 21, 22], [1.0, 1.0, 1.0, 0.5, -1.0]);
        // the cell in the middle has no event
        let ends = [3, 3, 5];
        for kernels in Kernels::all() {
            for (vectors, valued) in [1, 2, 5, 8, 9, 17]
                .map(|v| [(v, false), (v, true)])
                .concat()
            {
                let (width, first) = (vectors * kernels.lanes, 3);
                let line = width + 5;
                let weight = noise(1, 30 * width);
                let before = noise(2, ends.len() * line);
                let events = Events {
                    rows: &rows,
                    values: valued.then_some(&values),
                    ends: &ends,
                };
                let mut sums = before.clone();
                // SAFETY: rows up to 22 of 30 are selected.
                unsafe { kernels.add_rows(&events, &weight, width, &mut sums, (line, first)) };
                for (place, sum) in sums.iter().enumerate() {
                    let (cell, column) = (place / line, place % line);
                    let mut expected = f64::from(before[place]);
                    if (first..first + width).contains(&column) {
                        let start = if cell == 0 { 0 } else { ends[cell - 1] };
                        for event in start..ends[cell] {
                            let value = if valued {
                                f64::from(values[event])
                            } else {
                                1.0
                            };
                            let at = usize::from(rows[event]) * width + column - first;
                            expected += value * f64::from(weight[at]);
                        }
                    }
                    assert!((f64::from(*sum) - expected).abs() < 1e-6, "{width} {place}");
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
                let mut counts = vec![0.0; neurons];
                for t in 0..steps {
                    let currents = &currents[t * neurons..][..neurons];
                    let (v, n) = (&mut membranes, &mut counts);
                    kernels.fire(&settings, currents, &thresholds, v, n, &mut fired);
                    let expected = &spikes[t * neurons..][..neurons];
                    assert!(fired.iter().zip(expected).all(|(a, b)| f32::from(*a) == *b));
                }
                let last: Vec<f32> = scan
                    .membrane
                    .flatten_all()
                    .and_then(|m| m.to_vec1())
                    .expect("membranes");
                assert_eq!(membranes, last);
                for (neuron, count) in counts.iter().enumerate() {
                    let all: f32 = spikes[neuron..].iter().step_by(neurons).sum();
                    assert_eq!(*count, all);
                }
            }
        }
    }
}
