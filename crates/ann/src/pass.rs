//! A pass through the network and back, layer by layer, without a graph, which would fill with zeros, add up and keep a
//! gradient for every tensor.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use snn_core::ops::batch_norm::fused::{After, Fused, StatisticsGradients};
use snn_core::ops::batch_norm::{self, BatchStatistics};
use snn_core::ops::{avg_pool, conv2d, linear, mask, qcfs, relu, shortcut};
use snn_core::{ActivationFunction, Layer, Parameters, dropout};

use crate::activity::Slope;
use crate::{Ann, Error, Mode, Result};

/// A pass forward, with what the way back needs: the gradients of a loss over the class scores, as the graph gives them, at
/// less cost. Normalisation and dropout go by the [`Mode`], as in [`Ann::forward`].
#[derive(Debug)]
pub struct Pass<'a> {
    ann: &'a Ann,
    mode: Mode<'a>,
    /// What each layer was given, then the class scores. That of an activation is missing where its normalisation made its
    /// output at once.
    inputs: Vec<Option<Tensor>>,
    /// What normalisations took, by layer.
    statistics: BTreeMap<usize, BatchStatistics>,
}

impl<'a> Pass<'a> {
    /// Runs `images` `[N, C, H, W]` f32 in [-1, 1] through the network, which is [`Ann::detached`] or [`Ann::frozen`].
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
                Layer::Shortcut { from, .. } => [(from, self.output(from)?.clone())].into(),
                _ => BTreeMap::new(),
            };
            let y = self.ann.layer_in(index, &x, self.mode, &from)?;
            self.inputs.push(Some(y));
            return Ok(());
        };
        let fused = self.fused(index, epsilon)?;
        let (y, statistics) = match self.mode {
            Mode::Training { .. } => fused.of_batch(&x)?,
            Mode::Inference => {
                let statistics = BatchStatistics {
                    mean: self.tensor(index, "running_mean")?.clone(),
                    variance: self.tensor(index, "running_var")?.clone(),
                };
                (fused.with(&x, &statistics)?, statistics)
            }
        };
        self.statistics.insert(index, statistics);
        if !matches!(fused.after, After::Nothing) {
            self.inputs.push(None);
        }
        self.inputs.push(Some(y));
        Ok(())
    }

    /// A normalisation and the activation that follows it, if one does that can be made with it.
    fn fused(&self, index: usize, epsilon: f64) -> Result<Fused<'a>> {
        let after = match self.ann.topology().layers().get(index + 1) {
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
        };
        Ok(Fused {
            gamma: self.tensor(index, "gamma")?,
            beta: self.tensor(index, "beta")?,
            epsilon,
            after,
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
            .ok_or_else(|| {
                let message =
                    format!("layer {layer} has no input of its own, or there is no such layer");
                Error::argument("layer", message)
            })
    }

    /// Class scores `[N, K]`.
    ///
    /// # Errors
    /// There is none.
    pub fn logits(&self) -> Result<&Tensor> {
        self.output(self.ann.topology().layers().len() - 1)
    }

    /// What each normalisation took, by layer: the statistics of the batch in training, else the running ones.
    pub fn statistics(&self) -> &BTreeMap<usize, BatchStatistics> {
        &self.statistics
    }

    /// Statistics of the batch at each normalisation, by layer, in any mode.
    ///
    /// # Errors
    /// What the device refuses.
    pub fn batch_statistics(&self) -> Result<BTreeMap<usize, BatchStatistics>> {
        let layers = self.statistics.keys();
        layers
            .map(|&layer| Ok((layer, batch_norm::statistics(self.input(layer)?)?)))
            .collect()
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
    /// A gradient of another shape; a pass in inference through a normalisation, which learns from the batch alone.
    pub fn trained(
        self,
        of_logits: Tensor,
        slopes: &BTreeMap<usize, Slope>,
    ) -> Result<BTreeMap<String, Tensor>> {
        if matches!(self.mode, Mode::Inference) && !self.statistics.is_empty() {
            let message = "a network with batch norm learns in a pass in training mode";
            return Err(Error::argument("mode", message));
        }
        let layers = self.ann.topology().layers();
        let first = layers.iter().position(Layer::is_trained).unwrap_or(0);
        Ok(self
            .backward(of_logits, Sought::Trained { first, slopes })?
            .found)
    }

    /// The gradient of the images `[N, C, H, W]`, from that of the class scores `[N, K]`; `statistics`, by layer, are what a part
    /// of the loss that looks at the batch's statistics ([`Pass::batch_statistics`]) adds.
    ///
    /// # Errors
    /// A gradient of another shape; a pass in training mode through a normalisation.
    pub fn images(
        self,
        of_logits: Tensor,
        statistics: &BTreeMap<usize, StatisticsGradients>,
    ) -> Result<Tensor> {
        if matches!(self.mode, Mode::Training { .. }) && !self.statistics.is_empty() {
            let message = "images are sought in a pass in inference, where the network is fixed";
            return Err(Error::argument("mode", message));
        }
        Ok(self
            .backward(of_logits, Sought::Images { statistics })?
            .gradient)
    }

    fn backward(mut self, of_logits: Tensor, sought: Sought) -> Result<Way> {
        let first = match sought {
            Sought::Trained { first, .. } => first,
            Sought::Images { .. } => 0,
        };
        let mut way = Way {
            gradient: of_logits,
            of_earlier: BTreeMap::new(),
            found: BTreeMap::new(),
        };
        for index in (first..self.ann.topology().layers().len()).rev() {
            way.arrive(index, sought)?;
            self.back(index, sought, &mut way)?;
            // no layer further back looks at it
            self.inputs.truncate(index + 1);
        }
        Ok(way)
    }

    /// From the gradient of a layer's output to that of its input.
    fn back(&self, index: usize, sought: Sought, way: &mut Way) -> Result<()> {
        let gy = way.gradient.clone();
        way.gradient = match self.ann.topology().layers()[index] {
            Layer::Conv2d {
                stride, padding, ..
            } => {
                let (x, weight) = (self.input(index)?, self.parameters().weight(index)?);
                let Sought::Trained { first, .. } = sought else {
                    way.gradient = conv2d::backward_data(x, weight, stride, padding, &gy)?;
                    return Ok(());
                };
                if self.parameters().bias(index).is_some() {
                    way.put(index, "bias", conv2d::backward_bias(&gy)?);
                }
                if index == first {
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
                let Sought::Trained { .. } = sought else {
                    way.gradient = linear::backward_data(x, weight, &gy)?;
                    return Ok(());
                };
                if self.parameters().bias(index).is_some() {
                    way.put(index, "bias", linear::backward_bias(&gy)?);
                }
                let (gx, gw) = linear::backward(x, weight, &gy)?;
                way.put(index, "weight", gw);
                gx
            }
            Layer::BatchNorm { epsilon, .. } => {
                let (fused, x) = (self.fused(index, epsilon)?, self.input(index)?);
                let taken = &self.statistics[&index];
                match sought {
                    Sought::Images { statistics } => {
                        fused.backward_data(x, taken, &gy, statistics.get(&index))?
                    }
                    Sought::Trained { .. } => {
                        let found = fused.backward(x, taken, &gy)?;
                        way.put(index, "gamma", found.gamma);
                        way.put(index, "beta", found.beta);
                        if let Some(threshold) = found.threshold {
                            way.add(index + 1, "threshold", threshold)?;
                        }
                        found.x
                    }
                }
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

/// What the way back is for, and what other parts of the loss bring to it.
#[derive(Clone, Copy)]
enum Sought<'a> {
    /// The trained tensors, `first` being the first layer that has any.
    Trained {
        first: usize,
        slopes: &'a BTreeMap<usize, Slope>,
    },
    /// The images.
    Images {
        statistics: &'a BTreeMap<usize, StatisticsGradients>,
    },
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
    fn arrive(&mut self, index: usize, sought: Sought) -> Result<()> {
        if let Some(more) = self.of_earlier.remove(&index) {
            self.gradient = (&self.gradient + more)?;
        }
        if let Sought::Trained { slopes, .. } = sought
            && let Some(slope) = slopes.get(&index)
        {
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
    use testkit::{Tolerance, assert_close, devices};

    use super::*;
    use crate::{Depth, NetworkConfig, loss};

    /// Sums in other orders, through a few layers.
    const SUMS: Tolerance = Tolerance::Rounding(500.0);

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
            let gradients = loss.backward().expect("gradients");
            for device in devices() {
                let name = format!("{} on {device:?}", ann.topology().name());
                let parameters = trained.parameters().detached().to_device(&device);
                let there = Ann::new(ann.topology().clone(), parameters.unwrap());
                let images = images.to_device(&device).unwrap();
                let pass = Pass::forward(&there, &images, mode).expect("a pass");
                let logits = Var::from_tensor(pass.logits().unwrap()).unwrap();
                assert_close(&logits, &trace.logits, SUMS, &name);
                let loss = loss::cross_entropy(logits.as_tensor(), &labels, 0.1).unwrap();
                let of_logits = loss.backward().unwrap().remove(&logits).unwrap();
                assert_eq!(pass.statistics().len(), trace.batch_statistics.len());
                for (layer, statistics) in pass.statistics() {
                    let expected = &trace.batch_statistics[layer];
                    assert_close(&statistics.mean, &expected.mean, SUMS, &name);
                    assert_close(&statistics.variance, &expected.variance, SUMS, &name);
                }
                let found = pass
                    .trained(of_logits, &BTreeMap::new())
                    .expect("a way back");
                assert_eq!(found.len(), variables.len(), "{name}");
                for (variable, var) in &variables {
                    let expected = gradients.get(var).expect("a gradient");
                    let what = format!("{name}: {variable}");
                    assert_close(&found[variable], expected, SUMS, &what);
                }
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
        let found = pass.trained(ones, &slopes).expect("a way back");
        for (variable, var) in &variables {
            let expected = gradients.remove(var).expect("a gradient");
            assert_close(&found[variable], &expected, SUMS, variable);
        }
    }

    /// The images' gradient, and what a loss over the batch's statistics adds to it.
    #[test]
    fn gradients_of_images_are_those_of_the_graph() {
        let seed = Seed::new(5);
        let images = seed.normal(&[5, 2, 8, 8], 0.0, 1.0, &Device::Cpu).unwrap();
        for topology in [mixed(), residual(4)] {
            let ann = Ann::initialise(topology, seed, &Device::Cpu).expect("a network");
            let input = Var::from_tensor(&images).unwrap();
            let trace = ann.trace(&input, Mode::Inference).expect("a trace");
            let mut loss = trace.logits.sqr().unwrap().sum_all().unwrap();
            let pass = Pass::forward(&ann, &images, Mode::Inference).expect("a pass");
            let of_logits = (pass.logits().unwrap() * 2.0).unwrap();
            let mut statistics = BTreeMap::new();
            for (layer, of_batch) in pass.batch_statistics().expect("statistics") {
                // twice the sum of the means and three times that of the variances
                let flat = trace.batch_norm_inputs[&layer].transpose(0, 1).unwrap();
                let flat = flat.flatten_from(1).unwrap();
                let mean = flat.mean_keepdim(1).unwrap();
                let variance = flat.broadcast_sub(&mean).unwrap().sqr().unwrap();
                let variance = variance.mean(1).unwrap().sum_all().unwrap();
                loss = (loss + (mean.sum_all().unwrap() * 2.0).unwrap()).unwrap();
                loss = (loss + (variance * 3.0).unwrap()).unwrap();
                let ones = of_batch.mean.ones_like().unwrap();
                let of = StatisticsGradients {
                    statistics: of_batch,
                    mean: (&ones * 2.0).unwrap(),
                    variance: (&ones * 3.0).unwrap(),
                };
                statistics.insert(layer, of);
            }
            assert!(!statistics.is_empty());
            let expected = loss.backward().unwrap().remove(&input).unwrap();
            let found = pass.images(of_logits, &statistics).expect("a gradient");
            let name = ann.topology().name();
            assert_close(&found, &expected, Tolerance::Rounding(1000.0), name);
        }
    }

    #[test]
    fn a_pass_of_the_other_mode_is_refused() {
        let seed = Seed::new(6);
        let images = seed.normal(&[2, 2, 8, 8], 0.0, 1.0, &Device::Cpu).unwrap();
        let ann = Ann::initialise(mixed(), seed, &Device::Cpu).expect("a network");
        let pass = |mode| Pass::forward(&ann, &images, mode).expect("a pass");
        let ones = pass(Mode::Inference).logits().unwrap().ones_like().unwrap();
        let trained = pass(Mode::Inference).trained(ones.clone(), &BTreeMap::new());
        assert!(trained.expect_err("fixed").to_string().contains("mode"));
        let training = Mode::Training { seed, ids: &[0, 1] };
        let images = pass(training).images(ones, &BTreeMap::new());
        assert!(images.expect_err("in motion").to_string().contains("mode"));
    }
}
