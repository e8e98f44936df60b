//! One pass over time per block of neurons, blocks in parallel. A neuron's numbers depend on its own currents alone, so
//! neither the blocks nor the threads matter to the result, nor do the instructions: no product is fused with a sum.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::neuron::{Firing, NeuronSettings, Reset};
use crate::ops::bits::{Bits, WORD, pack};
use crate::ops::cpu::{Disjoint, scratch};
use crate::ops::memory::zeros;
use crate::ops::widest::{self, Task};
use crate::surrogate::Surrogate;

/// Neurons per task of the forward pass: whole words of bits.
const BLOCK: usize = 32 * WORD;
/// Membranes that a task of the backward pass keeps: half a megabyte, so that they stay in the second-level cache.
const KEPT: usize = 1 << 17;

/// The sizes of a population and its thresholds.
#[derive(Debug, Clone)]
pub(crate) struct Population {
    /// T
    pub(crate) steps: usize,
    /// N * C * ...
    neurons: usize,
    /// Neurons of one channel of one sample.
    plane: usize,
    /// `[1]` or `[C]`
    threshold: Vec<f32>,
}

impl Population {
    /// For currents of shape `[T, N, C, ...]`.
    pub(crate) fn new(currents: &[usize], threshold: Vec<f32>) -> Self {
        Self {
            steps: currents[0],
            neurons: currents[1..].iter().product(),
            plane: currents[3..].iter().product(),
            threshold,
        }
    }

    /// A number of each neuron, `[N, C, ...]`: its threshold times `share`.
    pub(crate) fn thresholds(&self, share: f32) -> Vec<f32> {
        let mut values = vec![0f32; self.neurons];
        self.fill(0, &mut values);
        values.iter_mut().for_each(|value| *value *= share);
        values
    }

    /// Thresholds of the neurons from `first` on.
    fn fill(&self, first: usize, thresholds: &mut [f32]) {
        if let [threshold] = self.threshold[..] {
            thresholds.fill(threshold);
            return;
        }
        let mut neuron = first;
        let mut rest = thresholds;
        while !rest.is_empty() {
            let (channel, position) = (
                neuron / self.plane % self.threshold.len(),
                neuron % self.plane,
            );
            let (here, after) = rest.split_at_mut(rest.len().min(self.plane - position));
            here.fill(self.threshold[channel]);
            neuron += here.len();
            rest = after;
        }
    }
}

/// Input currents of a population.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Currents<'a> {
    /// `[T, N, C, ...]`
    Steps(&'a [f32]),
    /// `[N, C, ...]`, the same at every step.
    Held(&'a [f32]),
}

impl<'a> Currents<'a> {
    /// Those of `len` neurons from `first` of `neurons` on, at step `t`.
    #[inline(always)]
    fn at(self, t: usize, neurons: usize, first: usize, len: usize) -> &'a [f32] {
        match self {
            Self::Steps(currents) => &currents[t * neurons + first..][..len],
            Self::Held(currents) => &currents[first..][..len],
        }
    }
}

#[derive(Default)]
struct Scratch {
    thresholds: Vec<f32>,
    /// One over the thresholds.
    inverses: Vec<f32>,
    membranes: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Spikes `[T, N, C, ...]` and the membrane after the last step.
pub(crate) fn forward(
    population: &Population,
    settings: &NeuronSettings,
    currents: &[f32],
    membrane: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let mut spikes = zeros(currents.len());
    let mut last = zeros(population.neurons);
    let out = Disjoint::new(&mut spikes);
    last.par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, v)| {
            let (first, len) = (block * BLOCK, v.len());
            v.copy_from_slice(&membrane[first..][..len]);
            BUFFERS.with_borrow_mut(|buffers| {
                let thresholds = scratch(&mut buffers.thresholds, len);
                population.fill(first, thresholds);
                widest::run(Forward {
                    population,
                    settings,
                    currents: Currents::Steps(currents),
                    first,
                    thresholds,
                    membranes: v,
                    fired: |t: usize, fired: &[u8]| {
                        let start = t * population.neurons + first;
                        // SAFETY: these neurons' spikes are this task's alone.
                        let spikes = unsafe { out.slice(start, len) };
                        for (spike, fired) in spikes.iter_mut().zip(fired) {
                            *spike = f32::from(*fired);
                        }
                    },
                });
            });
        });
    (spikes, last)
}

