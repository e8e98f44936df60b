//! Small networks, and their conversion by hand.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;

use ann::Ann;
use candle_core::{Device, Tensor};
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A convolution of 3x3 with a padding of 1.
fn conv(in_channels: usize, out_channels: usize, stride: usize, bias: bool) -> Layer {
    Layer::Conv2d {
        in_channels,
        out_channels,
        kernel: 3,
        stride,
        padding: 1,
        bias,
    }
}

/// Two convolutions, two linear layers, pools and a dropout for images 3x8x8 and four classes; biases drawn too.
pub fn network(bias: bool, seed: Seed) -> Outcome<Ann> {
    let relu = Layer::Activation {
        function: ActivationFunction::Relu,
    };
    let linear = |in_features, out_features| Layer::Linear {
        in_features,
        out_features,
        bias,
    };
    let layers = vec![
        conv(3, 6, 1, bias),
        relu.clone(),
        Layer::AvgPool2d { kernel: 2 },
        conv(6, 8, 1, bias),
        relu.clone(),
        Layer::AvgPool2d { kernel: 2 },
        Layer::Flatten,
        linear(32, 12),
        relu,
        Layer::Dropout { probability: 0.5 },
        linear(12, 4),
    ];
    drawn("small", layers, bias, seed)
}

/// Two convolutions with nothing between them, for images 3x8x8 and four classes; biases drawn too.
pub fn unbroken(bias: bool, seed: Seed) -> Outcome<Ann> {
    let layers = vec![
        conv(3, 6, 1, bias),
        conv(6, 8, 1, bias),
        Layer::Activation {
            function: ActivationFunction::Relu,
        },
        Layer::AvgPool2d { kernel: 4 },
        Layer::Flatten,
        Layer::Linear {
            in_features: 32,
            out_features: 4,
            bias,
        },
    ];
    drawn("unbroken", layers, bias, seed)
}

/// Spikes of the image itself, then a linear layer, for images 3x8x8 and four classes.
pub fn unfed(seed: Seed) -> Outcome<Ann> {
    let layers = vec![
        Layer::Activation {
            function: ActivationFunction::Relu,
        },
        Layer::Flatten,
        Layer::Linear {
            in_features: 192,
            out_features: 4,
            bias: false,
        },
    ];
    drawn("unfed", layers, false, seed)
}

/// Three convolutions, the first of which also reaches the last population beside the second, for images 3x8x8 and four
/// classes; biases drawn too.
pub fn residual(bias: bool, seed: Seed) -> Outcome<Ann> {
    let relu = Layer::Activation {
        function: ActivationFunction::Relu,
    };
    let layers = vec![
        conv(3, 6, 1, bias),
        relu.clone(),
        conv(6, 7, 1, bias),
        relu.clone(),
        conv(7, 8, 2, bias),
        Layer::Shortcut {
            from: 1,
            channels: 6,
            kernel: 2,
        },
        relu,
        Layer::AvgPool2d { kernel: 4 },
        Layer::Flatten,
        Layer::Linear {
            in_features: 8,
            out_features: 4,
            bias,
        },
    ];
    drawn("residual", layers, bias, seed)
}

fn drawn(name: &str, layers: Vec<Layer>, bias: bool, seed: Seed) -> Outcome<Ann> {
    let topology = Topology::new(name, [3, 8, 8], layers)?;
    let mut ann = Ann::initialise(topology, seed, &Device::Cpu)?;
    for layer in ann.topology().shortcuts() {
        let shape = ann.parameters().scale(layer)?.dims().to_vec();
        let scale = seed
            .derive("scale")
            .uniform(&shape, 0.5, 1.5, &Device::Cpu)?;
        ann.parameters_mut().replace(layer, "scale", scale)?;
    }
    if bias {
        for layer in ann.topology().weighted() {
            let shape = ann
                .parameters()
                .bias(layer)
                .expect("built with biases")
                .dims()
                .to_vec();
            let bias =
                seed.derive("bias")
                    .index(layer as u64)
                    .normal(&shape, 0.0, 0.2, &Device::Cpu)?;
            ann.parameters_mut().replace(layer, "bias", bias)?;
        }
    }
    Ok(ann)
}

