//! Inputs shared by the benches: drawn from fixed seeds, so that two runs time the same numbers.

use std::collections::BTreeMap;

use ann::{Ann, Depth, NetworkConfig};
use candle_core::{Device, Tensor};
use snn_core::encode::Encoder;
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, SpikingSettings};

/// Normal f32 of the given shape on the CPU.
pub fn normal(shape: &[usize], purpose: &str) -> Tensor {
    Seed::new(1)
        .derive(purpose)
        .normal(shape, 0.0, 1.0, &Device::Cpu)
        .expect("a shape that fits into memory")
}

/// Images `[N, 3, 32, 32]` in [-1, 1].
pub fn images(n: usize) -> Tensor {
    Seed::new(1)
        .derive("images")
        .uniform(&[n, 3, 32, 32], -1.0, 1.0, &Device::Cpu)
        .expect("a shape that fits into memory")
}

/// A VGG with random weights, no batch norm, no hidden layer, no dropout.
pub fn vgg(depth: Depth, width: f64) -> Ann {
    let config = NetworkConfig {
        depth,
        width,
        hidden: 0,
        bias: false,
        batch_norm: false,
        levels: 0,
        conv_dropout: 0.0,
        hidden_dropout: 0.0,
    };
    let topology = config.topology([3, 32, 32], 10).expect("a known network");
    Ann::initialise(topology, Seed::new(2), &Device::Cpu).expect("weights")
}

/// The same network with spikes: every threshold 1, which for Kaiming weights keeps all layers active.
pub fn spiking(ann: &Ann, encoder: Encoder) -> SpikingNetwork {
    let one = Tensor::ones(1, candle_core::DType::F32, &Device::Cpu).expect("one number");
    let thresholds: BTreeMap<usize, Tensor> = ann
        .topology()
        .activations()
        .into_iter()
        .map(|index| (index, one.clone()))
        .collect();
    let settings = SpikingSettings {
        encoder,
        ..SpikingSettings::default()
    };
    SpikingNetwork::new(
        ann.topology().clone(),
        ann.parameters().clone(),
        thresholds,
        settings,
    )
    .expect("a spiking network")
}
