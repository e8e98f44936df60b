//! A pass through the network and back, layer by layer, without a graph, which would fill with zeros, add up and keep a
//! gradient for every tensor.

mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use snn_core::ops::batch_norm::fused::{After, NormActivation, StatisticsGradients};
use snn_core::ops::batch_norm::{self, BatchStatistics};
use snn_core::ops::{avg_pool, conv2d, linear, mask, qcfs, relu, shortcut};
use snn_core::{ActivationFunction, Layer, Parameters, dropout};

use self::state::{BackwardState, Wanted};
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
    /// Outputs of activations that were measured elsewhere, by layer.
    measured: BTreeMap<usize, Tensor>,
}

impl<'a> Pass<'a> {
    /// Runs `images` `[N, C, H, W]` f32 in [-1, 1] through the network, which is [`Ann::detached`] or [`Ann::frozen`].
    ///
    /// # Errors
    /// Images of another shape.
    pub fn forward(ann: &'a Ann, images: &Tensor, mode: Mode<'a>) -> Result<Self> {
        Self::with(ann, images, mode, BTreeMap::new())
    }

    /// As [`Pass::forward`] in inference, where some activations did not give what their functions f do but what was measured, for
    /// example the rates of a spiking network: `measured`, by layer, f32 and shaped as the activation's input,
    /// `[N, C, ...]`. For the gradient of the images:
    ///
    /// ```text
    /// y_l = measured_l        dL/dx_l = f'(x_l) dL/dy_l
    /// ```
    ///
    /// at the inputs `x_l` that the measured outputs before lead to; of a ReLU, `f' = [y_l > 0]`.
    ///
    /// # Errors
    /// Those of [`Pass::forward`]; an output of another shape, or of a layer that is no activation.
    pub fn forward_measured(
        ann: &'a Ann,
        images: &Tensor,
        measured: BTreeMap<usize, Tensor>,
    ) -> Result<Self> {
        Self::with(ann, images, Mode::Inference, measured)
    }

    fn with(
        ann: &'a Ann,
        images: &Tensor,
        mode: Mode<'a>,
        measured: BTreeMap<usize, Tensor>,
    ) -> Result<Self> {
        ann.check(images)?;
        let activations = ann.topology().activations();
        if let Some(layer) = measured.keys().find(|layer| !activations.contains(layer)) {
            let message = format!("layer {layer} is no activation");
            return Err(Error::argument("measured", message));
        }
        let mut pass = Self {
            ann,
            mode,
            inputs: vec![Some(images.clone())],
            statistics: BTreeMap::new(),
            measured,
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
        if let Some(y) = self.measured.get(&index) {
            if y.dims() != x.dims() {
                let (found, wanted) = (y.dims(), x.dims());
                let message = format!("layer {index} gives {wanted:?}, not {found:?}");
                return Err(Error::argument("measured", message));
            }
            self.inputs.push(Some(y.clone()));
            return Ok(());
        }
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
            Mode::Training { .. } => fused.forward_training(&x)?,
            Mode::Inference => {
                let statistics = BatchStatistics {
                    mean: self.tensor(index, "running_mean")?.clone(),
                    variance: self.tensor(index, "running_var")?.clone(),
                };
                (fused.forward_inference(&x, &statistics)?, statistics)
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
    fn fused(&self, index: usize, epsilon: f64) -> Result<NormActivation<'a>> {
        let after = match self.ann.topology().layers().get(index + 1) {
            _ if self.measured.contains_key(&(index + 1)) => After::Nothing,
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
        Ok(NormActivation {
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
    pub fn parameter_gradients(
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
            .backward(of_logits, Wanted::Trained { first, slopes })?
            .found)
    }

    /// The gradient of the images `[N, C, H, W]`, from that of the class scores `[N, K]`; `statistics`, by layer, are what a part
    /// of the loss that looks at the batch's statistics ([`Pass::batch_statistics`]) adds.
    ///
    /// # Errors
    /// A gradient of another shape; a pass in training mode through a normalisation.
    pub fn image_gradient(
        self,
        of_logits: Tensor,
        statistics: &BTreeMap<usize, StatisticsGradients>,
    ) -> Result<Tensor> {
        if matches!(self.mode, Mode::Training { .. }) && !self.statistics.is_empty() {
            let message = "images are sought in a pass in inference, where the network is fixed";
            return Err(Error::argument("mode", message));
        }
        Ok(self
            .backward(of_logits, Wanted::Images { statistics })?
            .gradient)
    }

    fn backward(mut self, of_logits: Tensor, wanted: Wanted) -> Result<BackwardState> {
        let first = match wanted {
            Wanted::Trained { first, .. } => first,
            Wanted::Images { .. } => 0,
        };
        let mut state = BackwardState {
            gradient: of_logits,
            of_earlier: BTreeMap::new(),
            found: BTreeMap::new(),
        };
        for index in (first..self.ann.topology().layers().len()).rev() {
            state.arrive(index, wanted)?;
            self.back(index, wanted, &mut state)?;
            // no layer further back looks at it
            self.inputs.truncate(index + 1);
        }
        Ok(state)
    }

    /// From the gradient of a layer's output to that of its input.
    fn back(&self, index: usize, wanted: Wanted, state: &mut BackwardState) -> Result<()> {
        let gy = state.gradient.clone();
        state.gradient = match self.ann.topology().layers()[index] {
            Layer::Conv2d {
                stride, padding, ..
            } => {
                let (x, weight) = (self.input(index)?, self.parameters().weight(index)?);
                let Wanted::Trained { first, .. } = wanted else {
                    state.gradient = conv2d::backward_data(x, weight, stride, padding, &gy)?;
                    return Ok(());
                };
                if self.parameters().bias(index).is_some() {
                    state.put(index, "bias", conv2d::backward_bias(&gy)?);
                }
                if index == first {
                    let gw = conv2d::backward_weight(x, weight, stride, padding, &gy)?;
                    state.put(index, "weight", gw);
                    return Ok(());
                }
                let (gx, gw) = conv2d::backward(x, weight, stride, padding, &gy)?;
                state.put(index, "weight", gw);
                gx
            }
            Layer::Linear { .. } => {
                let (x, weight) = (self.input(index)?, self.parameters().weight(index)?);
                let Wanted::Trained { .. } = wanted else {
                    state.gradient = linear::backward_data(x, weight, &gy)?;
                    return Ok(());
                };
                if self.parameters().bias(index).is_some() {
                    state.put(index, "bias", linear::backward_bias(&gy)?);
                }
                let (gx, gw) = linear::backward(x, weight, &gy)?;
                state.put(index, "weight", gw);
                gx
            }
            Layer::BatchNorm { epsilon, .. } => {
                let (fused, x) = (self.fused(index, epsilon)?, self.input(index)?);
                let taken = &self.statistics[&index];
                match wanted {
                    Wanted::Images { statistics } => {
                        fused.backward_data(x, taken, &gy, statistics.get(&index))?
                    }
                    Wanted::Trained { .. } => {
                        let found = fused.backward(x, taken, &gy)?;
                        state.put(index, "gamma", found.gamma);
                        state.put(index, "beta", found.beta);
                        if let Some(threshold) = found.threshold {
                            state.add(index + 1, "threshold", threshold)?;
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
                    state.add(index, "threshold", of_threshold)?;
                    gx
                }
                _ => self.through_a_graph(index, &gy)?,
            },
            Layer::Shortcut { from, kernel, .. } => {
                let of_earlier = shortcut::backward(&gy, self.parameters().scale(index)?, kernel)?;
                state.leave(from, of_earlier)?;
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