/// Spikes as bits, a row for each step and sample, with the membranes `[N, C, ...]` taken from before the first step to
/// after the last one.
pub(crate) fn forward_bits(
    population: &Population,
    settings: &NeuronSettings,
    currents: Currents,
    membranes: &mut [f32],
    samples: usize,
) -> Bits {
    let units = population.neurons / samples;
    let mut bits = Bits::silent(population.steps * samples, units);
    let width = bits.width();
    let out = Disjoint::new(bits.words_mut());
    let parts = units.div_ceil(BLOCK);
    let v = Disjoint::new(membranes);
    (0..samples * parts).into_par_iter().for_each(|task| {
        let (sample, start) = (task / parts, task % parts * BLOCK);
        let (first, len) = (sample * units + start, BLOCK.min(units - start));
        // SAFETY: these neurons are this task's alone.
        let membranes = unsafe { v.slice(first, len) };
        BUFFERS.with_borrow_mut(|buffers| {
            let thresholds = scratch(&mut buffers.thresholds, len);
            population.fill(first, thresholds);
            widest::run(Forward {
                population,
                settings,
                currents,
                first,
                thresholds,
                membranes,
                fired: |t: usize, fired: &[u8]| {
                    let row = (t * samples + sample) * width + start / WORD;
                    // SAFETY: a block of a sample's neurons has whole words, which are this task's alone.
                    pack(fired, unsafe { out.slice(row, len.div_ceil(WORD)) });
                },
            });
        });
    });
    bits
}

/// A block of neurons over all steps, forward.
struct Forward<'a, F> {
    population: &'a Population,
    settings: &'a NeuronSettings,
    currents: Currents<'a>,
    first: usize,
    thresholds: &'a [f32],
    membranes: &'a mut [f32],
    /// Takes the spikes of each step.
    fired: F,
}

impl<F: Fn(usize, &[u8])> Task for Forward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        match (self.settings.reset, self.settings.firing) {
            (Reset::Soft, Firing::Above) => self.steps::<false, false>(),
            (Reset::Soft, Firing::AtOrAbove) => self.steps::<false, true>(),
            (Reset::Hard, Firing::Above) => self.steps::<true, false>(),
            (Reset::Hard, Firing::AtOrAbove) => self.steps::<true, true>(),
        }
    }
}

impl<F: Fn(usize, &[u8])> Forward<'_, F> {
    #[inline(always)]
    fn steps<const HARD: bool, const AT: bool>(self) {
        let (leak, len) = (self.settings.leak, self.membranes.len());
        let mut fired = [0u8; BLOCK];
        let fired = &mut fired[..len];
        for t in 0..self.population.steps {
            let currents = self
                .currents
                .at(t, self.population.neurons, self.first, len);
            let neurons = currents
                .iter()
                .zip(self.thresholds)
                .zip(&mut *self.membranes)
                .zip(&mut *fired);
            for (((i, threshold), v), fired) in neurons {
                let u = leak * *v + i;
                let s = fires::<AT>(u, *threshold);
                *v = reset::<HARD>(u, *threshold, s);
                *fired = u8::from(s);
            }
            (self.fired)(t, fired);
        }
    }
}

/// Whether a membrane is over its threshold.
#[inline(always)]
fn fires<const AT: bool>(u: f32, threshold: f32) -> bool {
    if AT { u >= threshold } else { u > threshold }
}

/// The membrane after the comparison.
#[inline(always)]
fn reset<const HARD: bool>(u: f32, threshold: f32, fires: bool) -> f32 {
    let after = if HARD { 0.0 } else { u - threshold };
    if fires { after } else { u }
}

/// What a backward pass over a window starts from.
pub(crate) struct Window<'a> {
    pub(crate) population: &'a Population,
    pub(crate) settings: &'a NeuronSettings,
    pub(crate) currents: Currents<'a>,
    /// Before the first step, `[N, C, ...]`.
    pub(crate) membrane: &'a [f32],
}

impl Window<'_> {
    /// Turns the gradient `[T, N, C, ...]` of the spikes, which is in `gradient` or else in `g_spikes`, into that of the
    /// currents, in `gradient`, and `[N, C, ...]` of the membrane after the last step into that of the one before the
    /// first. The membranes are computed again, not kept from the forward pass.
    pub(crate) fn backward(
        &self,
        g_spikes: Option<&[f32]>,
        gradient: &mut [f32],
        g_membrane: &mut [f32],
    ) {
        // built anew inside each closure, so that each inner loop knows its surrogate
        match self.settings.surrogate {
            Surrogate::PiecewiseLinear { scale } => {
                let surrogate = move |x| Surrogate::PiecewiseLinear { scale }.derivative(x);
                self.blocks(surrogate, g_spikes, gradient, g_membrane);
            }
            Surrogate::Atan { alpha } => {
                let surrogate = move |x| Surrogate::Atan { alpha }.derivative(x);
                self.blocks(surrogate, g_spikes, gradient, g_membrane);
            }
            Surrogate::Sigmoid { alpha } => {
                let surrogate = move |x| Surrogate::Sigmoid { alpha }.derivative(x);
                self.blocks(surrogate, g_spikes, gradient, g_membrane);
            }
            Surrogate::Rectangular { width } => {
                let surrogate = move |x| Surrogate::Rectangular { width }.derivative(x);
                self.blocks(surrogate, g_spikes, gradient, g_membrane);
            }
            Surrogate::SuperSpike { beta } => {
                let surrogate = move |x| Surrogate::SuperSpike { beta }.derivative(x);
                self.blocks(surrogate, g_spikes, gradient, g_membrane);
            }
        }
    }

    fn blocks(
        &self,
        derivative: impl Fn(f32) -> f32 + Sync,
        g_spikes: Option<&[f32]>,
        gradient: &mut [f32],
        g_membrane: &mut [f32],
    ) {
        let gradient = Disjoint::new(gradient);
        let size = (KEPT / self.population.steps).clamp(16, BLOCK);
        g_membrane
            .par_chunks_mut(size)
            .enumerate()
            .for_each(|(block, g_v)| {
                let (first, len) = (block * size, g_v.len());
                BUFFERS.with_borrow_mut(|buffers| {
                    let thresholds = scratch(&mut buffers.thresholds, len);
                    self.population.fill(first, thresholds);
                    widest::run(Backward {
                        window: self,
                        derivative: &derivative,
                        first,
                        thresholds,
                        inverses: scratch(&mut buffers.inverses, len),
                        membranes: scratch(&mut buffers.membranes, self.population.steps * len),
                        g_v,
                        g_spikes,
                        gradient,
                    });
                });
            });
    }
}

