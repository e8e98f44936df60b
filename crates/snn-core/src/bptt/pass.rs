//! The way over bits: what a pass keeps, and both its directions.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::between::Source;
use super::plan::{Link, Segment};
use super::sums::{add, add_named, add_steps};
use super::{Gradients, Keep, Options};
use crate::encode::{self, Encoder};
use crate::network::{Batch, Mode, SpikingNetwork};
use crate::ops::bits::Bits;
use crate::ops::cpu::with_values;
use crate::ops::neuron::cpu::{Currents, Population, Upstream, Window, forward_bits};
use crate::ops::time;
use crate::rng::Seed;
use crate::{Error, Result};

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
#[derive(Debug)]
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
            segments: Segment::all(network, mode),
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
            readout.extend(kept.readout((first, steps), traces.last())?);
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
                    let y = weighted.forward(self.network.parameters(), &x, rows, self.count())?;
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
    /// of the last one.
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
                _ => Some(self.currents(segment, (first, steps), traces.last())?),
            };
            let given = match (&computed, &self.held) {
                (Some(computed), _) => Currents::Steps(computed),
                (None, Some(held)) => Currents::Held(held),
                (None, None) => unreachable!("held currents are the only ones not computed"),
            };
            let spikes = forward_bits(&population, settings, given, membranes, self.count());
            if !all {
                traces.clear();
            }
            traces.push(Trace {
                spikes,
                currents: computed.filter(|_| currents),
            });
        }
        Ok(traces)
    }

    /// What a segment gives for some steps, from what the population below did.
    fn currents(
        &self,
        segment: usize,
        steps: (usize, usize),
        below: Option<&Trace>,
    ) -> Result<Vec<f32>> {
        let (masks, rows) = (
            self.segments[segment].masks(self.batch())?,
            steps.1 * self.count(),
        );
        let links = &self.segments[segment].links;
        match below {
            Some(below) => self.through(links, Source::Spikes(&below.spikes), rows, &masks, None),
            None => {
                let input = self.input(steps)?;
                self.through(links, Source::Dense(&input), rows, &masks, None)
            }
        }
    }

    /// Currents of the output layer, `[steps, N, K]`, or `[1, N, K]` where they are the same at every step.
    fn readout(&self, steps: (usize, usize), below: Option<&Trace>) -> Result<Vec<f32>> {
        match (&self.held, below) {
            // no population: once for all chunks
            (Some(held), None) if steps.0 == 0 => Ok(held.clone()),
            (Some(_), None) => Ok(Vec::new()),
            _ => self.currents(self.segments.len() - 1, steps, below),
        }
    }

    /// Lowest segment that anything is wanted of.
    fn lowest(&self) -> Option<usize> {
        match self.options.wanted {
            wanted if wanted.images => Some(0),
            wanted if wanted.parameters => self.segments.iter().position(Segment::is_weighted),
            _ => None,
        }
    }

    /// Gradients from that of the logits.
    pub(super) fn backward(mut self, g_logits: &Tensor) -> Result<Gradients> {
        let mut sums = Sums::default();
        if let Some(lowest) = self.lowest() {
            if self.held.is_none() {
                self.held = self.held_currents()?;
            }
            let g_logits = with_values(&g_logits.detach(), <[f32]>::to_vec)?;
            let mut g_membranes = Vec::new();
            for initial in self.initial_membranes()? {
                g_membranes.push(vec![0f32; initial.len()]);
            }
            while let Some(chunk) = self.chunks.pop() {
                self.backward_chunk(chunk, &g_logits, lowest, &mut g_membranes, &mut sums)?;
            }
            if let Some(g) = sums.held.take() {
                self.backward_held(g, &mut sums)?;
            }
        }
        self.gradients(sums)
    }

    fn gradients(&self, sums: Sums) -> Result<Gradients> {
        let mut parameters = BTreeMap::new();
        for (name, gradient) in sums.parameters {
            let shape = self.network.parameters().tensors()[&name].shape();
            let gradient = Tensor::from_vec(gradient, shape, &Device::Cpu)?;
            parameters.insert(name, gradient);
        }
        let images = sums
            .images
            .map(|g| Tensor::from_vec(g, self.images.shape(), &Device::Cpu).map_err(Error::from))
            .transpose()?;
        Ok(Gradients { parameters, images })
    }

    /// Gradient of the readout's currents, `[steps, N, K]`: the logits are their scaled mean over the counted steps.
    fn g_readout(&self, chunk: &Chunk, g_logits: &[f32]) -> Vec<f32> {
        let settings = self.network.settings();
        let counted = settings.first_counted_step(self.timesteps);
        let share = (settings.readout_scale / (self.timesteps - counted) as f64) as f32;
        let mut g = vec![0f32; chunk.steps * g_logits.len()];
        for (t, g) in g.chunks_exact_mut(g_logits.len()).enumerate() {
            if chunk.first + t >= counted {
                g.iter_mut().zip(g_logits).for_each(|(g, x)| *g = share * x);
            }
        }
        g
    }

    fn backward_chunk(
        &self,
        mut chunk: Chunk,
        g_logits: &[f32],
        lowest: usize,
        g_membranes: &mut [Vec<f32>],
        sums: &mut Sums,
    ) -> Result<()> {
        let steps = (chunk.first, chunk.steps);
        let membranes = match chunk.membranes.take() {
            Some(membranes) => membranes,
            None => self.initial_membranes()?,
        };
        let mut traces = match chunk.traces.take() {
            Some(traces) => traces,
            None => {
                let currents = self.options.keep == Keep::Currents;
                self.populations(steps, &mut membranes.clone(), true, currents)?
            }
        };
        let mut g = self.g_readout(&chunk, g_logits);
        for segment in (lowest..self.segments.len()).rev() {
            // what the population at the segment's end did is needed no more once its currents are known
            let own = match segment + 1 < self.segments.len() {
                true => traces.pop(),
                false => None,
            };
            let kept = own.and_then(|trace| trace.currents);
            let below = match segment {
                0 => None,
                segment => traces.get(segment - 1),
            };
            if segment == 0 && self.is_held() {
                if let (Some(population), Some(held)) =
                    (self.population(0, chunk.steps)?, &self.held)
                {
                    let window = self.window(&population, Currents::Held(held), &membranes[0]);
                    window.backward(Upstream::InPlace(&mut g), &mut g_membranes[0]);
                }
                let len = g.len() / chunk.steps;
                add_steps(&mut sums.held, &g, len);
                return Ok(());
            }
            let masks = self.segments[segment].masks(self.batch())?;
            let mut inputs = Vec::new();
            let currents = self.again(segment, steps, below, kept, &masks, &mut inputs)?;
            if let Some(population) = self.population(segment, chunk.steps)? {
                let window =
                    self.window(&population, Currents::Steps(&currents), &membranes[segment]);
                window.backward(Upstream::InPlace(&mut g), &mut g_membranes[segment]);
            }
            drop(currents);
            let below = segment > lowest || self.options.wanted.images;
            let rows = chunk.steps * self.count();
            match self.backward_links(segment, g, inputs, rows, &masks, below, sums)? {
                Some(below) => g = below,
                None => return Ok(()),
            }
        }
        if self.options.wanted.images {
            add_steps(&mut sums.images, &g, self.images.elem_count());
        }
        Ok(())
    }

    /// The rest below held currents, once for all chunks.
    fn backward_held(&self, g: Vec<f32>, sums: &mut Sums) -> Result<()> {
        let masks = self.segments[0].masks(self.batch())?;
        let (wanted, mut inputs) = (self.options.wanted, Vec::new());
        if wanted.parameters {
            self.again(0, (0, 1), None, Some(Vec::new()), &masks, &mut inputs)?;
        }
        let g = self.backward_links(0, g, inputs, self.count(), &masks, wanted.images, sums)?;
        if let Some(g) = g {
            add(&mut sums.images, g);
        }
        Ok(())
    }

    fn window<'a>(
        &'a self,
        population: &'a Population,
        currents: Currents<'a>,
        membrane: &'a [f32],
    ) -> Window<'a> {
        Window {
            population,
            settings: &self.network.settings().neuron,
            currents,
            membrane,
        }
    }

    /// What a segment gave, computed again unless it was kept, and what entered its weighted links, if gradients of
    /// parameters are wanted.
    fn again(
        &self,
        segment: usize,
        steps: (usize, usize),
        below: Option<&Trace>,
        kept: Option<Vec<f32>>,
        masks: &[Vec<Vec<f32>>],
        inputs: &mut Vec<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let (segment, rows) = (&self.segments[segment], steps.1 * self.count());
        let parameters = self.options.wanted.parameters && segment.is_weighted();
        let known = kept.is_some() || segment.population.is_none();
        if known && !parameters {
            return Ok(kept.unwrap_or_default());
        }
        let input;
        let source = match below {
            Some(below) => Source::Spikes(&below.spikes),
            None => {
                input = self.input(steps)?;
                Source::Dense(&input)
            }
        };
        if !known {
            let inputs = parameters.then_some(inputs);
            return self.through(&segment.links, source, rows, masks, inputs);
        }
        // up to the last weighted link, whose own result is known
        let last = segment.links.iter().rposition(Link::is_weighted);
        let links = &segment.links[..last.unwrap_or_default()];
        let x = self.through(links, source, rows, masks, Some(inputs))?;
        inputs.push(x);
        Ok(kept.unwrap_or_default())
    }

    /// From the gradient of what a segment gave to that of what it took; none if nothing below is wanted.
    #[allow(clippy::too_many_arguments)] // all of them belong to this segment and chunk
    fn backward_links(
        &self,
        segment: usize,
        mut g: Vec<f32>,
        mut inputs: Vec<Vec<f32>>,
        rows: usize,
        masks: &[Vec<Vec<f32>>],
        below: bool,
        sums: &mut Sums,
    ) -> Result<Option<Vec<f32>>> {
        let (links, parameters) = (&self.segments[segment].links, self.network.parameters());
        let lowest = links.iter().position(Link::is_weighted);
        for (i, (link, masks)) in links.iter().zip(masks).enumerate().rev() {
            g = match link {
                Link::Between(between) => between.backward(g, self.count(), masks),
                Link::Weighted(weighted) => {
                    if let Some(x) = inputs.pop() {
                        let of_layer = weighted.backward_parameters(parameters, &x, &g, rows)?;
                        for (name, gradient) in of_layer {
                            add_named(&mut sums.parameters, name, gradient);
                        }
                    }
                    if !below && Some(i) == lowest {
                        return Ok(None);
                    }
                    weighted.backward_data(parameters, &g, rows)?
                }
            };
        }
        Ok(Some(g))
    }
}

/// Gradients so far.
#[derive(Default)]
struct Sums {
    parameters: BTreeMap<String, Vec<f32>>,
    images: Option<Vec<f32>>,
    /// Of currents that are the same at every step.
    held: Option<Vec<f32>>,
}
