//! Inference that computes with events instead of dense tensors.
//!
//! A spike adds one line of the weight per tap to the currents around it; what did not fire costs nothing. Layers are run
//! one after another over a stretch of steps, so that a layer's weights stay in cache, and images in parallel. The first
//! layer of a directly coded input is computed once; an average pool becomes the value of an event.
//!
//! Spikes, currents and logits are those of [`SpikingNetwork::run`] bit for bit: both add the same products, each with one
//! rounding, in the same order, and the products that are left out are zeros.

pub(crate) mod layer;
pub(crate) mod raster;
mod stage;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use candle_core::Tensor;
use rayon::prelude::*;

use self::layer::{Weighted, Window};
use self::raster::Raster;
use self::work::Work;
use crate::encode::{self, Encoder};
use crate::network::{Batch, Run, SpikingNetwork};
use crate::ops::events::{Currents, Fired, Kernels, Neurons};
use crate::ops::transpose::transpose;
use crate::rng::Seed;
use crate::topology::Layer;
use crate::{Error, Result};

/// Steps of a layer before the next one has its turn.
const STEPS: usize = 16;
/// Images that a thread takes through the layers together: each weight is then read from memory once for all of them.
const IMAGES: usize = 8;
/// Currents that are added up together: with the rows of a block they stay in the second-level cache.
const SUMS: usize = 1 << 17;
/// Cells whose currents are added up together: with their inputs they stay there too.
const CELLS: usize = 512;

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
    /// Accumulates of all images in each weighted layer, by layer index: every spike times the weights it met; and in each
    /// shortcut, one for each spike. Without the first layer of a directly coded input, which multiplies.
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
    shortcuts: Vec<Shortcut>,
    /// Number of the last population that a shortcut from here reaches.
    last_taker: Option<usize>,
}

/// Events of an earlier population beside the weighted layer.
#[derive(Debug)]
struct Shortcut {
    /// Index in the topology.
    layer: usize,
    /// Number of the population.
    from: usize,
    reshapes: Vec<Reshape>,
    /// Of each of its channels.
    scale: Vec<f32>,
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

/// Events of a shortcut, and the scale of each channel.
type Beside<'a> = (Rc<Raster>, &'a [f32]);

