//! The coder, the network over time, and its files.

mod bptt;
mod checkpoint;
mod encode;
mod event;
mod network;
mod progress;
mod residual;

#[path = "../with/instructions.rs"]
mod instructions;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};

/// First by its name: it bounds the instructions where [`instructions`] asks for that.
#[test]
fn a_bound_comes_before_everything_else() {
    instructions::bound();
}

const RELU: Layer = Layer::Activation {
    function: ActivationFunction::Relu,
};

/// Two populations, one with a threshold per channel, one with a single threshold.
fn topology(name: &str) -> Topology {
    let layers = vec![
        Layer::Conv2d {
            in_channels: 3,
            out_channels: 4,
            kernel: 3,
            stride: 1,
            padding: 1,
            bias: true,
        },
        RELU,
        Layer::Dropout { probability: 0.25 },
        Layer::AvgPool2d { kernel: 2 },
        Layer::Flatten,
        Layer::Linear {
            in_features: 64,
            out_features: 6,
            bias: false,
        },
        RELU,
        Layer::Linear {
            in_features: 6,
            out_features: 3,
            bias: true,
        },
    ];
    Topology::new(name, [3, 8, 8], layers).expect("a topology that fits")
}

fn parameters(topology: &Topology) -> Parameters {
    let tensors = topology
        .tensor_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let seed = Seed::new(5).derive(&name);
            let tensor = seed
                .normal(&shape, 0.05, 0.3, &Device::Cpu)
                .expect("normal numbers");
            let tensor = match name.ends_with("running_var") {
                true => tensor.abs().expect("variances"),
                false => tensor,
            };
            (name, tensor)
        })
        .collect();
    Parameters::new(topology, tensors).expect("parameters that fit")
}

fn thresholds() -> BTreeMap<usize, Tensor> {
    let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).expect("thresholds");
    BTreeMap::from([(1, tensor(&[0.5, 0.75, 1.0, 1.25])), (6, tensor(&[0.5]))])
}

fn network(settings: SpikingSettings) -> SpikingNetwork {
    let topology = topology("tiny");
    let parameters = parameters(&topology);
    SpikingNetwork::new(topology, parameters, thresholds(), settings).expect("a network")
}

fn images(n: usize) -> Tensor {
    Seed::new(8)
        .uniform(&[n, 3, 8, 8], -1.0, 1.0, &Device::Cpu)
        .expect("images")
}

fn bytes(x: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = x.flatten_all().and_then(|x| x.to_vec1()).expect("numbers");
    values.into_iter().map(f32::to_bits).collect()
}
