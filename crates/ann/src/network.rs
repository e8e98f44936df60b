//! The source network: a classifier read from a topology.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use snn_core::ops::batch_norm::{self, BatchStatistics};
use snn_core::ops::conv2d::Sums;
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, Topology, checkpoint, dropout, ops};

use crate::{Error, Result, init};

/// A classifier: topology and tensors.
#[derive(Debug, Clone)]
pub struct Ann {
    topology: Topology,
    parameters: Parameters,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    topology: Topology,
}

const FORMAT: &str = "ann/1";

/// How a forward pass treats dropout and batch norm.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a> {
    /// Dropout is the identity, batch norm uses its running statistics.
    Inference,
    /// Dropout draws a mask per sample id, batch norm uses the batch's statistics.
    Training {
        /// Seed of the masks; the caller derives it from epoch and step.
        seed: Seed,
        /// One number per image.
        ids: &'a [u64],
    },
}

/// Everything a forward pass can tell.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Class scores `[N, K]`.
    pub logits: Tensor,
    /// Output of each activation layer, by layer index.
    pub activations: BTreeMap<usize, Tensor>,
    /// Input of each batch-norm layer, by layer index.
    pub batch_norm_inputs: BTreeMap<usize, Tensor>,
    /// Statistics of the batch at each batch-norm layer, in training mode.
    pub batch_statistics: BTreeMap<usize, BatchStatistics>,
}

impl Trace {
    /// Of a pass that has got as far as `x`.
    fn of(x: &Tensor) -> Self {
        Self {
            logits: x.clone(),
            activations: BTreeMap::new(),
            batch_norm_inputs: BTreeMap::new(),
            batch_statistics: BTreeMap::new(),
        }
    }
}

impl Ann {
    /// Takes tensors that fit the topology (checked by [`Parameters::new`]).
    pub fn new(topology: Topology, parameters: Parameters) -> Self {
        Self {
            topology,
            parameters,
        }
    }

    /// A network with Kaiming-normal weights drawn from `seed`, zero biases, batch norm at the identity.
    ///
    /// # Errors
    /// A device that does not take the tensors.
    pub fn initialise(topology: Topology, seed: Seed, device: &Device) -> Result<Self> {
        let tensors = init::kaiming_normal(&topology, seed, device)?;
        let parameters = Parameters::new(&topology, tensors)?;
        Ok(Self {
            topology,
            parameters,
        })
    }

    /// The layers.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The tensors, to replace running statistics.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// A copy whose trained tensors are variables, and those variables by name.
    ///
    /// # Errors
    /// A tensor that cannot be copied, for want of memory on its device.
    pub fn trainable(&self) -> Result<(Self, Vec<(String, Var)>)> {
        let (parameters, variables) = self.parameters.trainable()?;
        let ann = Self {
            topology: self.topology.clone(),
            parameters,
        };
        Ok((ann, variables))
    }

    /// A copy that no graph and no variable refers to.
    ///
    /// # Errors
    /// A tensor that cannot be copied, for want of memory on its device.
    pub fn frozen(&self) -> Result<Self> {
        Ok(Self {
            topology: self.topology.clone(),
            parameters: self.parameters.frozen()?,
        })
    }

    /// The same network outside any graph, for inference: it shares the variables' memory.
    pub fn detached(&self) -> Self {
        Self {
            topology: self.topology.clone(),
            parameters: self.parameters.detached(),
        }
    }