/// A block of neurons over all steps, backward.
struct Backward<'a, D> {
    window: &'a Window<'a>,
    derivative: &'a D,
    first: usize,
    thresholds: &'a [f32],
    inverses: &'a mut [f32],
    membranes: &'a mut [f32],
    g_v: &'a mut [f32],
    g_spikes: Option<&'a [f32]>,
    gradient: Disjoint<f32>,
}

impl<D: Fn(f32) -> f32> Task for Backward<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let settings = self.window.settings;
        match (settings.reset, settings.firing, settings.detach_reset) {
            (Reset::Soft, Firing::Above, true) => self.steps::<false, false, true>(),
            (Reset::Soft, Firing::Above, false) => self.steps::<false, false, false>(),
            (Reset::Soft, Firing::AtOrAbove, true) => self.steps::<false, true, true>(),
            (Reset::Soft, Firing::AtOrAbove, false) => self.steps::<false, true, false>(),
            (Reset::Hard, Firing::Above, true) => self.steps::<true, false, true>(),
            (Reset::Hard, Firing::Above, false) => self.steps::<true, false, false>(),
            (Reset::Hard, Firing::AtOrAbove, true) => self.steps::<true, true, true>(),
            (Reset::Hard, Firing::AtOrAbove, false) => self.steps::<true, true, false>(),
        }
    }
}

impl<D: Fn(f32) -> f32> Backward<'_, D> {
    #[inline(always)]
    fn steps<const HARD: bool, const AT: bool, const DETACH: bool>(mut self) {
        let (leak, len) = (self.window.settings.leak, self.thresholds.len());
        let population = self.window.population;
        self.integrate::<HARD, AT>();
        for (inverse, threshold) in self.inverses.iter_mut().zip(self.thresholds) {
            *inverse = 1.0 / threshold;
        }
        for t in (0..population.steps).rev() {
            let start = t * population.neurons + self.first;
            // SAFETY: these neurons' gradients are this task's alone.
            let gradient = unsafe { self.gradient.slice(start, len) };
            if let Some(g_spikes) = self.g_spikes {
                gradient.copy_from_slice(&g_spikes[start..][..len]);
            }
            let inputs = self.membranes[t * len..][..len]
                .iter()
                .zip(self.thresholds)
                .zip(&*self.inverses);
            for (((u, threshold), inverse), (g_v, g)) in
                inputs.zip(self.g_v.iter_mut().zip(gradient))
            {
                let slope = (self.derivative)(u * inverse - 1.0) * inverse;
                let (kept, taken) = match HARD {
                    true => (f32::from(u8::from(!fires::<AT>(*u, *threshold))), *u),
                    false => (1.0, *threshold),
                };
                // the reset's spike as a constant: no gradient comes back through it
                let g_spike = match DETACH {
                    true => *g,
                    false => *g - taken * *g_v,
                };
                let g_u = *g_v * kept + g_spike * slope;
                *g = g_u;
                *g_v = leak * g_u;
            }
        }
    }

    /// The membranes just before each step's comparison with the threshold, `[T, len]`.
    #[inline(always)]
    fn integrate<const HARD: bool, const AT: bool>(&mut self) {
        let (leak, len) = (self.window.settings.leak, self.thresholds.len());
        let mut v = [0f32; BLOCK];
        let v = &mut v[..len];
        v.copy_from_slice(&self.window.membrane[self.first..][..len]);
        for (t, row) in self.membranes.chunks_exact_mut(len).enumerate() {
            let neurons = self.window.population.neurons;
            let currents = self.window.currents.at(t, neurons, self.first, len);
            for (((u, v), threshold), i) in row
                .iter_mut()
                .zip(&mut *v)
                .zip(self.thresholds)
                .zip(currents)
            {
                *u = leak * *v + i;
                *v = reset::<HARD>(*u, *threshold, fires::<AT>(*u, *threshold));
            }
        }
    }
}
