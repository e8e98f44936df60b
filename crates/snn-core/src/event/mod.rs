//! Inference that computes with events instead of dense tensors.
//!
//! A spike adds one line of the weight per tap to the currents around it; what did not fire costs nothing. Layers are run
//! one after another over a stretch of steps, so that a layer's weights stay in cache, and images in parallel. The first
//! layer of a directly coded input is computed once; an average pool becomes the value of an event.
//!
//! Spikes, currents and logits are those of [`SpikingNetwork::run`] bit for bit: both add the same products, each with one
//! rounding, in the same order, and the products that are left out are zeros.

pub(crate) mod layer;
pub(crate) mod lists;

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;

use self::layer::{Gathered, Weighted, Window};
use self::lists::Lists;
use crate::encode::{self, Encoder};
use crate::network::{Batch, Run, SpikingNetwork};
use crate::ops::events::Kernels;
use crate::rng::Seed;
use crate::topology::Layer;
use crate::{Error, Result};

/// Steps of a layer before the next one has its turn.
const STEPS: usize = 16;
/// Currents that are added up together: with the rows of a block they stay in the second-level cache.
const SUMS: usize = 1 << 17;

/// A spiking network prepared for event-driven inference on the CPU.
#[derive(Debug)]
pub struct EventNetwork<'a> {
    network: &'a SpikingNetwork,
    populations: Vec<Population>,
    readout: (Vec<Reshape>, Weighted),
}

/// What an event-driven pass gave.
#[derive(Debug, Clone)]
pub struct EventRun {
    /// As [`SpikingNetwork::run`] gives it.
    pub run: Run,
    /// Accumulates of all images in each weighted layer, by layer index: every spike times the weights it met. Without the
    /// first layer of a directly coded input, which multiplies.
    pub synaptic_operations: BTreeMap<usize, u64>,
}

#[derive(Debug)]
struct Population {
    /// Index of its activation layer.
    layer: usize,
    shape: [usize; 3],
    /// A line: each channel's threshold, infinite where there is no channel.
    thresholds: Vec<f32>,
    /// None if its current is the same at every step.
    input: Option<(Vec<Reshape>, Weighted)>,
}

impl Population {
    fn positions(&self) -> usize {
        self.shape[1] * self.shape[2]
    }
}

/// What happens to events between a population and a weighted layer.
#[derive(Debug, Clone, Copy)]
enum Reshape {
    Pool(usize),
    Flatten,
}

/// What one image gave.
struct Outcome {
    /// `[T, K]`
    readout: Vec<f32>,
    /// Of each population, `[C, H, W]`.
    spikes: Vec<Vec<f32>>,
    /// `[C, H, W]`
    input: Option<Vec<f32>>,
    /// Of each population's layer that has any, and of the readout.
    operations: Vec<(usize, u64)>,
}

impl<'a> EventNetwork<'a> {
    /// Prepares `network`.
    ///
    /// # Errors
    /// A network that is not on the CPU, has no population, or in which an average pool does not directly follow a
    /// population or two weighted layers follow one another; with the layer.
    pub fn new(network: &'a SpikingNetwork) -> Result<Self> {
        let topology = network.topology();
        if !network.parameters().device().is_cpu() {
            return Err(Error::argument("network", "events are for the CPU"));
        }
        let shapes = topology.shapes();
        let map = |index: usize| match *shapes[index] {
            [c, h, w] => [c, h, w],
            ref shape => [shape[0], 1, 1],
        };
        let lanes = Kernels::best().lanes;
        let mut dense = network.settings().encoder == Encoder::Direct;
        let (mut reshapes, mut weighted) = (Vec::new(), None);
        let mut populations = Vec::new();
        for (index, layer) in topology.layers().iter().enumerate() {
            let fail = |message: &str| Error::Layer {
                index,
                kind: layer.kind(),
                message: message.into(),
            };
            match *layer {
                Layer::Activation { .. } => {
                    let shape = map(index);
                    let line = shape[0].next_multiple_of(lanes);
                    let values: Vec<f32> = network.thresholds()[&index].to_vec1()?;
                    let mut thresholds = vec![f32::INFINITY; line];
                    for (c, threshold) in thresholds[..shape[0]].iter_mut().enumerate() {
                        *threshold = values[if values.len() == 1 { 0 } else { c }];
                    }
                    let input = weighted.take();
                    if input.is_none() && !dense {
                        return Err(fail(
                            "is fed by no weighted layer: no event can be added up",
                        ));
                    }
                    populations.push(Population {
                        layer: index,
                        shape,
                        thresholds,
                        input,
                    });
                    dense = false;
                }
                Layer::Dropout { .. } => {}
                // up to the first population, a directly coded input goes through the dense layers once
                _ if dense => {}
                Layer::AvgPool2d { kernel } => {
                    if populations.is_empty() || weighted.is_some() || !reshapes.is_empty() {
                        return Err(fail(
                            "does not directly follow a population: events cannot be pooled",
                        ));
                    }
                    reshapes.push(Reshape::Pool(kernel));
                }
                Layer::Flatten if weighted.is_none() => reshapes.push(Reshape::Flatten),
                Layer::Conv2d { .. } | Layer::Linear { .. } if weighted.is_none() => {
                    let [.., out_width] = map(index);
                    let (stride, padding) = match *layer {
                        Layer::Conv2d {
                            stride, padding, ..
                        } => (stride, padding),
                        _ => (1, 0),
                    };
                    let window = Window {
                        stride,
                        padding,
                        out_width,
                    };
                    let parameters = network.parameters();
                    let (weight, bias) = (parameters.weight(index)?, parameters.bias(index));
                    let layer = Weighted::new(index, weight, bias, window)?;
                    weighted = Some((std::mem::take(&mut reshapes), layer));
                }
                _ => return Err(fail("is fed by a weighted layer, not by events")),
            }
        }
        match weighted {
            Some(readout) if !populations.is_empty() => Ok(Self {
                network,
                populations,
                readout,
            }),
            _ => Err(Error::argument(
                "network",
                "has no population: there are no events",
            )),
        }
    }

