//! A training step's pass through the network and back, layer by layer, without a graph, which would fill with zeros, add up
//! and keep a gradient for every tensor.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use snn_core::ops::batch_norm::BatchStatistics;
use snn_core::ops::batch_norm::fused::{self, After};
use snn_core::ops::{avg_pool, conv2d, linear, mask, qcfs, relu, shortcut};
use snn_core::{ActivationFunction, Layer, Parameters, dropout};

use crate::activity::Slope;
use crate::{Ann, Error, Mode, Result};

/// A pass forward, with what the way back needs: the gradients of a loss over the class scores, as the graph gives them, at
/// less cost. Normalisations take the statistics of the batch; [`Mode`] says what dropout does.
pub struct Pass<'a> {
    ann: &'a Ann,
    mode: Mode<'a>,
    /// What each layer was given, then the class scores. That of an activation is missing where its normalisation made its
    /// output at once.
    inputs: Vec<Option<Tensor>>,
    statistics: BTreeMap<usize, BatchStatistics>,
}

impl<'a> Pass<'a> {
    /// Runs `images` `[N, C, H, W]` f32 in [-1, 1] through the network, which is [`Ann::detached`].
    ///
    /// # Errors
    /// Images of another shape.
    pub fn forward(ann: &'a Ann, images: &Tensor, mode: Mode<'a>) -> Result<Self> {
        ann.check(images)?;
        let mut pass = Self {
            ann,
            mode,
            inputs: vec![Some(images.clone())],
            statistics: BTreeMap::new(),
        };
        while pass.inputs.len() <= ann.topology().layers().len() {
            pass.step()?;
        }
        Ok(pass)
    }

    /// The next layer, or two of them at once.
    fn step(&mut self) -> Result<()> {
        let index = self.inputs.len() - 1;
        let x = self.input(index)?.clone();
        let layers = self.ann.topology().layers();
        let Layer::BatchNorm { epsilon, .. } = layers[index] else {
            let from = match layers[index] {
                Layer::Shortcut { from, .. } => [(from, self.input(from + 1)?.clone())].into(),
                _ => BTreeMap::new(),
            };
            let y = self.ann.layer_in(index, &x, self.mode, &from)?;
            self.inputs.push(Some(y));
            return Ok(());
        };
        let after = self.after(index)?;
        let (gamma, beta) = (self.tensor(index, "gamma")?, self.tensor(index, "beta")?);
        let (y, statistics) = fused::forward(&x, gamma, beta, epsilon, after)?;
        self.statistics.insert(index, statistics);
        if !matches!(after, After::Nothing) {
            self.inputs.push(None);
        }
        self.inputs.push(Some(y));
        Ok(())
    }

