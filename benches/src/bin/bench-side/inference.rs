//! Inference with events.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use datasets::cifar::{self, Layout};
use serde::Deserialize;
use serde_json::{Value, json};
use snn_core::encode::{self, Encoder};
use snn_core::event::{EventNetwork, EventRun};
use snn_core::network::Batch;
use snn_core::rng::Seed;
use snn_core::{Parameters, SpikingNetwork, SpikingSettings, Topology};

use crate::{Inputs, Parts, Tensors, Work, neurons};

/// A network that the other side has converted, and images: integrate-and-fire, soft reset, directly coded.
#[derive(Debug, Deserialize)]
pub struct Converted {
    topology: Topology,
    timesteps: usize,
}

/// A network that the program has saved, on the first test images of CIFAR-10.
#[derive(Debug, Deserialize)]
pub struct Stored {
    network: PathBuf,
    /// A batch of CIFAR-10 in its binary form.
    images: PathBuf,
    timesteps: usize,
    batch: usize,
}

/// A prepared network and its batch.
pub struct Inference {
    network: EventNetwork<'static>,
    images: Tensor,
    ids: Vec<u64>,
    timesteps: usize,
}

const SEED: u64 = 5;

impl Inference {
    pub fn converted(sizes: &Converted, inputs: &Inputs) -> Result<Self> {
        let mut tensors = inputs.read()?;
        let images = tensors.remove("images").context("no images")?;
        let mut thresholds = BTreeMap::new();
        for index in sizes.topology.activations() {
            let threshold = tensors.remove(&format!("{index}.threshold"));
            thresholds.extend(threshold.map(|threshold| (index, threshold)));
        }
        let parameters = Parameters::new(&sizes.topology, tensors)?;
        let settings = SpikingSettings {
            neuron: neurons::settings(1.0),
            encoder: Encoder::Direct,
            ..SpikingSettings::default()
        };
        let topology = sizes.topology.clone();
        let network = SpikingNetwork::new(topology, parameters, thresholds, settings)?;
        Self::new(network, images, sizes.timesteps)
    }

    /// Writes what enters the network at each step.
    pub fn stored(sizes: &Stored, inputs: &Inputs) -> Result<Self> {
        let network = SpikingNetwork::load(&sizes.network, &Device::Cpu)?;
        let split = cifar::read_batch(&sizes.images, Layout::Cifar10)?;
        let split = split.subset(0..sizes.batch)?;
        let images = datasets::normalise(&split.images)?.contiguous()?;
        let inference = Self::new(network.clone(), images, sizes.timesteps)?;
        inputs.get(|| {
            let (images, ids) = (&inference.images, &inference.ids);
            let input = match network.settings().encoder {
                Encoder::Direct => images.unsqueeze(0)?,
                Encoder::Poisson => {
                    let seed = Seed::new(SEED).derive("coder");
                    encode::poisson(images, ids, 0, sizes.timesteps, seed)?
                }
            };
            Ok(Tensors::from([("input".into(), input)]))
        })?;
        Ok(inference)
    }

    fn new(network: SpikingNetwork, images: Tensor, timesteps: usize) -> Result<Self> {
        // the prepared network borrows it, both for as long as the process lives
        let network: &'static SpikingNetwork = Box::leak(Box::new(network));
        Ok(Self {
            network: EventNetwork::new(network)?,
            ids: (0..images.dim(0)? as u64).collect(),
            images,
            timesteps,
        })
    }

    fn infer(&self) -> Result<EventRun> {
        let batch = Batch {
            images: &self.images,
            ids: &self.ids,
            seed: Seed::new(SEED),
        };
        Ok(self.network.run(batch, self.timesteps)?)
    }

    fn rates(&self, run: &EventRun) -> Result<Vec<f32>> {
        let rate = |counts: &Tensor| -> Result<f32> {
            let spikes = counts.mean_all()?.to_scalar::<f32>()?;
            Ok(spikes / self.timesteps as f32)
        };
        run.run.spikes.values().map(rate).collect()
    }
}

impl Work for Inference {
    fn run(&mut self) -> Result<Parts> {
        self.infer()?;
        Ok(Parts::new())
    }

    fn outputs(&mut self) -> Result<Tensors> {
        let run = self.infer()?;
        let rates = Tensor::new(self.rates(&run)?, &Device::Cpu)?;
        Ok(Tensors::from([
            ("logits".into(), run.run.logits.get(self.timesteps - 1)?),
            ("rates".into(), rates),
        ]))
    }

    fn figures(&mut self) -> Result<Value> {
        let run = self.infer()?;
        let rates = self.rates(&run)?;
        let mean = rates.iter().sum::<f32>() / rates.len() as f32;
        let operations: u64 = run.synaptic_operations.values().sum();
        Ok(json!({
            "firing_rates": rates, "mean_firing_rate": mean, "synaptic_operations": operations,
        }))
    }
}