    /// As [`SpikingNetwork::run`], with the same result.
    ///
    /// # Errors
    /// Those of [`SpikingNetwork::advance`].
    pub fn run(&self, batch: Batch, timesteps: usize) -> Result<EventRun> {
        let images = batch.images.detach();
        let batch = Batch {
            images: &images,
            ..batch
        };
        let n = self.network.check(batch, timesteps)?;
        let held = match self.network.settings().encoder {
            Encoder::Direct => Some(self.network.first_currents(&images)?),
            Encoder::Poisson => None,
        };
        let outcomes = (0..n)
            .into_par_iter()
            .map(|image| {
                let held = held.as_ref().map(|held| held.get(image)).transpose()?;
                let pixels = images.narrow(0, image, 1)?.contiguous()?;
                self.run_image(&pixels, batch.ids[image], batch.seed, held, timesteps)
            })
            .collect::<Result<Vec<Outcome>>>()?;
        self.gather(&outcomes, timesteps)
    }

    fn run_image(
        &self,
        pixels: &Tensor,
        id: u64,
        seed: Seed,
        held: Option<Tensor>,
        timesteps: usize,
    ) -> Result<Outcome> {
        let held = held
            .map(|held| -> Result<Vec<f32>> { Ok(held.flatten_all()?.to_vec1()?) })
            .transpose()?;
        let initial = self.network.settings().initial_membrane as f32;
        let mut membranes: Vec<Vec<f32>> = self
            .populations
            .iter()
            .map(|population| {
                let line = population.thresholds.iter().map(|threshold| {
                    if threshold.is_finite() {
                        threshold * initial
                    } else {
                        0.0
                    }
                });
                let line: Vec<f32> = line.collect();
                line.repeat(population.positions())
            })
            .collect();
        let mut outcome = Outcome {
            readout: Vec::with_capacity(timesteps * self.readout.1.out_channels),
            spikes: self
                .populations
                .iter()
                .map(|population| vec![0.0; population.shape.iter().product()])
                .collect(),
            input: held.is_none().then(|| vec![0.0; pixels.elem_count()]),
            operations: Vec::new(),
        };
        // as the membranes lie, [positions, line]
        let mut counts: Vec<Vec<f32>> = membranes.iter().map(|m| vec![0.0; m.len()]).collect();
        let mut operations: BTreeMap<usize, u64> = BTreeMap::new();
        for first in (0..timesteps).step_by(STEPS) {
            let steps = STEPS.min(timesteps - first);
            let mut lists = None;
            if let Some(counts) = &mut outcome.input {
                let seed = seed.derive("coder");
                let spikes = encode::poisson(pixels, &[id], first, steps, seed)?;
                let spikes: Vec<f32> = spikes.flatten_all()?.to_vec1()?;
                let input = Lists::of_dense(&spikes, self.network.topology().input());
                input.count(counts);
                lists = Some(input);
            }
            for (p, population) in self.populations.iter().enumerate() {
                let input = reshaped(population.input.as_ref(), lists);
                let (out, spikes) = self.advance(
                    population,
                    input.as_ref(),
                    held.as_deref(),
                    steps,
                    &mut membranes[p],
                    &mut counts[p],
                );
                if let Some((_, weighted)) = &population.input {
                    *operations.entry(weighted.layer).or_default() +=
                        spikes * weighted.out_channels as u64;
                }
                lists = Some(out);
            }
            let weighted = &self.readout.1;
            let lists = reshaped(Some(&self.readout), lists)
                .expect("a population comes before the readout");
            let mut sums = vec![0f32; steps * weighted.line];
            weighted.currents(&lists, 0..1, &mut Gathered::default(), &mut sums);
            *operations.entry(weighted.layer).or_default() +=
                weighted.met(&lists, 1) * weighted.out_channels as u64;
            for sums in sums.chunks_exact(weighted.line) {
                outcome.readout.extend(&sums[..weighted.out_channels]);
            }
        }
        for ((population, counts), spikes) in self
            .populations
            .iter()
            .zip(&counts)
            .zip(&mut outcome.spikes)
        {
            let line = population.thresholds.len();
            for (position, counts) in counts.chunks_exact(line).enumerate() {
                for (channel, count) in counts[..population.shape[0]].iter().enumerate() {
                    spikes[channel * population.positions() + position] = *count;
                }
            }
        }
        outcome.operations = operations.into_iter().collect();
        Ok(outcome)
    }