    /// The activation that follows a normalisation, if one does that can be made with it.
    fn after(&self, index: usize) -> Result<After<'a>> {
        let layers = self.ann.topology().layers();
        Ok(match layers.get(index + 1) {
            Some(Layer::Activation {
                function: ActivationFunction::Relu,
            }) => After::Relu,
            Some(&Layer::Activation {
                function: ActivationFunction::Qcfs { levels },
            }) => After::Qcfs {
                threshold: self.parameters().threshold(index + 1)?,
                levels,
            },
            _ => After::Nothing,
        })
    }

    fn parameters(&self) -> &'a Parameters {
        self.ann.parameters()
    }

    fn tensor(&self, layer: usize, name: &str) -> Result<&'a Tensor> {
        self.parameters()
            .get(layer, name)
            .ok_or_else(|| Error::argument("network", format!("layer {layer} has no `{name}`")))
    }

    fn input(&self, layer: usize) -> Result<&Tensor> {
        self.inputs
            .get(layer)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::argument("network", format!("layer {layer} has no input")))
    }

    /// Class scores `[N, K]`.
    ///
    /// # Errors
    /// There are none.
    pub fn logits(&self) -> Result<&Tensor> {
        self.input(self.ann.topology().layers().len())
    }

    /// Statistics of the batch at each batch-norm layer.
    pub fn statistics(&self) -> &BTreeMap<usize, BatchStatistics> {
        &self.statistics
    }

    /// The output of layer `layer`.
    ///
    /// # Errors
    /// No such layer, or a normalisation that was made with the activation after it.
    pub fn output(&self, layer: usize) -> Result<&Tensor> {
        self.input(layer + 1)
    }

    /// Gradients of the trained tensors by name, from that of the class scores `[N, K]`; `slopes`, by layer, are what a part of
    /// the loss that looks at activations adds ([`crate::Activity::measure`]).
    ///
    /// # Errors
    /// A gradient of another shape.
    pub fn backward(
        mut self,
        of_logits: Tensor,
        slopes: &BTreeMap<usize, Slope>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let topology = self.ann.topology();
        let trained = |index: &usize| topology.layers()[*index].is_trained();
        let first = (0..topology.layers().len()).find(trained).unwrap_or(0);
        let mut way = Way {
            gradient: of_logits,
            of_earlier: BTreeMap::new(),
            found: BTreeMap::new(),
        };
        for index in (first..topology.layers().len()).rev() {
            way.arrive(index, slopes.get(&index))?;
            self.back(index, index == first, &mut way)?;
            // no layer further back looks at it
            self.inputs.truncate(index + 1);
        }
        Ok(way.found)
    }

    /// From the gradient of a layer's output to that of its input, which the `first` trained layer needs not give.
    fn back(&self, index: usize, first: bool, way: &mut Way) -> Result<()> {
        let gy = way.gradient.clone();
        way.gradient = match self.ann.topology().layers()[index] {
            Layer::Conv2d {
                stride, padding, ..
            } => {
                let (x, weight) = (self.input(index)?, self.parameters().weight(index)?);
                if self.parameters().bias(index).is_some() {
                    way.put(index, "bias", conv2d::backward_bias(&gy)?);
                }
                if first {
                    let gw = conv2d::backward_weight(x, weight, stride, padding, &gy)?;
                    way.put(index, "weight", gw);
                    return Ok(());
                }
                let (gx, gw) = conv2d::backward(x, weight, stride, padding, &gy)?;
                way.put(index, "weight", gw);
                gx
            }
            Layer::Linear { .. } => {
                let (x, weight) = (self.input(index)?, self.parameters().weight(index)?);
                if self.parameters().bias(index).is_some() {
                    way.put(index, "bias", gy.sum(0)?);
                }
                let (gx, gw) = linear::backward(x, weight, &gy)?;
                way.put(index, "weight", gw);
                gx
            }
            Layer::BatchNorm { epsilon, .. } => {
                let after = self.after(index)?;
                let line = (self.tensor(index, "gamma")?, self.tensor(index, "beta")?);
                let statistics = &self.statistics[&index];
                let x = self.input(index)?;
                let found = fused::backward(x, line, statistics, epsilon, after, &gy)?;
                way.put(index, "gamma", found.gamma);
                way.put(index, "beta", found.beta);
                if let Some(threshold) = found.threshold {
                    way.add(index + 1, "threshold", threshold)?;
                }
                found.x
            }
            // the normalisation before it goes back through both
            Layer::Activation { .. } if self.inputs[index].is_none() => gy,
            Layer::Activation { function } => match function {
                ActivationFunction::Relu => relu::backward(self.output(index)?, &gy)?,
                ActivationFunction::Qcfs { .. } => {
                    let (x, y) = (self.input(index)?, self.output(index)?);
                    let threshold = self.parameters().threshold(index)?;
                    let (gx, of_threshold) = qcfs::backward(x, threshold, y, &gy)?;
                    way.add(index, "threshold", of_threshold)?;
                    gx
                }
                _ => self.through_a_graph(index, &gy)?,
            },
            Layer::Shortcut { from, kernel, .. } => {
                let of_earlier = shortcut::backward(&gy, self.parameters().scale(index)?, kernel)?;
                way.leave(from, of_earlier)?;
                gy
            }
            Layer::AvgPool2d { kernel } => avg_pool::backward(&gy, kernel)?,
            Layer::Flatten => gy.reshape(self.input(index)?.shape())?,
            Layer::Dropout { probability } => match self.mode {
                Mode::Inference => gy,
                Mode::Training { seed, ids } => {
                    let (shape, seed) = (&gy.dims()[1..], seed.index(index as u64));
                    let held = dropout::mask(ids, shape, probability, seed, gy.device())?;
                    mask::mask(&gy, &held)?
                }
            },
            _ => self.through_a_graph(index, &gy)?,
        };
        Ok(())
    }

    /// A layer without tensors of its own, by the tensor library's graph.
    fn through_a_graph(&self, index: usize, gy: &Tensor) -> Result<Tensor> {
        let x = Var::from_tensor(self.input(index)?)?;
        let y = self
            .ann
            .layer_in(index, x.as_tensor(), self.mode, &BTreeMap::new())?;
        let mut gradients = (y * gy)?.sum_all()?.backward()?;
        match gradients.remove(x.as_tensor()) {
            Some(gradient) => Ok(gradient),
            None => Ok(x.zeros_like()?),
        }
    }
}

