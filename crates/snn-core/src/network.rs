//! A spiking network, unrolled over time.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::encode::{self, Encoder};
use crate::neuron::{self, NeuronSettings};
use crate::parameters::{Parameters, is_finite};
use crate::rng::Seed;
use crate::topology::{Layer, Topology};
use crate::{Error, Result, checkpoint, dropout, ops};

/// Everything about a spiking network that is not a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpikingSettings {
    /// Dynamics of every population.
    pub neuron: NeuronSettings,
    /// How images become input.
    pub encoder: Encoder,
    /// Membrane before the first step, as a share of the threshold (0, or 0.5 for rounding instead of flooring).
    pub initial_membrane: f64,
    /// Factor from the readout's mean current to logits on the scale of the source network.
    pub readout_scale: f64,
    /// Steps at the start that the readout does not count: deep populations need some to come to their rates. A window
    /// no longer than that counts every step.
    pub readout_delay: usize,
}

impl SpikingSettings {
    /// The first step, from 0, that the readout of a window of `timesteps` steps counts.
    pub fn first_counted_step(&self, timesteps: usize) -> usize {
        if timesteps > self.readout_delay {
            self.readout_delay
        } else {
            0
        }
    }
}

impl Default for SpikingSettings {
    fn default() -> Self {
        Self {
            neuron: NeuronSettings::default(),
            encoder: Encoder::Poisson,
            initial_membrane: 0.0,
            readout_scale: 1.0,
            readout_delay: 0,
        }
    }
}

/// A feed-forward spiking network. Every [`Layer::Activation`] is a population of neurons with its own thresholds; the
/// last layer never fires: its membrane sums the currents, and the class is the largest.
#[derive(Debug, Clone)]
pub struct SpikingNetwork {
    topology: Topology,
    parameters: Parameters,
    thresholds: BTreeMap<usize, Tensor>,
    settings: SpikingSettings,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    topology: Topology,
    settings: SpikingSettings,
}

const FORMAT: &str = "spiking-network/1";

/// The images of one call, with what makes their spikes reproducible.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// `[N, C, H, W]` f32 in [-1, 1].
    pub images: &'a Tensor,
    /// One number per image, from which its coder noise and dropout are drawn.
    pub ids: &'a [u64],
    /// Seed of the coder noise and of dropout.
    pub seed: Seed,
}

/// Whether dropout acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout is the identity.
    Inference,
    /// Dropout masks are drawn once per sample and held over all steps.
    Training,
}

/// Membranes between two stretches of time; `State::default()` is the start.
#[derive(Debug, Clone, Default)]
pub struct State {
    membranes: BTreeMap<usize, Tensor>,
    step: usize,
}

/// What a stretch of time gave.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Input current of the output layer at each step, `[steps, N, K]`.
    pub readout: Tensor,
    /// Spikes of each population by layer index, `[steps, N, C, ...]`.
    pub spikes: BTreeMap<usize, Tensor>,
    /// The encoded input, `[steps, N, C, H, W]`, or `[1, N, C, H, W]` if it is the same at every step.
    pub input: Tensor,
}