    /// Some steps of a population; what fired, and the spikes that met a weight on the way, counted once per output
    /// position.
    fn advance(
        &self,
        population: &Population,
        lists: Option<&Lists>,
        held: Option<&[f32]>,
        steps: usize,
        membranes: &mut [f32],
        counts: &mut [f32],
    ) -> (Lists, u64) {
        let kernels = Kernels::best();
        let settings = &self.network.settings().neuron;
        let (channels, positions) = (population.shape[0], population.positions());
        let line = population.thresholds.len();
        let mut out = Lists::new(steps, population.shape, false);
        let mut fired = vec![0u8; line.next_multiple_of(8)];
        let mut gathered = Gathered::default();
        let together = (SUMS / (steps * line)).clamp(1, positions);
        let mut sums = vec![0f32; together * steps * line];
        for first in (0..positions).step_by(together) {
            let some = first..(first + together).min(positions);
            let sums = &mut sums[..some.len() * steps * line];
            if let (Some((_, weighted)), Some(lists)) = (&population.input, lists) {
                weighted.currents(lists, some.clone(), &mut gathered, sums);
            } else if let Some(held) = held {
                for (position, sums) in some.clone().zip(sums.chunks_exact_mut(steps * line)) {
                    for sums in sums.chunks_exact_mut(line) {
                        for (c, sum) in sums[..channels].iter_mut().enumerate() {
                            *sum = held[c * positions + position];
                        }
                    }
                }
            }
            for (position, sums) in some.zip(sums.chunks_exact(steps * line)) {
                let membranes = &mut membranes[position * line..][..line];
                let counts = &mut counts[position * line..][..line];
                for (step, sums) in sums.chunks_exact(line).enumerate() {
                    let thresholds = &population.thresholds;
                    let fired_here = &mut fired[..line];
                    kernels.fire(settings, sums, thresholds, membranes, counts, fired_here);
                    out.fill((step, position), &fired);
                }
            }
        }
        let met = match (&population.input, lists) {
            (Some((_, weighted)), Some(lists)) => weighted.met(lists, positions),
            _ => 0,
        };
        (out, met)
    }

    fn gather(&self, outcomes: &[Outcome], timesteps: usize) -> Result<EventRun> {
        let (n, device) = (outcomes.len(), &candle_core::Device::Cpu);
        let classes = self.readout.1.out_channels;
        let mut readout: Vec<f32> = Vec::with_capacity(timesteps * n * classes);
        for t in 0..timesteps {
            for outcome in outcomes {
                readout.extend(&outcome.readout[t * classes..][..classes]);
            }
        }
        let readout = Tensor::from_vec(readout, (timesteps, n, classes), device)?;
        let shapes = self.network.topology().shapes();
        let stack = |values: Vec<f32>, shape: &[usize]| {
            Tensor::from_vec(values, [&[n], shape].concat(), device)
        };
        let mut spikes = BTreeMap::new();
        for (p, population) in self.populations.iter().enumerate() {
            let values = outcomes
                .iter()
                .flat_map(|outcome| outcome.spikes[p].iter().copied());
            let counts = stack(values.collect(), &shapes[population.layer])?;
            spikes.insert(population.layer, counts);
        }
        let input: Option<Vec<f32>> = outcomes
            .iter()
            .map(|outcome| outcome.input.as_deref())
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat());
        let mut synaptic_operations = BTreeMap::new();
        for (layer, operations) in outcomes.iter().flat_map(|outcome| &outcome.operations) {
            *synaptic_operations.entry(*layer).or_default() += operations;
        }
        Ok(EventRun {
            run: Run {
                logits: self.network.cumulative_logits(&readout)?,
                spikes,
                input_events: input
                    .map(|values| stack(values, &self.network.topology().input()))
                    .transpose()?,
            },
            synaptic_operations,
        })
    }
}

/// Events as the weighted layer takes them.
fn reshaped(input: Option<&(Vec<Reshape>, Weighted)>, lists: Option<Lists>) -> Option<Lists> {
    let mut lists = lists?;
    for reshape in input.map_or(&[][..], |(reshapes, _)| reshapes) {
        lists = match *reshape {
            Reshape::Pool(kernel) => lists.pooled(kernel),
            Reshape::Flatten => lists.flattened(),
        };
    }
    Some(lists)
}
