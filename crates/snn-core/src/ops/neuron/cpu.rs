//! One pass over time per block of neurons, blocks in parallel. A neuron's numbers depend on its own currents alone, so
//! neither the blocks nor the threads matter to the result, nor do the instructions: no product is fused with a sum.

use std::cell::RefCell;
use std::marker::PhantomData;

use rayon::prelude::*;

use crate::neuron::{Firing, NeuronSettings, Reset};
use crate::ops::aligned::Aligned;
use crate::ops::bits::{Bits, WORD, pack};
use crate::ops::cpu::{Disjoint, Unwritten};
use crate::ops::memory::{Sink, prefetch};
use crate::ops::widest::{self, Task};
use crate::surrogate::Surrogate;

/// Neurons per task of the forward pass: whole words of bits.
const BLOCK: usize = 128 * WORD;
/// Neurons of which a step is done at once, while the numbers of their next one are asked for.
const FEW: usize = WORD;
/// The most neurons per task of the backward pass.
const BACKWARD: usize = 32 * WORD;
/// Membranes that such a task keeps: half a megabyte, so that they stay in the second-level cache.
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

    /// Those of the step after `t`, if they are others.
    #[inline(always)]
    fn after(self, t: usize, steps: usize, neurons: usize, first: usize, len: usize) -> &'a [f32] {
        match self {
            Self::Steps(_) if t + 1 < steps => self.at(t + 1, neurons, first, len),
            _ => &[],
        }
    }
}

#[derive(Default)]
struct Scratch {
    thresholds: Aligned,
    /// One over the thresholds.
    inverses: Aligned,
    membranes: Aligned,
    own: Aligned,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Room for `len` numbers, filled up to a whole few, on whole cache lines.
fn room(buffer: &mut Aligned, len: usize) -> &mut [[f32; FEW]] {
    let room = buffer.first(len.next_multiple_of(FEW));
    room.as_chunks_mut().0
}

/// The few numbers from `start` on, at the end of `values` filled up from `room`.
#[inline(always)]
fn few<'a>(values: &'a [f32], start: usize, room: &'a mut [f32; FEW]) -> &'a [f32; FEW] {
    let rest = &values[start..];
    match rest.first_chunk() {
        Some(few) => few,
        None => {
            room[..rest.len()].copy_from_slice(rest);
            room
        }
    }
}

/// Has the few numbers from `start` on brought into the caches, if there are as many.
#[inline(always)]
fn soon(values: &[f32], start: usize) {
    if let Some(few) = values.get(start..).and_then(<[f32]>::first_chunk::<FEW>) {
        prefetch(few);
    }
}

/// How a spike is given.
trait Spike: Copy + Default {
    fn of(fires: bool) -> Self;
}

impl Spike for u8 {
    #[inline(always)]
    fn of(fires: bool) -> Self {
        u8::from(fires)
    }
}

impl Spike for f32 {
    #[inline(always)]
    fn of(fires: bool) -> Self {
        if fires { 1.0 } else { 0.0 }
    }
}

/// Spikes `[T, N, C, ...]` and the membrane after the last step.
pub(crate) fn forward(
    population: &Population,
    settings: &NeuronSettings,
    currents: &[f32],
    membrane: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let mut spikes = Unwritten::new(currents.len());
    let mut last = membrane.to_vec();
    let sink = Sink::new(spikes.places(), currents.len());
    last.par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, v)| {
            let (first, len) = (block * BLOCK, v.len());
            BUFFERS.with_borrow_mut(|buffers| {
                let thresholds = room(&mut buffers.thresholds, len);
                population.fill(first, &mut thresholds.as_flattened_mut()[..len]);
                widest::run(Forward {
                    population,
                    settings,
                    currents: Currents::Steps(currents),
                    first,
                    thresholds,
                    own: room(&mut buffers.own, len),
                    membranes: v,
                    fired: |t: usize, start: usize, spikes: &[f32; FEW], count: usize| {
                        let at = t * population.neurons + first + start;
                        // SAFETY: these neurons' spikes are this task's alone.
                        unsafe { sink.write(at, &spikes[..count]) };
                    },
                    spike: PhantomData,
                });
            });
            sink.finish();
        });
    // SAFETY: every block wrote the spikes of its neurons at every step.
    (unsafe { spikes.written() }, last)
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
            let thresholds = room(&mut buffers.thresholds, len);
            population.fill(first, &mut thresholds.as_flattened_mut()[..len]);
            widest::run(Forward {
                population,
                settings,
                currents,
                first,
                thresholds,
                own: room(&mut buffers.own, len),
                membranes,
                fired: |t: usize, few: usize, fired: &[u8; FEW], count: usize| {
                    let word = (t * samples + sample) * width + (start + few) / WORD;
                    // SAFETY: a block of a sample's neurons has whole words, which are this task's alone.
                    pack(&fired[..count], unsafe { out.slice(word, 1) });
                },
                spike: PhantomData,
            });
        });
    });
    bits
}

