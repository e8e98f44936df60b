//! The way over bits: what a pass keeps, and its way forward.

mod backward;

use candle_core::{Device, Tensor};

use super::between::Source;
use super::plan::{Link, Segment};
use super::{Keep, Options};
use crate::Result;
use crate::encode::{self, Encoder};
use crate::network::{Batch, Mode, SpikingNetwork};
use crate::ops::bits::Bits;
use crate::ops::cpu::with_values;
use crate::ops::neuron::cpu::{Currents, Population, forward_bits};
use crate::ops::time;
use crate::rng::Seed;

/// Everything that the backward pass starts from.
#[derive(Debug)]
pub(super) struct Kept {
    network: SpikingNetwork,
    segments: Vec<Segment>,
    images: Tensor,
    ids: Vec<u64>,
    seed: Seed,
    timesteps: usize,
    options: Options,
    /// Currents of the first population where they are the same at every step.
    held: Option<Vec<f32>>,
    chunks: Vec<Chunk>,
}

/// A stretch of time.
#[derive(Debug)]
struct Chunk {
    first: usize,
    steps: usize,
    /// Membranes of each population before the first step; none if they are the initial ones.
    membranes: Option<Vec<Vec<f32>>>,
    /// What each population did, if it is kept.
    traces: Option<Vec<Trace>>,
}

/// What a population did in a chunk.
#[derive(Debug, Default)]
struct Trace {
    spikes: Bits,
    currents: Option<Vec<f32>>,
}

impl Kept {
    /// The logits, and what is kept.
    pub(super) fn forward(
        network: &SpikingNetwork,
        batch: Batch,
        mode: Mode,
        timesteps: usize,
        options: Options,
    ) -> Result<(Tensor, Self)> {
        let mut kept = Self {
            network: network.detached(),
            segments: Segment::all(network, mode)?,
            images: batch.images.detach(),
            ids: batch.ids.to_vec(),
            seed: batch.seed,
            timesteps,
            options,
            held: None,
            chunks: Vec::new(),
        };
        kept.held = kept.held_currents()?;
        let mut membranes = kept.initial_membranes()?;
        let length = options.chunk.unwrap_or(timesteps).min(timesteps);
        let mut readout = Vec::new();
        for first in (0..timesteps).step_by(length) {
            let steps = length.min(timesteps - first);
            let before = (first > 0).then(|| membranes.clone());
            let last = first + steps == timesteps;
            let currents = options.keep == Keep::Currents && last;
            let traces = kept.populations((first, steps), &mut membranes, last, currents)?;
            readout.extend(kept.readout((first, steps), &traces)?);
            kept.chunks.push(Chunk {
                first,
                steps,
                membranes: before,
                traces: last.then_some(traces),
            });
        }
        let shape = (
            readout.len() / (kept.classes() * kept.count()),
            kept.count(),
            kept.classes(),
        );
        let readout = Tensor::from_vec(readout, shape, &Device::Cpu)?;
        let readout = time::hold(&readout, timesteps)?;
        let logits = kept.network.mean_readout(&readout)?;
        if options.keep == Keep::Spikes {
            kept.held = None;
        }
        Ok((logits, kept))
    }

    /// Bytes of spikes, membranes and currents.
    pub(super) fn bytes(&self) -> usize {
        let numbers = |values: &Vec<f32>| size_of_val(&values[..]);
        let of_trace =
            |trace: &Trace| trace.spikes.bytes() + trace.currents.as_ref().map_or(0, numbers);
        let of_chunk = |chunk: &Chunk| {
            let membranes = chunk.membranes.iter().flatten().map(numbers);
            let traces = chunk.traces.iter().flatten().map(of_trace);
            membranes.chain(traces).sum::<usize>()
        };
        let held = self.held.as_ref().map_or(0, numbers);
        self.chunks.iter().map(of_chunk).sum::<usize>() + held
    }

    /// N
    fn count(&self) -> usize {
        self.ids.len()
    }