/// What some images gave.
struct Outcome {
    /// `[T, images, K]`
    readout: Vec<f32>,
    /// Of each population, `[images, C, H, W]`.
    spikes: Vec<Vec<f32>>,
    /// `[images, C, H, W]`
    input: Option<Vec<f32>>,
    /// Of each layer that has any.
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
        let (mut reshapes, mut weighted, mut shortcuts) = (Vec::new(), None, Vec::new());
        let mut populations: Vec<Population> = Vec::new();
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
                        shortcuts: std::mem::take(&mut shortcuts),
                        last_taker: None,
                    });
                    dense = false;
                }
                Layer::Dropout { .. } => {}
                // up to the first population, a directly coded input goes through the dense layers once
                _ if dense => {}
                Layer::Shortcut { from, kernel, .. } => {
                    let number = populations.iter().position(|p| p.layer == from);
                    let number = number.expect("an activation before it, by Topology::new");
                    let here = populations.len();
                    populations[number].last_taker = Some(here);
                    let pool = (kernel > 1).then_some(Reshape::Pool(kernel));
                    shortcuts.push(Shortcut {
                        layer: index,
                        from: number,
                        reshapes: pool.into_iter().collect(),
                        scale: network.parameters().scale(index)?.to_vec1()?,
                    });
                }
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
                    let [_, out_height, out_width] = map(index);
                    let (stride, padding) = match *layer {
                        Layer::Conv2d {
                            stride, padding, ..
                        } => (stride, padding),
                        _ => (1, 0),
                    };
                    let window = Window {
                        stride,
                        padding,
                        out_height,
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
        let together = n.div_ceil(rayon::current_num_threads()).clamp(1, IMAGES);
        let outcomes = (0..n.div_ceil(together))
            .into_par_iter()
            .map(|group| {
                let some = group * together..n.min((group + 1) * together);
                let held = held
                    .as_ref()
                    .map(|held| held.narrow(0, some.start, some.len()));
                let pixels = images.narrow(0, some.start, some.len())?.contiguous()?;
                let ids = &batch.ids[some];
                self.run_images(&pixels, ids, batch.seed, held.transpose()?, timesteps)
            })
            .collect::<Result<Vec<Outcome>>>()?;
        self.gather(&outcomes, n, timesteps)
    }

    fn run_images(
        &self,
        pixels: &Tensor,
        ids: &[u64],
        seed: Seed,
        held: Option<Tensor>,
        timesteps: usize,
    ) -> Result<Outcome> {
        let images = ids.len();
        let held = held.map(|held| self.held(&held)).transpose()?;
        let mut membranes: Vec<Vec<f32>> = self
            .populations
            .iter()
            .map(|population| self.at_rest(population, images))
            .collect();
        let mut outcome = Outcome {
            readout: vec![0.0; timesteps * images * self.readout.1.out_channels],
            spikes: Vec::new(),
            input: held.is_none().then(|| vec![0.0; pixels.elem_count()]),
            operations: Vec::new(),
        };
        // as the membranes lie, [positions, line]
        let mut counts: Vec<Vec<f32>> = membranes.iter().map(|m| vec![0.0; m.len()]).collect();
        let mut operations: BTreeMap<usize, u64> = BTreeMap::new();
        let mut work = Work::default();
        for first in (0..timesteps).step_by(STEPS) {
            let steps = STEPS.min(timesteps - first);
            let mut raster = None;
            if let Some(counts) = &mut outcome.input {
                let input = self.coded(pixels, ids, seed, (first, steps))?;
                input.count(counts);
                raster = Some(Rc::new(input));
            }
            let mut kept: BTreeMap<usize, Rc<Raster>> = BTreeMap::new();
            for (p, population) in self.populations.iter().enumerate() {
                let reshapes = population.input.as_ref().map(|(reshapes, _)| &reshapes[..]);
                let input = raster.map(|raster| reshaped(reshapes.unwrap_or_default(), raster));
                let mut beside = Vec::with_capacity(population.shortcuts.len());
                for shortcut in &population.shortcuts {
                    let raster = reshaped(&shortcut.reshapes, Rc::clone(&kept[&shortcut.from]));
                    *operations.entry(shortcut.layer).or_default() +=
                        raster.spikes.iter().sum::<u64>();
                    beside.push((raster, &shortcut.scale[..]));
                }
                let (out, spikes) = self.advance(
                    population,
                    (input.as_deref(), &beside),
                    held.as_deref(),
                    (images, steps),
                    (&mut membranes[p], &mut counts[p]),
                    &mut work,
                );
                if let Some((_, weighted)) = &population.input {
                    *operations.entry(weighted.layer).or_default() +=
                        spikes * weighted.out_channels as u64;
                }
                let out = Rc::new(out);
                kept.insert(p, Rc::clone(&out));
                kept.retain(|&earlier, _| self.populations[earlier].last_taker > Some(p));
                raster = Some(out);
            }
            let (reshapes, weighted) = &self.readout;
            let raster = raster.expect("a population comes before the readout");
            let raster = reshaped(reshapes, raster);
            let classes = weighted.out_channels;
            *operations.entry(weighted.layer).or_default() +=
                weighted.met(&raster) * classes as u64;
            let readout = &mut outcome.readout[first * images * classes..];
            weighted.currents(&raster, together(weighted.line), &mut work, |work| {
                for (group, some, sums) in work.sums() {
                    let kept = group.start..group.end.min(classes);
                    for (cell, sums) in sums.chunks_exact(group.len()).enumerate() {
                        let (image, step) = (some.start + cell / steps, cell % steps);
                        readout[(step * images + image) * classes..][kept.clone()]
                            .copy_from_slice(&sums[..kept.len()]);
                    }
                }
            });
        }
        outcome.spikes = self
            .populations
            .iter()
            .zip(&counts)
            .map(|(population, counts)| {
                let (channels, plane) = (population.shape[0], population.positions());
                turned(
                    counts,
                    (plane, population.thresholds.len()),
                    (channels, plane),
                )
            })
            .collect();
        outcome.operations = operations.into_iter().collect();
        Ok(outcome)
    }

    /// The membranes of a population before the first step, `[images, positions, line]`.
    fn at_rest(&self, population: &Population, images: usize) -> Vec<f32> {
        let initial = self.network.settings().initial_membrane as f32;
        let line = population.thresholds.iter().map(|threshold| {
            if threshold.is_finite() {
                threshold * initial
            } else {
                0.0
            }
        });
        let line: Vec<f32> = line.collect();
        line.repeat(images * population.positions())
    }

    /// The spikes of coded images, for so many steps from `first` on.
    fn coded(
        &self,
        pixels: &Tensor,
        ids: &[u64],
        seed: Seed,
        (first, steps): (usize, usize),
    ) -> Result<Raster> {
        let spikes = encode::poisson(pixels, ids, first, steps, seed.derive("coder"))?;
        let spikes: Vec<f32> = spikes.flatten_all()?.to_vec1()?;
        let shape = self.network.topology().input();
        let maps = spikes.chunks_exact(shape.iter().product());
        Ok(Raster::of_dense(maps, ids.len(), shape))
    }

    /// The currents `[images, C, H, W]` that the first population gets at every step, as its membranes lie.
    fn held(&self, currents: &Tensor) -> Result<Vec<f32>> {
        let first = &self.populations[0];
        let currents: Vec<f32> = currents.flatten_all()?.to_vec1()?;
        let (plane, line) = (first.positions(), first.thresholds.len());
        Ok(turned(&currents, (first.shape[0], plane), (plane, line)))
    }

    /// Some steps of a population; what fired, and the spikes that met a weight on the way, counted once per output
    /// position.
    fn advance(
        &self,
        population: &Population,
        (input, beside): (Option<&Raster>, &[Beside]),
        held: Option<&[f32]>,
        (images, steps): (usize, usize),
        (membranes, counts): (&mut [f32], &mut [f32]),
        work: &mut Work,
    ) -> (Raster, u64) {
        let (kernels, settings) = (Kernels::best(), &self.network.settings().neuron);
        let (positions, line) = (images * population.positions(), population.thresholds.len());
        let mut out = Raster::silent((images, steps), population.shape);
        let width = out.blocks;
        let mut fire = |some: Range<usize>, group: Range<usize>, currents: Currents| {
            let first = some.start * line + group.start;
            let neurons = Neurons {
                thresholds: &population.thresholds[group.clone()],
                membranes: &mut membranes[first..],
                counts: &mut counts[first..],
                line,
            };
            let fired = Fired {
                words: &mut out.words[some.start * steps * width..some.end * steps * width],
                steps,
                width,
                first: group.start,
            };
            kernels.fire(settings, currents, neurons, fired);
        };
        let mut met = 0;
        match (&population.input, input) {
            (Some((_, weighted)), Some(input)) => {
                weighted.currents(input, together(line), work, |work| {
                    for (raster, scale) in beside {
                        work.add_events(raster, scale);
                    }
                    for (group, some, sums) in work.sums() {
                        let currents = Currents {
                            values: sums,
                            step: group.len(),
                            position: steps * group.len(),
                        };
                        fire(some, group, currents);
                    }
                });
                met = weighted.met(input);
            }
            _ => {
                let currents = Currents {
                    values: held.expect("a population without a weighted layer has held currents"),
                    step: 0,
                    position: line,
                };
                fire(0..positions, 0..line, currents);
            }
        }
        out.count_events();
        (out, met)
    }

    fn gather(&self, outcomes: &[Outcome], n: usize, timesteps: usize) -> Result<EventRun> {
        let device = &candle_core::Device::Cpu;
        let classes = self.readout.1.out_channels;
        let mut readout: Vec<f32> = Vec::with_capacity(timesteps * n * classes);
        for t in 0..timesteps {
            for outcome in outcomes {
                let size = outcome.readout.len() / timesteps;
                readout.extend(&outcome.readout[t * size..][..size]);
            }
        }
        let readout = Tensor::from_vec(readout, (timesteps, n, classes), device)?;
        let shapes = self.network.topology().shapes();
        let stack = |values: Vec<f32>, shape: &[usize]| {
            Tensor::from_vec(values, [&[n], shape].concat(), device)
        };
        let mut spikes = BTreeMap::new();
        for (p, population) in self.populations.iter().enumerate() {
            let values: Vec<&[f32]> = outcomes
                .iter()
                .map(|outcome| &outcome.spikes[p][..])
                .collect();
            let counts = stack(values.concat(), &shapes[population.layer])?;
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

/// Cells of a layer with so many output channels that are added up together.
fn together(line: usize) -> usize {
    (SUMS / line).min(CELLS)
}

/// Matrices whose rows, filled up to so many numbers, become columns: as many matrices of `to` rows and numbers of a row.
fn turned(from: &[f32], (rows, line): (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let columns = to.0;
    assert!(columns <= line && rows <= to.1);
    let mut all = vec![0f32; from.len() / (rows * line) * to.0 * to.1];
    let matrices = from.chunks_exact(rows * line);
    for (from, all) in matrices.zip(all.chunks_exact_mut(to.0 * to.1)) {
        // SAFETY: so many rows of so many columns lie in `from`, so many columns of so many rows in `all`.
        unsafe {
            let from = (from.as_ptr(), line);
            transpose(from, (rows, columns), (all.as_mut_ptr(), to.1));
        }
    }
    all
}

/// Events as a layer takes them.
fn reshaped(reshapes: &[Reshape], mut raster: Rc<Raster>) -> Rc<Raster> {
    for reshape in reshapes {
        raster = Rc::new(match *reshape {
            Reshape::Pool(kernel) => raster.pooled(kernel),
            Reshape::Flatten => raster.flattened(),
        });
    }
    raster
}
