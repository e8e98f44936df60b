//! The way back: chunk after chunk from the last, and in it segment after segment from the top.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{Chunk, Kept, Trace};
use crate::bptt::between::Source;
use crate::bptt::plan::{Link, Segment};
use crate::bptt::sums::{Sums, add, add_named, add_steps};
use crate::bptt::{Gradients, Keep};
use crate::ops::cpu::with_values;
use crate::ops::neuron::cpu::{Currents, Population, Upstream, Window};
use crate::{Error, Result};

impl Kept {
    /// Lowest segment that anything is wanted of.
    fn lowest(&self) -> Option<usize> {
        match self.options.wanted {
            wanted if wanted.images => Some(0),
            wanted if wanted.parameters => self.segments.iter().position(Segment::is_weighted),
            _ => None,
        }
    }

    /// Gradients from that of the logits.
    pub(in crate::bptt) fn backward(mut self, g_logits: &Tensor) -> Result<Gradients> {
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
        // of spikes, from the shortcuts that take them, by segment
        let mut beside: Vec<Option<Vec<f32>>> = vec![None; self.segments.len()];
        for segment in (lowest..self.segments.len()).rev() {
            // what the population at the segment's end did is needed no more once its currents are known
            let own = match segment + 1 < self.segments.len() {
                true => traces.pop(),
                false => None,
            };
            let kept = own.and_then(|trace| trace.currents);
            if let Some(addend) = beside[segment].take() {
                g.par_iter_mut()
                    .zip(addend)
                    .for_each(|(g, addend)| *g += addend);
            }
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
            let currents = self.again(segment, steps, &traces, kept, &masks, &mut inputs)?;
            if let Some(population) = self.population(segment, chunk.steps)? {
                let window =
                    self.window(&population, Currents::Steps(&currents), &membranes[segment]);
                window.backward(Upstream::InPlace(&mut g), &mut g_membranes[segment]);
            }
            drop(currents);
            for shortcut in &self.segments[segment].shortcuts {
                add(&mut beside[shortcut.from], shortcut.maps.gradient(&g));
            }
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
            self.again(0, (0, 1), &[], Some(Vec::new()), &masks, &mut inputs)?;
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
        below: &[Trace],
        kept: Option<Vec<f32>>,
        masks: &[Vec<Vec<f32>>],
        inputs: &mut Vec<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let (number, rows) = (segment, steps.1 * self.count());
        let segment = &self.segments[number];
        let parameters = self.options.wanted.parameters && segment.is_weighted();
        let known = kept.is_some() || segment.population.is_none();
        if known && !parameters {
            return Ok(kept.unwrap_or_default());
        }
        let input;
        let source = match below.last() {
            Some(last) => Source::Spikes(&last.spikes),
            None => {
                input = self.input(steps)?;
                Source::Dense(&input)
            }
        };
        if !known {
            let inputs = parameters.then_some(inputs);
            let mut currents = self.through(&segment.links, source, rows, masks, inputs)?;
            self.add_shortcuts(number, below, &mut currents);
            return Ok(currents);
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