impl SpikingNetwork {
    /// Puts a network together; `thresholds` by index of the activation layer, `[1]` or `[C]`.
    ///
    /// # Errors
    /// Parameters of another topology; a layer that cannot spike (batch norm, max pool, an activation other than ReLU);
    /// a threshold missing, of another shape, or not positive and finite; settings out of range. Each names its layer.
    pub fn new(
        topology: Topology,
        parameters: Parameters,
        thresholds: BTreeMap<usize, Tensor>,
        settings: SpikingSettings,
    ) -> Result<Self> {
        settings.neuron.check()?;
        if !(0.0..1.0).contains(&settings.initial_membrane) {
            return Err(Error::argument(
                "initial_membrane",
                format!(
                    "must be in [0, 1) thresholds, got {}",
                    settings.initial_membrane
                ),
            ));
        }
        if !(settings.readout_scale.is_finite() && settings.readout_scale > 0.0) {
            return Err(Error::argument(
                "readout_scale",
                format!("must be positive, got {}", settings.readout_scale),
            ));
        }
        let parameters = Parameters::new(&topology, parameters.tensors().clone())?;
        let shapes = topology.shapes();
        for (index, layer) in topology.layers().iter().enumerate() {
            let fail = |message: String| Error::Layer {
                index,
                kind: layer.kind(),
                message,
            };
            match layer {
                Layer::BatchNorm { .. } => {
                    return Err(fail("must be folded into the weights before it".into()));
                }
                Layer::MaxPool2d { .. } => {
                    return Err(fail(
                        "has no spiking counterpart; use average pooling".into(),
                    ));
                }
                Layer::Activation { function } if *function != crate::ActivationFunction::Relu => {
                    return Err(fail(format!(
                        "{function:?} is none of a spiking network's; convert the network, or train it with ReLU"
                    )));
                }
                Layer::Activation { .. } => {
                    let threshold = thresholds
                        .get(&index)
                        .ok_or_else(|| fail("has no threshold".into()))?;
                    if threshold.dims() != [1] && threshold.dims() != [shapes[index][0]] {
                        return Err(fail(format!(
                            "threshold must be [1] or [{}], got {:?}",
                            shapes[index][0],
                            threshold.dims()
                        )));
                    }
                    if threshold.dtype() != DType::F32 {
                        return Err(fail(format!(
                            "threshold must be f32, got {:?}",
                            threshold.dtype()
                        )));
                    }
                    let values: Vec<f32> = threshold.to_vec1()?;
                    if let Some(bad) = values.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
                        return Err(fail(format!("threshold must be positive, got {bad}")));
                    }
                }
                _ => {}
            }
        }
        if let Some(index) = thresholds
            .keys()
            .find(|i| !topology.activations().contains(i))
        {
            return Err(Error::argument(
                "thresholds",
                format!("layer {index} is not an activation"),
            ));
        }
        Ok(Self {
            topology,
            parameters,
            thresholds,
            settings,
        })
    }

    /// The layers.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Weights, biases and the scales of shortcuts.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Thresholds by index of the activation layer, `[1]` or `[C]`.
    pub fn thresholds(&self) -> &BTreeMap<usize, Tensor> {
        &self.thresholds
    }

    /// What is not a tensor.
    pub fn settings(&self) -> &SpikingSettings {
        &self.settings
    }

    /// The same network with other settings, checked again.
    ///
    /// # Errors
    /// Those of [`SpikingNetwork::new`].
    pub fn with_settings(self, settings: SpikingSettings) -> Result<Self> {
        Self::new(self.topology, self.parameters, self.thresholds, settings)
    }

    /// The same network with other weights, checked again.
    ///
    /// # Errors
    /// Those of [`SpikingNetwork::new`].
    pub fn with_parameters(self, parameters: Parameters) -> Result<Self> {
        Self::new(self.topology, parameters, self.thresholds, self.settings)
    }

    /// A copy whose weights and biases are variables, and those variables by name.
    ///
    /// # Errors
    /// A tensor that cannot be copied, for want of memory on its device.
    pub fn trainable(&self) -> Result<(Self, Vec<(String, Var)>)> {
        let (parameters, variables) = self.parameters.trainable()?;
        Ok((
            Self {
                parameters,
                ..self.clone()
            },
            variables,
        ))
    }

    /// The same network over variables: its own where its tensors are some, else copies.
    pub(crate) fn over_variables(&self) -> Result<(Self, Vec<(String, Var)>)> {
        let (parameters, variables) = self.parameters.over_variables()?;
        Ok((
            Self {
                parameters,
                ..self.clone()
            },
            variables,
        ))
    }

    /// A copy that no graph and no variable refers to.
    ///
    /// # Errors
    /// A tensor that cannot be copied, for want of memory on its device.
    pub fn frozen(&self) -> Result<Self> {
        Ok(Self {
            parameters: self.parameters.frozen()?,
            ..self.clone()
        })
    }

    /// Runs `steps` steps from `state`; differentiable in the weights and the images (through Poisson coding by the
    /// straight-through estimator).
    ///
    /// # Errors
    /// Images of another shape than the topology's, another type than f32 or with values that are not finite, no images, no steps.
    pub fn advance(
        &self,
        batch: Batch,
        mode: Mode,
        steps: usize,
        state: &State,
    ) -> Result<(Stretch, State)> {
        self.check(batch, steps)?;
        let input = match self.settings.encoder {
            Encoder::Direct => batch.images.unsqueeze(0)?,
            Encoder::Poisson if batch.images.track_op() => encode::poisson_straight_through(
                batch.images,
                batch.ids,
                state.step,
                steps,
                batch.seed.derive("coder"),
            )?,
            Encoder::Poisson => encode::poisson(
                batch.images,
                batch.ids,
                state.step,
                steps,
                batch.seed.derive("coder"),
            )?,
        };
        let mut x = input.clone();
        let mut spikes = BTreeMap::new();
        let mut next = State {
            step: state.step + steps,
            ..State::default()
        };
        for (index, layer) in self.topology.layers().iter().enumerate() {
            x = match layer {
                Layer::Activation { .. } => {
                    // a directly coded input stays one step long up to here: its weighted layers run once
                    let currents = ops::time::hold(&x, steps)?;
                    let threshold = &self.thresholds[&index];
                    let membrane = match state.membranes.get(&index) {
                        Some(membrane) => membrane.clone(),
                        None => self.initial_membrane(threshold, &currents.dims()[1..])?,
                    };
                    let scan =
                        neuron::scan(&currents, threshold, &membrane, &self.settings.neuron)?;
                    next.membranes.insert(index, scan.membrane);
                    spikes.insert(index, scan.spikes.clone());
                    scan.spikes
                }
                Layer::Dropout { probability } => match mode {
                    Mode::Inference => x,
                    Mode::Training => {
                        let seed = batch.seed.derive("dropout").index(index as u64);
                        let mask = dropout::mask(
                            batch.ids,
                            &x.dims()[2..],
                            *probability,
                            seed,
                            x.device(),
                        )?;
                        ops::mask::mask(&x, &mask)?
                    }
                },
                Layer::Shortcut { from, kernel, .. } => {
                    let scale = self.parameters.scale(index)?;
                    ops::shortcut::shortcut(&x, &spikes[from], scale, *kernel)?
                }
                layer => self.weighted_or_reshaping(index, layer, &x)?,
            };
        }
        let stretch = Stretch {
            readout: ops::time::hold(&x, steps)?,
            spikes,
            input,
        };
        Ok((stretch, next))
    }

    /// Number of images of a batch that this network can take for so many steps.
    pub(crate) fn check(&self, batch: Batch, steps: usize) -> Result<usize> {
        let [c, h, w] = self.topology.input();
        let dtype = batch.images.dtype();
        let n = match *batch.images.dims() {
            [n, ic, ih, iw] if n > 0 && [ic, ih, iw] == [c, h, w] && dtype == DType::F32 => n,
            ref dims => {
                return Err(Error::argument(
                    "images",
                    format!(
                        "needs f32 [N, {c}, {h}, {w}] with N at least 1, got {dtype:?} {dims:?}"
                    ),
                ));
            }
        };
        if steps == 0 || batch.ids.len() != n {
            return Err(Error::argument(
                "batch",
                format!(
                    "needs at least one step and an id per image, got {steps} steps and {} ids for {n} images",
                    batch.ids.len()
                ),
            ));
        }
        if !is_finite(batch.images)? {
            return Err(Error::argument("images", "hold a value that is not finite"));
        }
        Ok(n)
    }

    /// Input current of the first population, `[N, C, ...]`, for images that enter as they are.
    pub(crate) fn first_currents(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = images.unsqueeze(0)?;
        for (index, layer) in self.topology.layers().iter().enumerate() {
            match layer {
                Layer::Activation { .. } => break,
                Layer::Dropout { .. } => {}
                layer => x = self.weighted_or_reshaping(index, layer, &x)?,
            }
        }
        Ok(x.squeeze(0)?)
    }

    fn weighted_or_reshaping(&self, index: usize, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        Ok(match *layer {
            Layer::Conv2d {
                stride, padding, ..
            } => ops::conv2d::conv2d(
                x,
                self.parameters.weight(index)?,
                self.parameters.bias(index),
                stride,
                padding,
            )?,
            Layer::Linear { .. } => ops::linear::linear(
                x,
                self.parameters.weight(index)?,
                self.parameters.bias(index),
            )?,
            Layer::AvgPool2d { kernel } => ops::avg_pool::avg_pool2d(x, kernel)?,
            Layer::Flatten => x.flatten_from(2)?,
            _ => unreachable!("refused by SpikingNetwork::new or handled by the caller"),
        })
    }

    fn initial_membrane(&self, threshold: &Tensor, shape: &[usize]) -> Result<Tensor> {
        let mut per_channel = vec![1; shape.len()];
        per_channel[1] = threshold.elem_count();
        Ok((threshold * self.settings.initial_membrane)?
            .reshape(per_channel)?
            .broadcast_as(shape)?
            .contiguous()?)
    }

    /// Logits `[N, K]` after `timesteps` steps: readout scale times the mean current of the output layer over the steps
    /// that count ([`SpikingSettings::readout_delay`]). Differentiable like [`SpikingNetwork::advance`].
    ///
    /// # Errors
    /// Those of [`SpikingNetwork::advance`].
    pub fn logits(&self, batch: Batch, mode: Mode, timesteps: usize) -> Result<Tensor> {
        let (stretch, _) = self.advance(batch, mode, timesteps, &State::default())?;
        self.mean_readout(&stretch.readout)
    }

    /// Logits from the readout's currents `[T, N, K]`.
    pub(crate) fn mean_readout(&self, readout: &Tensor) -> Result<Tensor> {
        let timesteps = readout.dim(0)?;
        let first = self.settings.first_counted_step(timesteps);
        let counted = readout.narrow(0, first, timesteps - first)?;
        Ok((counted.mean(0)? * self.settings.readout_scale)?)
    }

    /// Runs without a graph, `chunk` steps at a time so that memory does not grow with T, and gives what is needed to
    /// judge every window up to `timesteps` at once.
    ///
    /// # Errors
    /// Those of [`SpikingNetwork::advance`].
    pub fn run(&self, batch: Batch, timesteps: usize, chunk: usize) -> Result<Run> {
        let network = self.detached();
        let images = batch.images.detach();
        let batch = Batch {
            images: &images,
            ..batch
        };
        let mut state = State::default();
        let mut currents = Vec::new();
        let mut spikes: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut input_events: Option<Tensor> = None;
        while state.step < timesteps {
            let steps = chunk.max(1).min(timesteps - state.step);
            let (stretch, next) = network.advance(batch, Mode::Inference, steps, &state)?;
            for (index, s) in &stretch.spikes {
                let sum = ops::time::events(s)?;
                let sum = match spikes.get(index) {
                    Some(so_far) => (so_far + sum)?,
                    None => sum,
                };
                spikes.insert(*index, sum);
            }
            if self.settings.encoder == Encoder::Poisson {
                let events = ops::time::events(&stretch.input)?;
                input_events = Some(match input_events {
                    Some(so_far) => (so_far + events)?,
                    None => events,
                });
            }
            currents.push(stretch.readout);
            state = next;
        }
        if currents.is_empty() {
            return Err(Error::argument("timesteps", "must be at least 1"));
        }
        Ok(Run {
            logits: self.cumulative_logits(&Tensor::cat(&currents, 0)?)?,
            spikes,
            input_events,
        })
    }

    /// Logits after each step `[T, N, K]` from the readout's currents at each step.
    pub(crate) fn cumulative_logits(&self, currents: &Tensor) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        let mut logits = Vec::new();
        for t in 0..currents.dim(0)? {
            let current = currents.get(t)?;
            let first = self.settings.first_counted_step(t + 1);
            let total = match sum {
                Some(sum) if t > first => (sum + current)?,
                _ => current,
            };
            logits.push((&total * (self.settings.readout_scale / (t + 1 - first) as f64))?);
            sum = Some(total);
        }
        Ok(Tensor::stack(&logits, 0)?)
    }

    /// Same tensors, outside any graph.
    pub(crate) fn detached(&self) -> Self {
        Self {
            parameters: self.parameters.detached(),
            ..self.clone()
        }
    }

    /// Saves the network, description included; see [`checkpoint::save`].
    ///
    /// # Errors
    /// Those of [`checkpoint::save`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = self.parameters.tensors().clone();
        for (index, threshold) in &self.thresholds {
            tensors.insert(format!("{index}.threshold"), threshold.clone());
        }
        let description = Description {
            format: FORMAT.into(),
            topology: self.topology.clone(),
            settings: self.settings,
        };
        checkpoint::save(path, &tensors, &description)
    }

    /// Loads what [`SpikingNetwork::save`] wrote, checking everything [`SpikingNetwork::new`] checks.
    ///
    /// # Errors
    /// What [`checkpoint::load`], [`Parameters::new`] and [`SpikingNetwork::new`] refuse and a file of another kind, with
    /// the file's name.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let (mut tensors, description): (_, Description) = checkpoint::load(path, device)?;
        if description.format != FORMAT {
            return Err(checkpoint::fault(
                path,
                format!("holds a `{}`, not a `{FORMAT}`", description.format),
            ));
        }
        let mut thresholds = BTreeMap::new();
        for index in description.topology.activations() {
            if let Some(threshold) = tensors.remove(&format!("{index}.threshold")) {
                thresholds.insert(index, threshold);
            }
        }
        let whole = || {
            let parameters = Parameters::new(&description.topology, tensors)?;
            Self::new(
                description.topology.clone(),
                parameters,
                thresholds,
                description.settings,
            )
        };
        whole().map_err(|e| checkpoint::fault(path, e.to_string()))
    }
}

/// The outcome of a whole window.
#[derive(Debug, Clone)]
pub struct Run {
    /// Logits after each step, `[T, N, K]`.
    pub logits: Tensor,
    /// Spikes summed over the window, by layer index, `[N, C, ...]`.
    pub spikes: BTreeMap<usize, Tensor>,
    /// Input spikes summed over the window, `[N, C, H, W]`; none if the input is analog.
    pub input_events: Option<Tensor>,
}
