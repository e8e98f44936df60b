//! The paper's thresholds: the largest weighted input current that the spiking network itself sees.
//!
//! Layer l needs the spikes of layer l - 1, so the layers are done one after another. Running the network from the
//! input each time would take about L^2 / 2 layer passes; instead the spikes of the last finished population are kept,
//! one bit each, with those of the earlier populations that shortcuts still take, and every layer runs twice. Batches whose
//! spikes do not fit in [`KEPT_BYTES`] go on from the last population that did fit (at worst the input), so memory is
//! bounded and the result is the same.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;
use snn_core::encode::{self, Encoder};
use snn_core::progress::{self, Watch};
use snn_core::rng::Seed;
use snn_core::{Layer, neuron, ops};

use crate::config::ConvertConfig;
use crate::draft::{Draft, Unit};
use crate::{Error, Result};

/// Bound on the packed spikes that are kept.
const KEPT_BYTES: usize = 256 << 20;
/// Bound on the values of the widest layer that are held at once: 32 MiB.
const VALUES_AT_ONCE: usize = 1 << 23;

/// Sets every threshold of the draft.
pub(crate) fn set(
    draft: &mut Draft,
    images: &Tensor,
    scale: f64,
    config: &ConvertConfig,
    seed: Seed,
    watch: &mut Watch,
) -> Result<()> {
    let mut calibration = Calibration::new(draft, images, config, seed, KEPT_BYTES)?;
    let total = (draft.topology().activations().len() * calibration.starts.len()) as u64;
    let (mut done, mut previous) = (0, None);
    while let Some(population) = draft.next_population()? {
        let mut largest = f32::NEG_INFINITY;
        for batch in 0..calibration.starts.len() {
            largest = largest.max(calibration.largest_current(draft, batch, previous, population)?);
            done += 1;
            let unit = format!("threshold of layer {population}, batch");
            progress::report(
                watch,
                unit,
                done,
                total,
                format!("largest current {largest:.4}"),
            )?;
        }
        if !(largest.is_finite() && largest > 0.0) {
            return Err(Error::threshold(
                population,
                format!(
                    "its largest input current over the calibration images is {largest}: no threshold can be set; \
                     use more or other images, or more calibration_timesteps"
                ),
            ));
        }
        let lambda = f64::from(largest) * scale * draft.current_unit();
        draft.set_threshold(population, Unit::Layer(lambda))?;
        previous = Some(population);
    }
    Ok(())
}

/// Where a batch can be gone on from.
enum Start {
    /// The encoder, drawing the same spikes again.
    Input,
    /// The spikes of a population, and of those before it that shortcuts after it take, packed per chunk of time.
    Spikes {
        population: usize,
        chunks: Vec<Packed>,
    },
}

/// Spikes of some populations over a chunk of time.
type Packed = BTreeMap<usize, Vec<u64>>;

struct Calibration<'a> {
    images: &'a Tensor,
    config: &'a ConvertConfig,
    seed: Seed,
    chunk: usize,
    shapes: Vec<Vec<usize>>,
    starts: Vec<Start>,
    kept: usize,
    bound: usize,
}

impl<'a> Calibration<'a> {
    fn new(
        draft: &Draft,
        images: &'a Tensor,
        config: &'a ConvertConfig,
        seed: Seed,
        bound: usize,
    ) -> Result<Self> {
        let shapes = draft.topology().shapes();
        let widest = shapes
            .iter()
            .map(|shape| shape.iter().product::<usize>())
            .max()
            .unwrap_or(1)
            .max(1);
        let chunk = VALUES_AT_ONCE / (widest * config.batch).max(1);
        let batches = images.dim(0)?.div_ceil(config.batch);
        Ok(Self {
            images,
            config,
            seed,
            chunk: chunk.clamp(1, config.calibration_timesteps),
            shapes,
            starts: (0..batches).map(|_| Start::Input).collect(),
            kept: 0,
            bound,
        })
    }