/// What is known on the way back.
struct Way {
    /// Of the output of the layer that comes next.
    gradient: Tensor,
    /// Of outputs that shortcuts further on took, by layer.
    of_earlier: BTreeMap<usize, Tensor>,
    /// Of trained tensors.
    found: BTreeMap<String, Tensor>,
}

impl Way {
    /// Adds to the gradient what comes to the output of layer `index` from elsewhere.
    fn arrive(&mut self, index: usize, slope: Option<&Slope>) -> Result<()> {
        if let Some(more) = self.of_earlier.remove(&index) {
            self.gradient = (&self.gradient + more)?;
        }
        if let Some(slope) = slope {
            self.gradient = (&self.gradient + slope.of_activation)?;
            let device = self.gradient.device();
            let of_threshold = Tensor::new(&[slope.of_threshold as f32], device)?;
            self.add(index, "threshold", of_threshold)?;
        }
        Ok(())
    }

    fn leave(&mut self, from: usize, gradient: Tensor) -> Result<()> {
        let sum = match self.of_earlier.remove(&from) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        self.of_earlier.insert(from, sum);
        Ok(())
    }

    fn put(&mut self, layer: usize, name: &str, gradient: Tensor) {
        self.found.insert(format!("{layer}.{name}"), gradient);
    }

