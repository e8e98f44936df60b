//! Neurons over all steps, their membranes in registers.

use crate::neuron::{Firing, NeuronSettings, Reset};
use crate::ops::simd::Vector;

/// Some channels of all positions, filled up to whole vectors with neurons whose threshold is infinite.
#[derive(Debug)]
pub(crate) struct Neurons<'a> {
    /// Of each channel.
    pub(crate) thresholds: &'a [f32],
    /// `[positions, line]`, from the first of the channels on.
    pub(crate) membranes: &'a mut [f32],
    /// Spikes so far, likewise.
    pub(crate) counts: &'a mut [f32],
    pub(crate) line: usize,
}

/// Currents of each channel: how far it is from a step to the next one (0 if they are the same at every step) and from
/// a position to the next one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Currents<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) step: usize,
    pub(crate) position: usize,
}

/// Where a bit is set for each spike: `[positions, steps, width]`, the lowest bit of a row being that of channel 0.
#[derive(Debug)]
pub(crate) struct Fired<'a> {
    pub(crate) words: &'a mut [u64],
    pub(crate) steps: usize,
    pub(crate) width: usize,
    /// The first of the channels.
    pub(crate) first: usize,
}

/// # Safety
/// Whole vectors of channels; currents for each of them at every step and position; the words have room for a bit of each;
/// the instructions exist.
pub(super) type Fire = unsafe fn(&NeuronSettings, Currents, Neurons, Fired);

/// # Safety
/// As [`Fire`].
#[inline(always)]
pub(super) unsafe fn fire<V: Vector>(
    settings: &NeuronSettings,
    currents: Currents,
    neurons: Neurons,
    fired: Fired,
) {
    let leak = settings.leak;
    // SAFETY: the caller's promise.
    unsafe {
        match (settings.reset, settings.firing) {
            (Reset::Soft, Firing::Above) => all::<V, false, false>(leak, currents, neurons, fired),
            (Reset::Soft, Firing::AtOrAbove) => {
                all::<V, false, true>(leak, currents, neurons, fired);
            }
            (Reset::Hard, Firing::Above) => all::<V, true, false>(leak, currents, neurons, fired),
            (Reset::Hard, Firing::AtOrAbove) => {
                all::<V, true, true>(leak, currents, neurons, fired);
            }
        }
    }
}

/// # Safety
/// As [`Fire`].
#[inline(always)]
unsafe fn all<V: Vector, const HARD: bool, const AT: bool>(
    leak: f32,
    currents: Currents,
    mut neurons: Neurons,
    mut fired: Fired,
) {
    let (n, f) = (&mut neurons, &mut fired);
    let vectors = n.thresholds.len() / V::LANES;
    let positions = f.words.len() / (f.steps * f.width);
    // a step waits for the one before: four vectors side by side fill the time
    // SAFETY: the caller's promises.
    unsafe {
        for position in (0..positions).step_by(2) {
            for vector in (0..vectors).step_by(2) {
                let at = (position, vector * V::LANES);
                match (positions - position, vectors - vector) {
                    (1, 1) => some::<V, HARD, AT, 1, 1>(leak, currents, n, f, at),
                    (1, _) => some::<V, HARD, AT, 1, 2>(leak, currents, n, f, at),
                    (_, 1) => some::<V, HARD, AT, 2, 1>(leak, currents, n, f, at),
                    _ => some::<V, HARD, AT, 2, 2>(leak, currents, n, f, at),
                }
            }
        }
    }
}

