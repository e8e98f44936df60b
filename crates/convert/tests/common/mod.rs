//! Small networks and images.
#![allow(dead_code)] // each test file uses its part

use std::collections::BTreeMap;

use ann::{Ann, Depth, NetworkConfig};
use candle_core::{Device, Tensor};
use convert::{Conversion, ConvertConfig, Granularity, ThresholdRule};
use snn_core::encode::Encoder;
use snn_core::progress::silent;
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, Topology};

pub const RELU: Layer = Layer::Activation {
    function: ActivationFunction::Relu,
};

pub fn conv(in_channels: usize, out_channels: usize, bias: bool) -> Layer {
    Layer::Conv2d {
        in_channels,
        out_channels,
        kernel: 3,
        stride: 1,
        padding: 1,
        bias,
    }
}

pub fn linear(in_features: usize, out_features: usize, bias: bool) -> Layer {
    Layer::Linear {
        in_features,
        out_features,
        bias,
    }
}

/// A VGG5 with a few channels on 3x8x8 images and 5 classes.
pub fn vgg(bias: bool, batch_norm: bool, seed: u64) -> Ann {
    let topology = NetworkConfig {
        depth: Depth::Vgg5,
        width: 0.1,
        hidden: 16,
        bias,
        batch_norm,
        levels: 0,
        conv_dropout: 0.2,
        hidden_dropout: 0.5,
    }
    .topology([3, 8, 8], 5)
    .expect("valid");
    random(topology, seed)
}

/// A residual network with a few channels on 3x8x8 images and 5 classes.
pub fn resnet(bias: bool, batch_norm: bool, seed: u64) -> Ann {
    let topology = NetworkConfig {
        width: 0.25,
        hidden: 0,
        bias,
        batch_norm,
        conv_dropout: 0.0,
        ..NetworkConfig::paper(Depth::Resnet20)
    }
    .topology([3, 8, 8], 5)
    .expect("valid");
    random(topology, seed)
}

/// The VGG with a staircase for every activation.
pub fn staircase(levels: usize, seed: u64) -> Ann {
    staircases(&vgg(true, false, seed), levels, seed)
}

/// A network like another one with a staircase for every activation.
pub fn staircases(ann: &Ann, levels: usize, seed: u64) -> Ann {
    let layers = ann.topology().layers().to_vec();
    let layers = layers.into_iter().map(|layer| match layer {
        Layer::Activation { .. } => Layer::Activation {
            function: ActivationFunction::Qcfs { levels },
        },
        other => other,
    });
    random(
        Topology::new("staircase", [3, 8, 8], layers.collect()).expect("valid"),
        seed,
    )
}

/// Kaiming-normal weights; biases, batch-norm scales, shifts and statistics, trained thresholds and the scales of shortcuts
/// drawn, too, so that none is trivial.
pub fn random(topology: Topology, seed: u64) -> Ann {
    let ann = Ann::initialise(topology, Seed::new(seed), &Device::Cpu).expect("a network");
    let tensors: BTreeMap<String, Tensor> = ann
        .parameters()
        .iter()
        .map(|(name, tensor)| {
            let draw = |low, high| {
                let seed = Seed::new(seed).derive(name);
                seed.uniform(tensor.dims(), low, high, &Device::Cpu)
                    .expect("a tensor")
            };
            let tensor = match name.rsplit('.').next() {
                Some("bias") => draw(-0.1, 0.2),
                Some("gamma") => draw(-1.2, 1.2),
                Some("beta") => draw(-0.3, 0.6),
                Some("threshold") => draw(0.8, 1.6),
                Some("scale") => draw(0.5, 1.5),
                Some("running_mean") => draw(-0.5, 0.5),
                Some("running_var") => draw(0.3, 2.0),
                _ => tensor.clone(),
            };
            (name.clone(), tensor)
        })
        .collect();
    let topology = ann.topology().clone();
    let parameters = Parameters::new(&topology, tensors).expect("fits");
    Ann::new(topology, parameters)
}

pub fn images(n: usize, seed: u64) -> Tensor {
    Seed::new(seed)
        .uniform(&[n, 3, 8, 8], -1.0, 1.0, &Device::Cpu)
        .expect("images")
}

pub fn config(thresholds: ThresholdRule, encoder: Encoder) -> ConvertConfig {
    ConvertConfig {
        thresholds,
        encoder,
        calibration_timesteps: 20,
        batch: 4,
        report_images: 0,
        ..ConvertConfig::default()
    }
}

pub fn percentile(percentile: f64, granularity: Granularity) -> ThresholdRule {
    ThresholdRule::Percentile {
        percentile,
        granularity,
    }
}

pub fn local_balance(rate: f64, passes: usize) -> ThresholdRule {
    ThresholdRule::LocalBalance { rate, passes }
}

pub fn convert(ann: &Ann, images: Option<&Tensor>, config: &ConvertConfig) -> Conversion {
    convert::convert(ann, images, config, Seed::new(7), &mut silent).expect("converts")
}

pub fn refusal(ann: &Ann, images: Option<&Tensor>, config: &ConvertConfig) -> String {
    convert::convert(ann, images, config, Seed::new(7), &mut silent)
        .expect_err("must be refused")
        .to_string()
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    tensor
        .flatten_all()
        .and_then(|t| t.to_vec1())
        .expect("values")
}