    fn add(&mut self, layer: usize, name: &str, gradient: Tensor) -> Result<()> {
        let key = format!("{layer}.{name}");
        let sum = match self.found.remove(&key) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        self.found.insert(key, sum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use snn_core::Topology;
    use snn_core::rng::Seed;
    use testkit::{Tolerance, assert_close};

    use super::*;
    use crate::{Depth, NetworkConfig, loss};

    fn activation(function: ActivationFunction) -> Layer {
        Layer::Activation { function }
    }

    fn conv(in_channels: usize, out_channels: usize, bias: bool) -> Layer {
        Layer::Conv2d {
            in_channels,
            out_channels,
            kernel: 3,
            stride: 1,
            padding: 1,
            bias,
        }
    }

    /// Every kind of layer, with and without a normalisation before it.
    fn mixed() -> Topology {
        let norm = |channels| Layer::BatchNorm {
            channels,
            epsilon: 1e-5,
        };
        let layers = vec![
            norm(2),
            conv(2, 4, true),
            activation(ActivationFunction::Qcfs { levels: 4 }),
            conv(4, 4, false),
            norm(4),
            activation(ActivationFunction::Silu),
            Layer::MaxPool2d { kernel: 2 },
            Layer::Dropout { probability: 0.3 },
            conv(4, 5, false),
            norm(5),
            activation(ActivationFunction::Qcfs { levels: 4 }),
            Layer::AvgPool2d { kernel: 2 },
            Layer::Flatten,
            Layer::Linear {
                in_features: 20,
                out_features: 6,
                bias: true,
            },
            activation(ActivationFunction::Relu),
            Layer::Linear {
                in_features: 6,
                out_features: 3,
                bias: false,
            },
        ];
        Topology::new("mixed", [2, 8, 8], layers).expect("layers fit")
    }

    fn residual(levels: usize) -> Topology {
        let config = NetworkConfig {
            width: 0.25,
            hidden: 0,
            batch_norm: true,
            levels,
            ..NetworkConfig::paper(Depth::Resnet20)
        };
        config.topology([2, 8, 8], 3).expect("a topology")
    }

    /// Everything a step learns is what the graph says.
    #[test]
    fn gradients_are_those_of_the_graph() {
        let seed = Seed::new(3);
        let images = seed.normal(&[6, 2, 8, 8], 0.0, 1.0, &Device::Cpu).unwrap();
        let labels = Tensor::new(&[0u32, 1, 2, 0, 1, 2], &Device::Cpu).unwrap();
        let ids: Vec<u64> = (10..16).collect();
        let mode = Mode::Training { seed, ids: &ids };
        for topology in [mixed(), residual(0), residual(4)] {
            let ann = Ann::initialise(topology, seed, &Device::Cpu).expect("a network");
            let (trained, variables) = ann.trainable().expect("variables");
            let trace = trained.trace(&images, mode).expect("a trace");
            let loss = loss::cross_entropy(&trace.logits, &labels, 0.1).expect("a loss");
            let mut gradients = loss.backward().expect("gradients");

            let detached = trained.detached();
            let pass = Pass::forward(&detached, &images, mode).expect("a pass");
            let logits = Var::from_tensor(pass.logits().unwrap()).unwrap();
            let name = ann.topology().name().to_string();
            assert_close(&logits, &trace.logits, Tolerance::Exact, &name);
            let loss = loss::cross_entropy(logits.as_tensor(), &labels, 0.1).unwrap();
            let of_logits = loss.backward().unwrap().remove(&logits).unwrap();
            assert_eq!(pass.statistics().len(), trace.batch_statistics.len());
            for (layer, statistics) in pass.statistics() {
                let expected = &trace.batch_statistics[layer];
                assert_close(&statistics.mean, &expected.mean, Tolerance::Exact, &name);
                let (found, expected) = (&statistics.variance, &expected.variance);
                assert_close(found, expected, Tolerance::Exact, &name);
            }
            let found = pass
                .backward(of_logits, &BTreeMap::new())
                .expect("a way back");
            assert_eq!(found.len(), variables.len(), "{name}");
            for (variable, var) in &variables {
                let expected = gradients.remove(var).expect("a gradient");
                let what = format!("{name}: {variable}");
                assert_close(
                    &found[variable],
                    &expected,
                    Tolerance::Rounding(300.0),
                    &what,
                );
            }
        }
    }

    /// What a part of the loss says of an activation reaches all that made it.
    #[test]
    fn slopes_of_activations_are_added() {
        let seed = Seed::new(4);
        let images = seed.normal(&[4, 2, 8, 8], 0.0, 1.0, &Device::Cpu).unwrap();
        let ids = [1, 2, 3, 4];
        let mode = Mode::Training { seed, ids: &ids };
        let ann = Ann::initialise(mixed(), seed, &Device::Cpu).expect("a network");
        let (trained, variables) = ann.trainable().expect("variables");
        let trace = trained.trace(&images, mode).expect("a trace");
        // 0.5 of the sum of layer 10, whose normalisation is made with it, and of layer 2, and 3 times their thresholds
        let mut loss = trace.logits.sum_all().unwrap();
        let mut slopes = BTreeMap::new();
        for layer in [2, 10] {
            let sum = (trace.activations[&layer].sum_all().unwrap() * 0.5).unwrap();
            let threshold = trained.parameters().threshold(layer).unwrap();
            let threshold = (threshold.sum_all().unwrap() * 3.0).unwrap();
            loss = ((loss + sum).unwrap() + threshold).unwrap();
            let slope = Slope {
                of_activation: 0.5,
                of_threshold: 3.0,
            };
            slopes.insert(layer, slope);
        }
        let mut gradients = loss.backward().expect("gradients");
        let detached = trained.detached();
        let pass = Pass::forward(&detached, &images, mode).expect("a pass");
        let ones = pass.logits().unwrap().ones_like().unwrap();
        let found = pass.backward(ones, &slopes).expect("a way back");
        for (variable, var) in &variables {
            let expected = gradients.remove(var).expect("a gradient");
            assert_close(
                &found[variable],
                &expected,
                Tolerance::Rounding(300.0),
                variable,
            );
        }
    }
}