    /// Class scores `[N, K]` of images `[N, C, H, W]` f32 in [-1, 1]. Differentiable in images and weights.
    ///
    /// # Errors
    /// Images of another shape than the topology's, or none; in training, where the network has dropout, more or fewer ids
    /// than images; tensors that do not fit the topology; a function that is not implemented, by layer.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.walk(images, mode, false)?.logits)
    }

    /// The same with everything seen on the way.
    ///
    /// # Errors
    /// Those of [`Ann::forward`].
    pub fn trace(&self, images: &Tensor, mode: Mode) -> Result<Trace> {
        self.walk(images, mode, true)
    }

    /// Output of the last activation layer, flattened to `[N, F]`: the features before the class scores.
    ///
    /// # Errors
    /// Those of [`Ann::forward`]; a network without an activation.
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        let trace = self.trace(images, Mode::Inference)?;
        match trace.activations.into_values().next_back() {
            Some(activation) => Ok(activation.flatten_from(1)?),
            None => Err(Error::argument(
                "features",
                "the network has no activation layer",
            )),
        }
    }

    /// Whether the network takes `images`.
    pub(crate) fn check(&self, images: &Tensor) -> Result<()> {
        let [c, h, w] = self.topology.input();
        match *images.dims() {
            [n, ic, ih, iw] if n > 0 && [ic, ih, iw] == [c, h, w] => Ok(()),
            ref dims => Err(Error::argument(
                "images",
                format!("needs [N, {c}, {h}, {w}] with N at least 1, got {dims:?}"),
            )),
        }
    }

    fn walk(&self, images: &Tensor, mode: Mode, keep: bool) -> Result<Trace> {
        self.check(images)?;
        let mut x = images.clone();
        let mut trace = Trace::of(images);
        // outputs that shortcuts further on take
        let mut earlier = BTreeMap::new();
        for index in 0..self.topology.layers().len() {
            x = self.step(index, x, mode, &earlier, keep, &mut trace)?;
            if self.topology.last_shortcut_from(index).is_some() {
                earlier.insert(index, x.clone());
            }
            earlier.retain(|&from, _| self.topology.last_shortcut_from(from) > Some(index));
        }
        trace.logits = x;
        Ok(trace)
    }

    /// Layer `index` alone, in inference: what it makes of its input `[N, ...]`, and of the activations of `earlier`
    /// layers if it is a shortcut.
    ///
    /// # Errors
    /// No such layer; an input that the layer does not take; a shortcut whose activation is not there.
    pub fn layer(
        &self,
        index: usize,
        x: &Tensor,
        earlier: &BTreeMap<usize, Tensor>,
    ) -> Result<Tensor> {
        let count = self.topology.layers().len();
        if index >= count {
            let message = format!("{index} of a network of {count} layers");
            return Err(Error::argument("index", message));
        }
        self.layer_in(index, x, Mode::Inference, earlier)
    }

    /// [`Ann::layer`] of an index that is there, in any mode.
    pub(crate) fn layer_in(
        &self,
        index: usize,
        x: &Tensor,
        mode: Mode,
        earlier: &BTreeMap<usize, Tensor>,
    ) -> Result<Tensor> {
        self.step(index, x.clone(), mode, earlier, false, &mut Trace::of(x))
    }

    fn step(
        &self,
        index: usize,
        x: Tensor,
        mode: Mode,
        earlier: &BTreeMap<usize, Tensor>,
        keep: bool,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let weight = || self.parameters.weight(index);
        let bias = self.parameters.bias(index);
        Ok(match self.topology.layers()[index] {
            Layer::Conv2d {
                stride, padding, ..
            } => ops::conv2d::conv2d_with(&x, weight()?, bias, stride, padding, Sums::Fastest)?,
            Layer::Linear { .. } => ops::linear::linear(&x, weight()?, bias)?,
            Layer::BatchNorm { epsilon, .. } => {
                if keep {
                    trace.batch_norm_inputs.insert(index, x.clone());
                }
                self.batch_norm(index, &x, epsilon, mode, trace)?
            }
            Layer::Activation { function } => {
                let y = match function {
                    ActivationFunction::Relu => ops::relu::relu(&x)?,
                    ActivationFunction::Silu => x.silu()?,
                    ActivationFunction::Qcfs { levels } => {
                        let threshold = self.parameters.threshold(index)?;
                        ops::qcfs::qcfs(&x, threshold, levels)?
                    }
                    other => {
                        return Err(Error::argument(
                            "activation",
                            format!("layer {index}: {other:?} is not implemented"),
                        ));
                    }
                };
                if keep {
                    trace.activations.insert(index, y.clone());
                }
                y
            }
            Layer::Shortcut { from, kernel, .. } => {
                let earlier = earlier.get(&from).ok_or_else(|| {
                    let message =
                        format!("layer {index} (shortcut) needs the output of layer {from}");
                    Error::argument("earlier", message)
                })?;
                ops::shortcut::shortcut(&x, earlier, self.parameters.scale(index)?, kernel)?
            }
            Layer::AvgPool2d { kernel } => ops::avg_pool::avg_pool2d(&x, kernel)?,
            Layer::MaxPool2d { kernel } => x.max_pool2d(kernel)?,
            Layer::Flatten => x.flatten_from(1)?,
            Layer::Dropout { probability } => match mode {
                Mode::Inference => x,
                Mode::Training { seed, ids } => {
                    let mask = dropout::mask(
                        ids,
                        &x.dims()[1..],
                        probability,
                        seed.index(index as u64),
                        x.device(),
                    )?;
                    ops::mask::mask(&x, &mask)?
                }
            },
            ref layer => {
                return Err(Error::argument(
                    "layer",
                    format!("layer {index} ({}) is not implemented", layer.kind()),
                ));
            }
        })
    }

    fn batch_norm(
        &self,
        index: usize,
        x: &Tensor,
        epsilon: f64,
        mode: Mode,
        trace: &mut Trace,
    ) -> Result<Tensor> {
        let get = |name: &str| {
            self.parameters.get(index, name).ok_or_else(|| {
                Error::argument("batch_norm", format!("layer {index} has no `{name}`"))
            })
        };
        let (gamma, beta) = (get("gamma")?, get("beta")?);
        match mode {
            Mode::Training { .. } => {
                let (y, statistics) = batch_norm::batch_norm(x, gamma, beta, epsilon)?;
                trace.batch_statistics.insert(index, statistics);
                Ok(y)
            }
            Mode::Inference => {
                let statistics = BatchStatistics {
                    mean: get("running_mean")?.clone(),
                    variance: get("running_var")?.clone(),
                };
                Ok(batch_norm::batch_norm_fixed(
                    x,
                    gamma,
                    beta,
                    &statistics,
                    epsilon,
                )?)
            }
        }
    }

    /// Saves the network, description included; see [`checkpoint::save`].
    ///
    /// # Errors
    /// Those of [`checkpoint::save`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let description = Description {
            format: FORMAT.into(),
            topology: self.topology.clone(),
        };
        Ok(checkpoint::save(
            path,
            self.parameters.tensors(),
            &description,
        )?)
    }

    /// Loads what [`Ann::save`] wrote.
    ///
    /// # Errors
    /// Everything [`checkpoint::load`] and [`Parameters::new`] refuse, with the file's name.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let (tensors, description): (_, Description) = checkpoint::load(path, device)?;
        if description.format != FORMAT {
            let message = format!("holds a `{}`, not a `{FORMAT}`", description.format);
            return Err(checkpoint::fault(path, message).into());
        }
        let parameters = Parameters::new(&description.topology, tensors)
            .map_err(|e| checkpoint::fault(path, e.to_string()))?;
        Ok(Self::new(description.topology, parameters))
    }
}