    /// Largest current into `population` over one batch and all steps. On the way the spikes of `previous`, the
    /// population before it, are kept for the next call if they fit.
    fn largest_current(
        &mut self,
        draft: &Draft,
        batch: usize,
        previous: Option<usize>,
        population: usize,
    ) -> Result<f32> {
        let steps = self.config.calibration_timesteps;
        let first = batch * self.config.batch;
        let count = self.config.batch.min(self.images.dim(0)? - first);
        let images = self
            .images
            .narrow(0, first, count)?
            .force_contiguous()?
            .to_device(&draft.device())?;
        let ids: Vec<u64> = (first..first + count).map(|i| i as u64).collect();
        let topology = draft.topology();
        let needed = |p: usize, after: usize| topology.last_shortcut_from(p) > Some(after);
        let kept = previous.map(|last| -> Vec<usize> {
            let before = topology.activations().into_iter().filter(|&p| p < last);
            let before = before.filter(|&p| needed(p, last));
            before.chain([last]).collect()
        });
        let keep = kept.filter(|kept| self.fits(batch, kept, count));
        let mut packed = Vec::new();
        let mut membranes = BTreeMap::new();
        let mut largest = f32::NEG_INFINITY;
        for (number, from) in (0..steps).step_by(self.chunk).enumerate() {
            let span = self.chunk.min(steps - from);
            let mut earlier = BTreeMap::new();
            let (mut x, begin) = match &self.starts[batch] {
                Start::Input => (self.encode(&images, &ids, from, span)?, 0),
                Start::Spikes { population, chunks } => {
                    for (p, words) in &chunks[number] {
                        let mut shape = vec![span, count];
                        shape.extend_from_slice(&self.shapes[*p]);
                        earlier.insert(*p, unpack(words, shape, images.device())?);
                    }
                    (earlier[population].clone(), population + 1)
                }
            };
            for index in begin..population {
                x = self.layer(draft, index, &x, span, (&mut membranes, &earlier))?;
                let kept = |p: &usize| keep.as_ref().is_some_and(|keep| keep.contains(p));
                earlier.insert(index, x.clone());
                earlier.retain(|p, _| needed(*p, index) || kept(p));
            }
            if let Some(keep) = &keep {
                let pack = |p: &usize| Ok((*p, pack(&earlier[p])?));
                packed.push(keep.iter().map(pack).collect::<Result<Packed>>()?);
            }
            largest = largest.max(x.flatten_all()?.max(0)?.to_scalar::<f32>()?);
            if previous.is_none() && self.config.encoder == Encoder::Direct {
                break; // the same current at every step
            }
        }
        if let Some(population) = keep.and_then(|keep| keep.last().copied()) {
            self.kept -= self.kept_by(batch);
            self.starts[batch] = Start::Spikes {
                population,
                chunks: packed,
            };
            self.kept += self.kept_by(batch);
        }
        Ok(largest)
    }

    fn kept_by(&self, batch: usize) -> usize {
        match &self.starts[batch] {
            Start::Input => 0,
            Start::Spikes { chunks, .. } => {
                let words = chunks.iter().flat_map(BTreeMap::values);
                words.map(|words| words.len() * 8).sum()
            }
        }
    }

    fn fits(&self, batch: usize, populations: &[usize], count: usize) -> bool {
        let shapes = populations.iter().map(|&p| &self.shapes[p]);
        let units: usize = shapes.map(|shape| shape.iter().product::<usize>()).sum();
        let steps = self.config.calibration_timesteps;
        // every chunk is rounded up to whole words
        let rounding = 8 * steps.div_ceil(self.chunk) * populations.len();
        let bytes = steps * count * units / 8 + rounding;
        self.kept - self.kept_by(batch) + bytes <= self.bound
    }

    fn encode(&self, images: &Tensor, ids: &[u64], from: usize, span: usize) -> Result<Tensor> {
        Ok(match self.config.encoder {
            Encoder::Direct => images.unsqueeze(0)?,
            Encoder::Poisson => {
                encode::poisson(images, ids, from, span, self.seed.derive("coder"))?
            }
        })
    }

    /// One layer over a chunk `[span, N, ...]` (or `[1, N, ...]`, constant in time), with the spikes of `earlier`
    /// populations if it is a shortcut.
    fn layer(
        &self,
        draft: &Draft,
        index: usize,
        x: &Tensor,
        span: usize,
        (membranes, earlier): (&mut BTreeMap<usize, Tensor>, &BTreeMap<usize, Tensor>),
    ) -> Result<Tensor> {
        let layer = &draft.topology().layers()[index];
        if let Layer::Activation { .. } = layer {
            let mut shape = x.dims().to_vec();
            shape[0] = span;
            let currents = x.broadcast_as(shape)?.contiguous()?;
            let threshold = draft.threshold(index);
            let membrane = match membranes.remove(&index) {
                Some(membrane) => membrane,
                None => (threshold * self.config.initial_membrane)?
                    .reshape(vec![1; currents.rank() - 1])?
                    .broadcast_as(&currents.dims()[1..])?
                    .contiguous()?,
            };
            let scan = neuron::scan(&currents, threshold, &membrane, &self.config.neuron)?;
            membranes.insert(index, scan.membrane);
            return Ok(scan.spikes);
        }
        if let Layer::Shortcut { from, kernel, .. } = *layer {
            let scale = draft.shortcut_scale(index);
            let x = ops::shortcut::shortcut(x, &earlier[&from], scale, kernel)?;
            return Ok(x);
        }
        let (time, count) = (x.dim(0)?, x.dim(1)?);
        let rows = x.flatten(0, 1)?;
        let y = match *layer {
            Layer::Conv2d {
                stride, padding, ..
            } => {
                let (weight, bias) = (draft.weight(index), draft.bias(index));
                ops::conv2d::conv2d(&rows, weight, bias, stride, padding)?
            }
            Layer::Linear { .. } => {
                ops::linear::linear(&rows, draft.weight(index), draft.bias(index))?
            }
            Layer::AvgPool2d { kernel } => ops::avg_pool::avg_pool2d(&rows, kernel)?,
            Layer::Flatten => rows.flatten_from(1)?,
            _ => rows, // dropout: the identity outside training; all others are refused before
        };
        let mut shape = vec![time, count];
        shape.extend_from_slice(&y.dims()[1..]);
        Ok(y.reshape(shape)?)
    }
}