/// A block of neurons over all steps, forward.
struct Forward<'a, S, F> {
    population: &'a Population,
    settings: &'a NeuronSettings,
    currents: Currents<'a>,
    first: usize,
    thresholds: &'a [[f32; FEW]],
    membranes: &'a mut [f32],
    /// Room for the membranes.
    own: &'a mut [[f32; FEW]],
    /// Takes the spikes of each step, those of a few neurons at a time, of which so many count.
    fired: F,
    spike: PhantomData<S>,
}

impl<S: Spike, F: Fn(usize, usize, &[S; FEW], usize)> Task for Forward<'_, S, F> {
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

impl<S: Spike, F: Fn(usize, usize, &[S; FEW], usize)> Forward<'_, S, F> {
    #[inline(always)]
    fn steps<const HARD: bool, const AT: bool>(self) {
        let (leak, len) = (self.settings.leak, self.membranes.len());
        let (steps, neurons) = (self.population.steps, self.population.neurons);
        let (mut fired, mut rest) = ([S::default(); FEW], [0f32; FEW]);
        self.own.as_flattened_mut()[..len].copy_from_slice(self.membranes);
        for t in 0..steps {
            let currents = self.currents.at(t, neurons, self.first, len);
            let next = self.currents.after(t, steps, neurons, self.first, len);
            for (n, (v, thresholds)) in self.own.iter_mut().zip(self.thresholds).enumerate() {
                soon(next, n * FEW);
                let currents = few(currents, n * FEW, &mut rest);
                for k in 0..FEW {
                    let u = leak * v[k] + currents[k];
                    let s = fires::<AT>(u, thresholds[k]);
                    v[k] = reset::<HARD>(u, thresholds[k], s);
                    fired[k] = S::of(s);
                }
                (self.fired)(t, n * FEW, &fired, FEW.min(len - n * FEW));
            }
        }
        self.membranes
            .copy_from_slice(&self.own.as_flattened()[..len]);
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

/// The gradient `[T, N, C, ...]` of the spikes that a backward pass starts from.
pub(crate) enum Upstream<'a> {
    /// In its place comes that of the currents.
    InPlace(&'a mut [f32]),
    /// With room for that of the currents.
    Apart(&'a [f32], &'a mut Unwritten),
}

impl Window<'_> {
    /// Turns the gradient of the spikes into that of the currents, and `[N, C, ...]` of the membrane after the last step
    /// into that of the one before the first. The membranes are computed again, not kept from the forward pass.
    pub(crate) fn backward(&self, gradients: Upstream, g_membrane: &mut [f32]) {
        // built anew inside each closure, so that each inner loop knows its surrogate
        match self.settings.surrogate {
            Surrogate::PiecewiseLinear { scale } => {
                let surrogate = move |x| Surrogate::PiecewiseLinear { scale }.derivative(x);
                self.blocks(surrogate, gradients, g_membrane);
            }
            Surrogate::Atan { alpha } => {
                let surrogate = move |x| Surrogate::Atan { alpha }.derivative(x);
                self.blocks(surrogate, gradients, g_membrane);
            }
            Surrogate::Sigmoid { alpha } => {
                let surrogate = move |x| Surrogate::Sigmoid { alpha }.derivative(x);
                self.blocks(surrogate, gradients, g_membrane);
            }
            Surrogate::Rectangular { width } => {
                let surrogate = move |x| Surrogate::Rectangular { width }.derivative(x);
                self.blocks(surrogate, gradients, g_membrane);
            }
            Surrogate::SuperSpike { beta } => {
                let surrogate = move |x| Surrogate::SuperSpike { beta }.derivative(x);
                self.blocks(surrogate, gradients, g_membrane);
            }
        }
    }

    fn blocks(
        &self,
        derivative: impl Fn(f32) -> f32 + Sync,
        gradients: Upstream,
        g_membrane: &mut [f32],
    ) {
        let len = self.population.steps * self.population.neurons;
        let (given, sink) = match gradients {
            Upstream::InPlace(gradient) => {
                assert_eq!(gradient.len(), len);
                let places = Disjoint::new(gradient);
                (Given::There(places), Sink::new(places, 0))
            }
            Upstream::Apart(g_spikes, room) => {
                assert_eq!(g_spikes.len(), len);
                (Given::Apart(g_spikes), Sink::new(room.places(), len))
            }
        };
        let size = (KEPT / self.population.steps / FEW * FEW).clamp(FEW, BACKWARD);
        g_membrane
            .par_chunks_mut(size)
            .enumerate()
            .for_each(|(block, g_v)| {
                let (first, len) = (block * size, g_v.len());
                BUFFERS.with_borrow_mut(|buffers| {
                    let thresholds = room(&mut buffers.thresholds, len);
                    self.population
                        .fill(first, &mut thresholds.as_flattened_mut()[..len]);
                    let whole = len.next_multiple_of(FEW);
                    widest::run(Backward {
                        window: self,
                        derivative: &derivative,
                        first,
                        thresholds,
                        inverses: room(&mut buffers.inverses, len),
                        membranes: room(&mut buffers.membranes, self.population.steps * whole),
                        own: room(&mut buffers.own, len),
                        g_v,
                        given,
                        sink,
                    });
                });
                sink.finish();
            });
    }
}

