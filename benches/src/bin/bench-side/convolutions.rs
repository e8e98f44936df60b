//! 3x3 convolutions forward, and backward to input and weight: ours, or candle's own.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Tensor, Var};
use private_snn_benches::normal;
use serde::Deserialize;
use snn_core::ops::conv2d;

use crate::{Inputs, Parts, Tensors, Work, gradient, tensor};

/// One convolution after another, each on its own input.
#[derive(Debug, Deserialize)]
pub struct Sizes {
    batch: usize,
    /// Channels in, channels out, side of the images.
    layers: Vec<[usize; 3]>,
}

/// The prepared convolutions.
pub struct Convolutions {
    layers: Vec<Layer>,
    candle: bool,
}

struct Layer {
    name: String,
    x: Var,
    weight: Var,
    upstream: Tensor,
    ones: Tensor,
}

impl Convolutions {
    pub fn new(sizes: &Sizes, inputs: &Inputs, candle: bool) -> Result<Self> {
        let tensors = inputs.get(|| Ok(draw(sizes)))?;
        let layer = |(i, [from, to, side]): (usize, &[usize; 3])| -> Result<Layer> {
            let upstream = tensor(&tensors, &format!("upstream.{i}"))?;
            Ok(Layer {
                name: format!("{i}:{from}->{to}@{side}"),
                x: Var::from_tensor(&tensor(&tensors, &format!("x.{i}"))?)?,
                weight: Var::from_tensor(&tensor(&tensors, &format!("weight.{i}"))?)?,
                ones: upstream.ones_like()?,
                upstream,
            })
        };
        let layers = sizes.layers.iter().enumerate().map(layer);
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            candle,
        })
    }

    fn forward(&self, layer: &Layer) -> Result<Tensor> {
        let (x, weight) = (layer.x.as_tensor(), layer.weight.as_tensor());
        Ok(if self.candle {
            x.conv2d(weight, 1, 1, 1, 1)?
        } else {
            conv2d::conv2d(x, weight, None, 1, 1)?
        })
    }

    /// Gradients of input and weight from that of the result: ours without a graph, candle's over its own.
    fn backward(&self, layer: &Layer, y: &Tensor, upstream: &Tensor) -> Result<(Tensor, Tensor)> {
        let (x, weight) = (layer.x.as_tensor(), layer.weight.as_tensor());
        if !self.candle {
            return Ok(conv2d::backward(x, weight, 1, 1, upstream)?);
        }
        let gradients = gradient::backward(y, upstream)?;
        let get = |variable: &Var| {
            let gradient = gradients.get(variable.as_tensor()).cloned();
            gradient.context("a variable without a gradient")
        };
        Ok((get(&layer.x)?, get(&layer.weight)?))
    }
}

impl Work for Convolutions {
    fn run(&mut self) -> Result<Parts> {
        let mut parts = Parts::new();
        for layer in &self.layers {
            let start = Instant::now();
            let y = self.forward(layer)?;
            let forward = start.elapsed();
            drop(self.backward(layer, &y, &layer.ones)?);
            let both = start.elapsed();
            parts.push((format!("{}/forward", layer.name), forward.as_secs_f64()));
            let backward = (both - forward).as_secs_f64();
            parts.push((format!("{}/backward", layer.name), backward));
        }
        Ok(parts)
    }

    fn outputs(&mut self) -> Result<Tensors> {
        let mut outputs = Tensors::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let y = self.forward(layer)?;
            let (to_input, to_weight) = self.backward(layer, &y, &layer.upstream)?;
            outputs.insert(format!("y.{i}"), y.detach());
            outputs.insert(format!("to_input.{i}"), to_input);
            outputs.insert(format!("to_weight.{i}"), to_weight);
        }
        Ok(outputs)
    }
}

fn draw(sizes: &Sizes) -> Tensors {
    let mut tensors = Tensors::new();
    for (i, &[from, to, side]) in sizes.layers.iter().enumerate() {
        for (name, shape) in [
            ("x", [sizes.batch, from, side, side]),
            ("weight", [to, from, 3, 3]),
            ("upstream", [sizes.batch, to, side, side]),
        ] {
            let name = format!("{name}.{i}");
            tensors.insert(name.clone(), normal(&shape, &name));
        }
    }
    tensors
}
