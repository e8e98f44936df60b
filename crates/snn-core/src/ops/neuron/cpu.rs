//! One pass over time per block of neurons, blocks in parallel. A neuron's numbers depend on its own currents alone, so
//! neither the blocks nor the threads matter to the result.

use std::cell::RefCell;

use rayon::prelude::*;

use crate::neuron::{Firing, NeuronSettings, Reset};
use crate::ops::cpu::{Disjoint, scratch};
use crate::surrogate::Surrogate;

/// Neurons per task of the forward pass.
const BLOCK: usize = 2048;
/// Membranes that a task of the backward pass keeps: half a megabyte, so that they stay in the second-level cache.
const KEPT: usize = 1 << 17;

/// The sizes of a population and its thresholds.
pub(super) struct Population {
    /// T
    steps: usize,
    /// N * C * ...
    neurons: usize,
    /// Neurons of one channel of one sample.
    plane: usize,
    /// `[1]` or `[C]`
    threshold: Vec<f32>,
}

impl Population {
    /// For currents of shape `[T, N, C, ...]`.
    pub(super) fn new(currents: &[usize], threshold: Vec<f32>) -> Self {
        Self {
            steps: currents[0],
            neurons: currents[1..].iter().product(),
            plane: currents[3..].iter().product(),
            threshold,
        }
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

#[derive(Default)]
struct Scratch {
    thresholds: Vec<f32>,
    /// One over the thresholds.
    inverses: Vec<f32>,
    membranes: Vec<f32>,
    gradient: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Spikes `[T, N, C, ...]` and the membrane after the last step.
pub(super) fn forward(
    population: &Population,
    settings: &NeuronSettings,
    currents: &[f32],
    membrane: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let mut spikes = vec![0f32; currents.len()];
    let mut last = vec![0f32; population.neurons];
    let run = match (settings.reset, settings.firing) {
        (Reset::Soft, Firing::Above) => forward_block::<false, false>,
        (Reset::Soft, Firing::AtOrAbove) => forward_block::<false, true>,
        (Reset::Hard, Firing::Above) => forward_block::<true, false>,
        (Reset::Hard, Firing::AtOrAbove) => forward_block::<true, true>,
    };
    let out = Disjoint::new(&mut spikes);
    last.par_chunks_mut(BLOCK)
        .enumerate()
        .for_each(|(block, v)| {
            let first = block * BLOCK;
            v.copy_from_slice(&membrane[first..][..v.len()]);
            BUFFERS.with_borrow_mut(|buffers| {
                let thresholds = scratch(&mut buffers.thresholds, v.len());
                population.fill(first, thresholds);
                for t in 0..population.steps {
                    let start = t * population.neurons + first;
                    // SAFETY: these neurons' spikes are this task's alone.
                    let spikes = unsafe { out.slice(start, v.len()) };
                    run(
                        settings.leak,
                        &currents[start..][..v.len()],
                        thresholds,
                        v,
                        spikes,
                    );
                }
            });
        });
    (spikes, last)
}

/// Whether a membrane is over its threshold, as 0 or 1.
#[inline(always)]
fn fires<const AT: bool>(u: f32, threshold: f32) -> f32 {
    f32::from(u8::from(if AT { u >= threshold } else { u > threshold }))
}

fn forward_block<const HARD: bool, const AT: bool>(
    leak: f32,
    currents: &[f32],
    thresholds: &[f32],
    membranes: &mut [f32],
    spikes: &mut [f32],
) {
    for (((i, threshold), v), spike) in currents.iter().zip(thresholds).zip(membranes).zip(spikes) {
        let u = leak * *v + i;
        let s = fires::<AT>(u, *threshold);
        *v = if HARD {
            u * (1.0 - s)
        } else {
            u - s * threshold
        };
        *spike = s;
    }
}

/// Gradients of the currents and of the membrane before the first step, from those of the spikes and of the membrane
/// after the last one. The membranes are computed again, not kept from the forward pass: memory does not grow with T
/// beyond the currents themselves.
pub(super) fn backward(
    population: &Population,
    settings: &NeuronSettings,
    currents: &[f32],
    membrane: &[f32],
    g_spikes: Option<&[f32]>,
    g_last: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>) {
    let pass = Pass {
        population,
        settings,
        currents,
        membrane,
        g_spikes,
        g_last,
    };
    // built anew inside each closure, so that each inner loop knows its surrogate
    match settings.surrogate {
        Surrogate::PiecewiseLinear { scale } => {
            pass.run(move |x| Surrogate::PiecewiseLinear { scale }.derivative(x))
        }
        Surrogate::Atan { alpha } => pass.run(move |x| Surrogate::Atan { alpha }.derivative(x)),
        Surrogate::Sigmoid { alpha } => {
            pass.run(move |x| Surrogate::Sigmoid { alpha }.derivative(x))
        }
        Surrogate::Rectangular { width } => {
            pass.run(move |x| Surrogate::Rectangular { width }.derivative(x))
        }
        Surrogate::SuperSpike { beta } => {
            pass.run(move |x| Surrogate::SuperSpike { beta }.derivative(x))
        }
    }
}

struct Pass<'a> {
    population: &'a Population,
    settings: &'a NeuronSettings,
    currents: &'a [f32],
    membrane: &'a [f32],
    g_spikes: Option<&'a [f32]>,
    g_last: Option<&'a [f32]>,
}

impl Pass<'_> {
    fn run(&self, derivative: impl Fn(f32) -> f32 + Sync) -> (Vec<f32>, Vec<f32>) {
        match (self.settings.reset, self.settings.firing) {
            (Reset::Soft, Firing::Above) => self.blocks::<false, false>(derivative),
            (Reset::Soft, Firing::AtOrAbove) => self.blocks::<false, true>(derivative),
            (Reset::Hard, Firing::Above) => self.blocks::<true, false>(derivative),
            (Reset::Hard, Firing::AtOrAbove) => self.blocks::<true, true>(derivative),
        }
    }

    fn blocks<const HARD: bool, const AT: bool>(
        &self,
        derivative: impl Fn(f32) -> f32 + Sync,
    ) -> (Vec<f32>, Vec<f32>) {
        let (steps, neurons) = (self.population.steps, self.population.neurons);
        let mut g_currents = vec![0f32; self.currents.len()];
        let mut g_membrane = vec![0f32; neurons];
        let out = Disjoint::new(&mut g_currents);
        let size = (KEPT / steps).clamp(16, BLOCK);
        g_membrane
            .par_chunks_mut(size)
            .enumerate()
            .for_each(|(block, g_v)| {
                let (first, len) = (block * size, g_v.len());
                BUFFERS.with_borrow_mut(|buffers| {
                    let thresholds = scratch(&mut buffers.thresholds, len);
                    self.population.fill(first, thresholds);
                    let inverses = scratch(&mut buffers.inverses, len);
                    for (inverse, threshold) in inverses.iter_mut().zip(&*thresholds) {
                        *inverse = 1.0 / threshold;
                    }
                    let membranes = scratch(&mut buffers.membranes, steps * len);
                    self.integrate::<HARD, AT>(first, thresholds, membranes);
                    match self.g_last {
                        Some(g_last) => g_v.copy_from_slice(&g_last[first..][..len]),
                        None => g_v.fill(0.0),
                    }
                    let silent = scratch(&mut buffers.gradient, len);
                    silent.fill(0.0);
                    for t in (0..steps).rev() {
                        let start = t * neurons + first;
                        let step = Step {
                            leak: self.settings.leak,
                            // the reset's spike as a constant: no gradient comes back through it
                            through_reset: if self.settings.detach_reset { 0.0 } else { 1.0 },
                            thresholds,
                            inverses,
                            membranes: &membranes[t * len..][..len],
                            g_spikes: self.g_spikes.map_or(&*silent, |g| &g[start..][..len]),
                        };
                        // SAFETY: these neurons' gradients are this task's alone.
                        let g_currents = unsafe { out.slice(start, len) };
                        step.run::<HARD, AT>(&derivative, g_v, g_currents);
                    }
                });
            });
        (g_currents, g_membrane)
    }

    /// The membranes just before each step's comparison with the threshold, `[T, len]`.
    fn integrate<const HARD: bool, const AT: bool>(
        &self,
        first: usize,
        thresholds: &[f32],
        membranes: &mut [f32],
    ) {
        let (leak, len) = (self.settings.leak, thresholds.len());
        let rows = membranes.chunks_exact_mut(len).enumerate();
        let mut previous: Option<&mut [f32]> = None;
        for (t, row) in rows {
            let currents = &self.currents[t * self.population.neurons + first..][..len];
            match previous {
                None => {
                    let before = &self.membrane[first..][..len];
                    for ((u, v), i) in row.iter_mut().zip(before).zip(currents) {
                        *u = leak * v + i;
                    }
                }
                Some(before) => {
                    for (((u, before), threshold), i) in
                        row.iter_mut().zip(&*before).zip(thresholds).zip(currents)
                    {
                        let s = fires::<AT>(*before, *threshold);
                        let v = if HARD {
                            before * (1.0 - s)
                        } else {
                            before - s * threshold
                        };
                        *u = leak * v + i;
                    }
                }
            }
            previous = Some(row);
        }
    }
}

/// One step backward for a block of neurons.
struct Step<'a> {
    leak: f32,
    through_reset: f32,
    thresholds: &'a [f32],
    inverses: &'a [f32],
    membranes: &'a [f32],
    g_spikes: &'a [f32],
}

impl Step<'_> {
    /// Takes `g_v` from after the step to before it.
    #[inline(always)]
    fn run<const HARD: bool, const AT: bool>(
        &self,
        derivative: impl Fn(f32) -> f32,
        g_v: &mut [f32],
        g_currents: &mut [f32],
    ) {
        let inputs = self
            .membranes
            .iter()
            .zip(self.thresholds)
            .zip(self.inverses)
            .zip(self.g_spikes);
        for ((((&u, &threshold), &inverse), &g_spike), (g_v, g_current)) in
            inputs.zip(g_v.iter_mut().zip(g_currents))
        {
            let slope = derivative(u * inverse - 1.0) * inverse;
            let (kept, taken) = if HARD {
                (1.0 - fires::<AT>(u, threshold), u)
            } else {
                (1.0, threshold)
            };
            let g_spike = g_spike - self.through_reset * taken * *g_v;
            let g_u = *g_v * kept + g_spike * slope;
            *g_current = g_u;
            *g_v = self.leak * g_u;
        }
    }
}
