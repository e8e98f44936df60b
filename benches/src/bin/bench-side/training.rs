//! Training steps: forward, cross-entropy, backward, update by stochastic gradient descent.

use std::collections::BTreeMap;

use ann::{Ann, Optimiser, OptimiserConfig, Pass, loss};
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;
use serde_json::{Value, json};
use snn_core::encode::Encoder;
use snn_core::network::{Batch, Mode, State};
use snn_core::ops::conv2d::Sums;
use snn_core::rng::Seed;
use snn_core::{Parameters, SpikingNetwork, SpikingSettings, Topology, bptt};

use crate::{Inputs, Parts, Tensors, Work, neurons, tensor};

/// A network, its batch and its optimiser.
#[derive(Debug, Clone, Deserialize)]
pub struct Sizes {
    topology: Topology,
    batch: usize,
    /// Steps of a spiking network with thresholds 1; none for an ordinary network.
    timesteps: Option<usize>,
    learning_rate: f64,
    momentum: f64,
}

/// A network and a batch that it is trained on, step after step.
pub struct Training {
    inputs: Inputs,
    network: Network,
    variables: Vec<(String, Var)>,
    optimiser: Optimiser,
    learning_rate: f64,
    images: Tensor,
    labels: Tensor,
    ids: Vec<u64>,
}

enum Network {
    Ordinary(Ann),
    Spiking(SpikingNetwork, usize),
}

impl Training {
    pub fn new(sizes: Sizes, inputs: Inputs) -> Result<Self> {
        let mut tensors = inputs.get(|| draw(&sizes))?;
        let images = tensors.remove("images").context("no images")?;
        let labels = tensors.remove("labels").context("no labels")?;
        let parameters = Parameters::new(&sizes.topology, tensors)?;
        let (network, variables) = match sizes.timesteps {
            None => {
                let (ann, variables) = Ann::new(sizes.topology, parameters).trainable()?;
                (Network::Ordinary(ann), variables)
            }
            Some(timesteps) => {
                let (network, variables) = spiking(sizes.topology, parameters)?.trainable()?;
                (Network::Spiking(network, timesteps), variables)
            }
        };
        let config = OptimiserConfig::Sgd {
            momentum: sizes.momentum,
            weight_decay: 0.0,
            nesterov: false,
        };
        Ok(Self {
            inputs,
            network,
            optimiser: Optimiser::new(config, variables.clone())?,
            variables,
            learning_rate: sizes.learning_rate,
            ids: (0..images.dim(0)? as u64).collect(),
            images,
            labels,
        })
    }

    /// Loss of the batch, and the gradients of the variables; `sums` are those of the spiking network's forward pass.
    fn gradients(&self, sums: Sums) -> Result<(Tensor, BTreeMap<String, Tensor>)> {
        let loss = |logits: &Tensor| -> Result<(Tensor, Tensor)> {
            let logits = Var::from_tensor(logits)?;
            let loss = loss::cross_entropy(logits.as_tensor(), &self.labels, 0.0)?;
            let g_logits = loss.backward()?.remove(&logits).context("no gradient")?;
            Ok((loss, g_logits))
        };
        match &self.network {
            Network::Ordinary(ann) => {
                let ann = ann.detached();
                let batch = self.batch();
                let mode = ann::Mode::Training {
                    seed: batch.seed,
                    ids: batch.ids,
                };
                let pass = Pass::forward(&ann, batch.images, mode)?;
                let (loss, g_logits) = loss(pass.logits()?)?;
                Ok((loss, pass.parameter_gradients(g_logits, &BTreeMap::new())?))
            }
            Network::Spiking(network, timesteps) => {
                let options = bptt::Options {
                    sums,
                    ..bptt::Options::default()
                };
                let pass =
                    bptt::forward(network, self.batch(), Mode::Training, *timesteps, &options)?;
                let (loss, g_logits) = loss(pass.logits())?;
                Ok((loss, pass.backward(&g_logits)?.parameters))
            }
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            images: &self.images,
            ids: &self.ids,
            seed: Seed::new(1),
        }
    }
}

impl Work for Training {
    fn run(&mut self) -> Result<Parts> {
        let (_, gradients) = self.gradients(Sums::Fastest)?;
        self.optimiser.step(&gradients, self.learning_rate)?;
        Ok(Parts::new())
    }

    /// Loss and gradients at the weights that the training started from; of the spiking network with ordered sums, and the
    /// loss with the fastest ones, which are timed.
    fn outputs(&mut self) -> Result<Tensors> {
        let first = self.inputs.read()?;
        for (name, variable) in &self.variables {
            variable.set(&tensor(&first, name)?)?;
        }
        let (loss, gradients) = self.gradients(Sums::Ordered)?;
        let mut outputs = Tensors::from([("loss".into(), loss.detach().reshape(1)?)]);
        if matches!(self.network, Network::Spiking(..)) {
            let (timed, _) = self.gradients(Sums::Fastest)?;
            outputs.insert("timed".into(), timed.detach().reshape(1)?);
        }
        for (name, _) in &self.variables {
            let gradient = gradients.get(name).cloned();
            let gradient = gradient.with_context(|| format!("`{name}` has no gradient"))?;
            outputs.insert(format!("gradient.{name}"), gradient);
        }
        Ok(outputs)
    }

    fn figures(&mut self) -> Result<Value> {
        let Network::Spiking(network, timesteps) = &self.network else {
            return Ok(json!({}));
        };
        let state = State::default();
        let network = network.frozen()?;
        let (stretch, _) = network.advance(self.batch(), Mode::Inference, *timesteps, &state)?;
        let rate = |spikes: &Tensor| spikes.mean_all()?.to_scalar::<f32>();
        let rates = stretch.spikes.values().map(rate);
        let rates = rates.collect::<candle_core::Result<Vec<f32>>>()?;
        Ok(json!({ "firing_rates": rates }))
    }
}

/// Directly coded, every threshold 1.
fn spiking(topology: Topology, parameters: Parameters) -> Result<SpikingNetwork> {
    let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
    let populations = topology.activations().into_iter();
    let thresholds: BTreeMap<usize, Tensor> =
        populations.map(|index| (index, one.clone())).collect();
    let settings = SpikingSettings {
        neuron: neurons::settings(1.0),
        encoder: Encoder::Direct,
        ..SpikingSettings::default()
    };
    Ok(SpikingNetwork::new(
        topology, parameters, thresholds, settings,
    )?)
}

/// Kaiming for rectified inputs is too little for spikes behind average pools: deep populations would be silent.
const SPIKING_GAIN: f64 = 2.0;

/// Weights, images in [-1, 1] and labels.
fn draw(sizes: &Sizes) -> Result<Tensors> {
    let ann = Ann::initialise(sizes.topology.clone(), Seed::new(2), &Device::Cpu)?;
    let mut tensors = ann.parameters().tensors().clone();
    if sizes.timesteps.is_some() {
        for weight in tensors.values_mut() {
            *weight = (&*weight * SPIKING_GAIN)?;
        }
    }
    let shape = [&[sizes.batch], &sizes.topology.input()[..]].concat();
    let seed = Seed::new(3);
    let images = seed.uniform(&shape, -1.0, 1.0, &Device::Cpu)?;
    let mut stream = seed.derive("labels").stream();
    let classes = sizes.topology.classes() as u32;
    let labels: Vec<u32> = (0..sizes.batch).map(|_| stream.below(classes)).collect();
    tensors.insert("images".into(), images);
    tensors.insert("labels".into(), Tensor::new(labels, &Device::Cpu)?);
    Ok(tensors)
}