    /// K
    fn classes(&self) -> usize {
        self.network.topology().classes()
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            images: &self.images,
            ids: &self.ids,
            seed: self.seed,
        }
    }

    /// Whether the input is the same at every step, so that the links before the first population run once.
    fn is_held(&self) -> bool {
        self.network.settings().encoder == Encoder::Direct
    }

    /// The input of some steps, `[steps, N, C, H, W]`, or of one for all.
    fn input(&self, (first, steps): (usize, usize)) -> Result<Vec<f32>> {
        let input = match self.network.settings().encoder {
            Encoder::Direct => self.images.clone(),
            Encoder::Poisson => {
                let seed = self.seed.derive("coder");
                encode::poisson(&self.images, &self.ids, first, steps, seed)?
            }
        };
        Ok(with_values(&input, <[f32]>::to_vec)?)
    }

    /// What the links before the first population give, where it is the same at every step.
    fn held_currents(&self) -> Result<Option<Vec<f32>>> {
        if !self.is_held() {
            return Ok(None);
        }
        let input = self.input((0, 1))?;
        let masks = self.segments[0].masks(self.batch())?;
        let links = &self.segments[0].links;
        let through = self.through(links, Source::Dense(&input), self.count(), &masks, None)?;
        Ok(Some(through))
    }

    /// A population over so many steps.
    fn population(&self, segment: usize, steps: usize) -> Result<Option<Population>> {
        let Some((layer, shape)) = &self.segments[segment].population else {
            return Ok(None);
        };
        let threshold = self.network.thresholds()[layer].to_vec1()?;
        let currents = [&[steps, self.count()], &shape[..]].concat();
        Ok(Some(Population::new(&currents, threshold)))
    }

    fn initial_membranes(&self) -> Result<Vec<Vec<f32>>> {
        let share = self.network.settings().initial_membrane as f32;
        let mut membranes = Vec::new();
        for segment in 0..self.segments.len() - 1 {
            let population = self.population(segment, 1)?;
            membranes.extend(population.map(|population| population.thresholds(share)));
        }
        Ok(membranes)
    }

    /// Runs `source`, of `rows` steps and images, through links; `inputs` takes what enters each weighted one.
    fn through(
        &self,
        links: &[Link],
        source: Source,
        rows: usize,
        masks: &[Vec<Vec<f32>>],
        mut inputs: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<Vec<f32>> {
        let mut x: Option<Vec<f32>> = None;
        for (link, masks) in links.iter().zip(masks) {
            let from = x.as_deref().map_or(source, Source::Dense);
            let y = match link {
                Link::Between(between) => between.forward(from, rows, self.count(), masks),
                Link::Weighted(weighted) => {
                    let x = x.take().unwrap_or_default();
                    let y =
                        weighted.forward(self.network.parameters(), &x, rows, self.options.sums)?;
                    if let Some(inputs) = &mut inputs {
                        inputs.push(x);
                    }
                    y
                }
            };
            x = Some(y);
        }
        Ok(x.unwrap_or_default())
    }

    /// Runs all populations over some steps, taking their membranes along. Spikes are kept of all of them if `all`, else
    /// as long as something needs them, and of the last one.
    fn populations(
        &self,
        (first, steps): (usize, usize),
        membranes: &mut [Vec<f32>],
        all: bool,
        currents: bool,
    ) -> Result<Vec<Trace>> {
        let mut traces: Vec<Trace> = Vec::new();
        let settings = &self.network.settings().neuron;
        for (segment, membranes) in membranes.iter_mut().enumerate() {
            let Some(population) = self.population(segment, steps)? else {
                break;
            };
            let computed = match &self.held {
                Some(_) if segment == 0 => None,
                _ => Some(self.currents(segment, (first, steps), &traces)?),
            };
            let given = match (&computed, &self.held) {
                (Some(computed), _) => Currents::Steps(computed),
                (None, Some(held)) => Currents::Held(held),
                (None, None) => unreachable!("held currents are the only ones not computed"),
            };
            let spikes = forward_bits(&population, settings, given, membranes, self.count());
            if !all {
                for (earlier, trace) in traces.iter_mut().enumerate() {
                    let later = &self.segments[segment + 1..];
                    if !later.iter().any(|segment| segment.takes(earlier)) {
                        *trace = Trace::default();
                    }
                }
            }
            traces.push(Trace {
                spikes,
                currents: computed.filter(|_| currents),
            });
        }
        Ok(traces)
    }

    /// What a segment gives for some steps, from what the populations below did.
    fn currents(&self, segment: usize, steps: (usize, usize), below: &[Trace]) -> Result<Vec<f32>> {
        let (masks, rows) = (
            self.segments[segment].masks(self.batch())?,
            steps.1 * self.count(),
        );
        let links = &self.segments[segment].links;
        let mut currents = match below.last() {
            Some(last) => self.through(links, Source::Spikes(&last.spikes), rows, &masks, None),
            None => {
                let input = self.input(steps)?;
                self.through(links, Source::Dense(&input), rows, &masks, None)
            }
        }?;
        self.add_shortcuts(segment, below, &mut currents);
        Ok(currents)
    }

    /// Adds what reaches the population at a segment's end beside its links.
    fn add_shortcuts(&self, segment: usize, below: &[Trace], currents: &mut [f32]) {
        for shortcut in &self.segments[segment].shortcuts {
            let spikes = &below[shortcut.from].spikes;
            let maps = &shortcut.maps;
            maps.add(currents, |row, map| spikes.unpack(row, map));
        }
    }

    /// Currents of the output layer, `[steps, N, K]`, or `[1, N, K]` where they are the same at every step.
    fn readout(&self, steps: (usize, usize), below: &[Trace]) -> Result<Vec<f32>> {
        match &self.held {
            // no population: once for all chunks
            Some(held) if below.is_empty() && steps.0 == 0 => Ok(held.clone()),
            Some(_) if below.is_empty() => Ok(Vec::new()),
            _ => self.currents(self.segments.len() - 1, steps, below),
        }
    }
}