/// Spikes 0 or 1 to one bit each.
fn pack(spikes: &Tensor) -> Result<Vec<u64>> {
    let values: Vec<f32> = spikes.flatten_all()?.to_vec1()?;
    let word = |lanes: &[f32]| {
        lanes
            .iter()
            .enumerate()
            .fold(0u64, |word, (bit, &s)| word | u64::from(s > 0.5) << bit)
    };
    Ok(values.par_chunks(64).map(word).collect())
}

fn unpack(words: &[u64], shape: Vec<usize>, device: &candle_core::Device) -> Result<Tensor> {
    let mut values = vec![0f32; shape.iter().product()];
    values
        .par_chunks_mut(64)
        .zip(words)
        .for_each(|(lanes, &word)| {
            for (bit, value) in lanes.iter_mut().enumerate() {
                *value = (word >> bit & 1) as f32;
            }
        });
    Ok(Tensor::from_vec(values, shape, device)?)
}

#[cfg(test)]
mod tests {
    use ann::{Ann, Depth, NetworkConfig};
    use candle_core::Device;

    use super::*;

    /// The largest currents of a network's populations, with at most so many bytes of spikes kept.
    fn thresholds(source: &Ann, bound: usize) -> Result<Vec<f32>> {
        let images = Seed::new(4).uniform(&[5, 3, 8, 8], -1.0, 1.0, &Device::Cpu)?;
        let config = ConvertConfig {
            calibration_timesteps: 40,
            initial_membrane: 0.5,
            batch: 2,
            ..ConvertConfig::default()
        };
        let mut draft = Draft::new(source);
        let mut calibration = Calibration::new(&draft, &images, &config, Seed::new(1), bound)?;
        calibration.chunk = 4;
        let (mut previous, mut found) = (None, Vec::new());
        while let Some(population) = draft.next_population()? {
            let mut largest = f32::NEG_INFINITY;
            for batch in 0..3 {
                largest =
                    largest.max(calibration.largest_current(&draft, batch, previous, population)?);
            }
            found.push(largest);
            let lambda = f64::from(largest) * draft.current_unit();
            draft.set_threshold(population, Unit::Layer(lambda))?;
            previous = Some(population);
            assert!(calibration.kept <= bound);
        }
        assert_eq!(bound > 0, calibration.kept > 0);
        Ok(found)
    }

    /// Whatever fits in memory, the thresholds are the same.
    #[test]
    fn keeping_spikes_changes_nothing() -> Result<()> {
        for (depth, width, populations) in [(Depth::Vgg5, 0.06, 4), (Depth::Resnet20, 0.25, 20)] {
            let topology = NetworkConfig {
                width,
                hidden: 12,
                ..NetworkConfig::paper(depth)
            }
            .topology([3, 8, 8], 4)?;
            let source = Ann::initialise(topology, Seed::new(3), &Device::Cpu)?;
            let everything = thresholds(&source, usize::MAX / 2)?;
            assert_eq!(everything, thresholds(&source, 0)?);
            assert_eq!(everything, thresholds(&source, 3_000)?);
            assert_eq!(everything, thresholds(&source, 20_000)?);
            assert_eq!(everything.len(), populations);
        }
        Ok(())
    }

    #[test]
    fn packing_is_lossless() -> Result<()> {
        let spikes: Vec<f32> = (0..131).map(|i| f32::from(u8::from(i % 3 == 0))).collect();
        let tensor = Tensor::from_vec(spikes.clone(), (1, 131), &Device::Cpu)?;
        let back = unpack(&pack(&tensor)?, vec![1, 131], &Device::Cpu)?;
        assert_eq!(back.flatten_all()?.to_vec1::<f32>()?, spikes);
        Ok(())
    }
}