/// Conversion with one scale per population: weights as they are, `theta_l = lambda_l / lambda_(l-1)`.
pub fn per_layer(source: &Ann, scales: &[f32]) -> Outcome<SpikingNetwork> {
    let topology = source.topology();
    let mut thresholds = BTreeMap::new();
    let mut tensors = source.parameters().tensors().clone();
    let mut before = 1f32;
    let mut of_populations = BTreeMap::new();
    let mut scales = scales.iter();
    for (index, layer) in topology.layers().iter().enumerate() {
        match layer {
            Layer::Activation { .. } => {
                let scale = *scales.next().expect("a scale for each population");
                thresholds.insert(index, Tensor::new(&[scale / before], &Device::Cpu)?);
                before = scale;
                of_populations.insert(index, scale);
            }
            Layer::Shortcut { from, .. } => {
                let scale = source.parameters().scale(index)? * f64::from(of_populations[from]);
                tensors.insert(format!("{index}.scale"), (scale? / f64::from(before))?);
            }
            layer if layer.is_weighted() => {
                if let Some(bias) = source.parameters().bias(index) {
                    tensors.insert(format!("{index}.bias"), (bias / f64::from(before))?);
                }
            }
            _ => {}
        }
    }
    let settings = SpikingSettings {
        readout_scale: f64::from(before),
        ..SpikingSettings::default()
    };
    let parameters = Parameters::new(topology, tensors)?;
    Ok(SpikingNetwork::new(
        topology.clone(),
        parameters,
        thresholds,
        settings,
    )?)
}

/// Conversion with one scale per channel: `W_l diag(lambda_(l-1)) / g_(l-1)`, `b_l / g_(l-1)` and
/// `theta_l = lambda_l / g_(l-1)`, g the geometric mean.
pub fn per_channel(source: &Ann, seed: Seed) -> Outcome<SpikingNetwork> {
    let topology = source.topology();
    let shapes = topology.shapes();
    let mut thresholds = BTreeMap::new();
    let mut tensors = source.parameters().tensors().clone();
    let mut scales = vec![1f32; topology.input()[0]];
    let mut mean = 1f32;
    let mut of_populations: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for (index, layer) in topology.layers().iter().enumerate() {
        match layer {
            Layer::Activation { .. } => {
                let logarithms: Vec<f32> = seed
                    .index(index as u64)
                    .normal(&[shapes[index][0]], 0.5, 0.8, &Device::Cpu)?
                    .to_vec1()?;
                scales = logarithms.iter().map(|v| v.exp()).collect();
                let threshold: Vec<f32> = scales.iter().map(|v| v / mean).collect();
                thresholds.insert(index, Tensor::new(threshold, &Device::Cpu)?);
                mean = (logarithms.iter().sum::<f32>() / logarithms.len() as f32).exp();
                of_populations.insert(index, scales.clone());
            }
            Layer::Shortcut { from, .. } => {
                let factors = of_populations[from].iter().map(|v| v / mean);
                let factors = Tensor::new(factors.collect::<Vec<_>>(), &Device::Cpu)?;
                let scale = (source.parameters().scale(index)? * factors)?;
                tensors.insert(format!("{index}.scale"), scale);
            }
            Layer::Flatten => {
                let positions = shapes[index][0] / scales.len();
                scales = scales
                    .iter()
                    .flat_map(|&v| std::iter::repeat_n(v, positions))
                    .collect();
            }
            layer if layer.is_weighted() => {
                let weight = source.parameters().weight(index)?;
                let mut shape = vec![1; weight.rank()];
                shape[1] = scales.len();
                let factors: Vec<f32> = scales.iter().map(|v| v / mean).collect();
                let factors = Tensor::from_vec(factors, shape, &Device::Cpu)?;
                tensors.insert(format!("{index}.weight"), weight.broadcast_mul(&factors)?);
                if let Some(bias) = source.parameters().bias(index) {
                    tensors.insert(format!("{index}.bias"), (bias / f64::from(mean))?);
                }
            }
            _ => {}
        }
    }
    let settings = SpikingSettings {
        readout_scale: f64::from(mean),
        ..SpikingSettings::default()
    };
    let parameters = Parameters::new(topology, tensors)?;
    Ok(SpikingNetwork::new(
        topology.clone(),
        parameters,
        thresholds,
        settings,
    )?)
}

/// Cosine of the angle between two tensors.
pub fn cosine(a: &Tensor, b: &Tensor) -> Outcome<f32> {
    let dot =
        |a: &Tensor, b: &Tensor| -> Outcome<f32> { Ok((a * b)?.sum_all()?.to_scalar::<f32>()?) };
    Ok(dot(a, b)? / (dot(a, a)? * dot(b, b)?).sqrt())
}

/// Largest absolute difference.
pub fn largest_difference(a: &Tensor, b: &Tensor) -> Outcome<f32> {
    Ok((a - b)?.abs()?.max_all()?.to_scalar::<f32>()?)
}