/// Where the gradient of the spikes is.
#[derive(Clone, Copy)]
enum Given<'a> {
    Apart(&'a [f32]),
    /// Where that of the currents goes.
    There(Disjoint),
}

impl<'a> Given<'a> {
    /// That of one task's neurons, from number `first` on, where it was not written over yet.
    #[inline(always)]
    fn at(self, first: usize, len: usize) -> &'a [f32] {
        match self {
            Self::Apart(gradient) => &gradient[first..][..len],
            // SAFETY: all of it is there, and this part is the task's alone.
            Self::There(places) => unsafe { places.slice(first, len) },
        }
    }
}

/// A block of neurons over all steps, backward.
struct Backward<'a, D> {
    window: &'a Window<'a>,
    derivative: &'a D,
    first: usize,
    thresholds: &'a [[f32; FEW]],
    inverses: &'a mut [[f32; FEW]],
    /// One step after another.
    membranes: &'a mut [[f32; FEW]],
    g_v: &'a mut [f32],
    /// Room for what goes from step to step: the membranes, then their gradients.
    own: &'a mut [[f32; FEW]],
    given: Given<'a>,
    sink: Sink,
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
        let (leak, len) = (self.window.settings.leak, self.g_v.len());
        let population = self.window.population;
        self.integrate::<HARD, AT>();
        let inverses = self.inverses.iter_mut().zip(self.thresholds);
        inverses.for_each(|(inverses, thresholds)| *inverses = thresholds.map(|x| 1.0 / x));
        self.own.as_flattened_mut()[..len].copy_from_slice(self.g_v);
        let (given, mut result, mut rest) = (self.given, [0f32; FEW], [0f32; FEW]);
        for t in (0..population.steps).rev() {
            let first = t * population.neurons + self.first;
            let membranes = &self.membranes[t * self.own.len()..];
            let inputs = membranes.iter().zip(self.thresholds).zip(&*self.inverses);
            for (n, (((u, thresholds), inverses), g_v)) in inputs.zip(&mut *self.own).enumerate() {
                if t > 0 {
                    soon(given.at(first - population.neurons, len), n * FEW);
                }
                let g = few(given.at(first, len), n * FEW, &mut rest);
                for k in 0..FEW {
                    let slope = (self.derivative)(u[k] * inverses[k] - 1.0) * inverses[k];
                    let (kept, taken) = match HARD {
                        true => (f32::from(u8::from(!fires::<AT>(u[k], thresholds[k]))), u[k]),
                        false => (1.0, thresholds[k]),
                    };
                    // the reset's spike as a constant: no gradient comes back through it
                    let g_spike = match DETACH {
                        true => g[k],
                        false => g[k] - taken * g_v[k],
                    };
                    let g_u = g_v[k] * kept + g_spike * slope;
                    result[k] = g_u;
                    g_v[k] = leak * g_u;
                }
                let count = FEW.min(len - n * FEW);
                // SAFETY: these neurons' gradients are this task's alone, and those that were there are read no more.
                unsafe { self.sink.write(first + n * FEW, &result[..count]) };
            }
        }
        self.g_v.copy_from_slice(&self.own.as_flattened()[..len]);
    }

    /// The membranes just before each step's comparison with the threshold.
    #[inline(always)]
    fn integrate<const HARD: bool, const AT: bool>(&mut self) {
        let (leak, len) = (self.window.settings.leak, self.g_v.len());
        let Window {
            population,
            currents,
            membrane,
            ..
        } = self.window;
        let mut rest = [0f32; FEW];
        self.own.as_flattened_mut()[..len].copy_from_slice(&membrane[self.first..][..len]);
        for (t, row) in self.membranes.chunks_exact_mut(self.own.len()).enumerate() {
            let now = currents.at(t, population.neurons, self.first, len);
            let next = currents.after(t, population.steps, population.neurons, self.first, len);
            let state = self.own.iter_mut().zip(self.thresholds);
            for (n, (us, (v, thresholds))) in row.iter_mut().zip(state).enumerate() {
                soon(next, n * FEW);
                let currents = few(now, n * FEW, &mut rest);
                for k in 0..FEW {
                    let u = leak * v[k] + currents[k];
                    us[k] = u;
                    v[k] = reset::<HARD>(u, thresholds[k], fires::<AT>(u, thresholds[k]));
                }
            }
        }
    }
}