/// P positions and B vectors of channels.
///
/// # Safety
/// As [`Fire`].
#[inline(always)]
unsafe fn some<V: Vector, const HARD: bool, const AT: bool, const P: usize, const B: usize>(
    leak: f32,
    currents: Currents,
    neurons: &mut Neurons,
    fired: &mut Fired,
    (position, channel): (usize, usize),
) {
    // SAFETY: the caller's promises.
    unsafe {
        let (zero, one, leak) = (V::splat(0.0), V::splat(1.0), V::splat(leak));
        let mut thresholds = [zero; B];
        let (mut membranes, mut counts) = ([[zero; B]; P], [[zero; B]; P]);
        for b in 0..B {
            let channel = channel + b * V::LANES;
            thresholds[b] = V::load(neurons.thresholds.as_ptr().add(channel));
            for p in 0..P {
                let at = (position + p) * neurons.line + channel;
                membranes[p][b] = V::load(neurons.membranes.as_ptr().add(at));
                counts[p][b] = V::load(neurons.counts.as_ptr().add(at));
            }
        }
        for step in 0..fired.steps {
            for p in 0..P {
                let from = (position + p) * currents.position + step * currents.step + channel;
                let row = ((position + p) * fired.steps + step) * fired.width;
                for b in 0..B {
                    let current = V::load(currents.values.as_ptr().add(from + b * V::LANES));
                    let u = leak.mul(membranes[p][b]).add(current);
                    let fires = match AT {
                        true => u.at_least(thresholds[b]),
                        false => u.above(thresholds[b]),
                    };
                    let reset = if HARD { zero } else { u.sub(thresholds[b]) };
                    membranes[p][b] = V::choose(fires, reset, u);
                    counts[p][b] = counts[p][b].add(V::choose(fires, one, zero));
                    let bit = fired.first + channel + b * V::LANES;
                    let word = fired.words.get_unchecked_mut(row + bit / 64);
                    *word |= V::bits(fires) << (bit % 64);
                }
            }
        }
        for p in 0..P {
            for b in 0..B {
                let at = (position + p) * neurons.line + channel + b * V::LANES;
                membranes[p][b].store(neurons.membranes.as_mut_ptr().add(at));
                counts[p][b].store(neurons.counts.as_mut_ptr().add(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::SETS;
    use super::*;

    #[test]
    fn neurons_fire_as_in_the_scan() {
        let mut stream = crate::rng::Seed::new(3).stream();
        // three positions of a line whose channels 32 to 80 are let fire, each an odd number of vectors
        let (positions, steps, line, first, channels) = (3, 5, 96, 32, 48);
        let thresholds: Vec<f32> = (0..channels)
            .map(|_| stream.uniform() / 2.0 + 0.1)
            .collect();
        let currents: Vec<f32> = (0..positions * steps * channels)
            .map(|_| stream.uniform() - 0.5)
            .collect();
        for (reset, firing, held) in [
            (Reset::Soft, Firing::Above, false),
            (Reset::Soft, Firing::AtOrAbove, true),
            (Reset::Hard, Firing::Above, true),
            (Reset::Hard, Firing::AtOrAbove, false),
        ] {
            let settings = NeuronSettings {
                reset,
                firing,
                leak: 0.9,
                ..NeuronSettings::default()
            };
            let currents = Currents {
                values: &currents,
                step: if held { 0 } else { channels },
                position: steps * channels,
            };
            let neurons = (0..positions).flat_map(|p| (0..channels).map(move |c| (p, c)));
            let input: Vec<f32> = (0..steps)
                .flat_map(|t| {
                    let from = move |(p, c)| p * currents.position + t * currents.step + c;
                    neurons.clone().map(move |at| currents.values[from(at)])
                })
                .collect();
            let tensor = |values: &[f32], shape: &[usize]| {
                Tensor::from_slice(values, shape, &Device::Cpu).expect("a tensor")
            };
            let scan = crate::neuron::scan(
                &tensor(&input, &[steps, positions, channels]),
                &tensor(&thresholds, &[channels]),
                &tensor(&vec![0.0; positions * channels], &[positions, channels]),
                &settings,
            )
            .expect("a scan");
            let numbers = |tensor: &Tensor| -> Vec<f32> {
                let flat = tensor.flatten_all();
                flat.and_then(|t| t.to_vec1()).expect("numbers")
            };
            let (spikes, last) = (numbers(&scan.spikes), numbers(&scan.membrane));
            for kernels in SETS.all() {
                let mut membranes = vec![0.0; positions * line];
                let mut counts = vec![1.0; positions * line];
                let width = line.div_ceil(64);
                let mut words = vec![0u64; positions * steps * width];
                kernels.fire(
                    &settings,
                    currents,
                    Neurons {
                        thresholds: &thresholds,
                        membranes: &mut membranes[first..],
                        counts: &mut counts[first..],
                        line,
                    },
                    Fired {
                        words: &mut words,
                        steps,
                        width,
                        first,
                    },
                );
                for (i, (p, c)) in neurons.clone().enumerate() {
                    let mut count = 1.0;
                    for t in 0..steps {
                        let word = (p * steps + t) * width + (first + c) / 64;
                        let spike = spikes[t * positions * channels + i];
                        assert_eq!((words[word] >> ((first + c) % 64) & 1) as f32, spike);
                        count += spike;
                    }
                    assert_eq!(counts[p * line + first + c], count);
                    assert_eq!(membranes[p * line + first + c], last[i]);
                }
                let set: u32 = words.iter().map(|word| word.count_ones()).sum();
                assert_eq!(set as f32, spikes.iter().sum::<f32>(), "no bit of others");
                for (at, (membrane, count)) in membranes.iter().zip(&counts).enumerate() {
                    let ours = (first..first + channels).contains(&(at % line));
                    assert!(ours || (*membrane == 0.0 && *count == 1.0), "not another's");
                }
            }
        }
    }
}
