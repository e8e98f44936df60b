//! The way back against the graph.

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
                .parameter_gradients(of_logits, &BTreeMap::new())
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
    let found = pass.parameter_gradients(ones, &slopes).expect("a way back");
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
        for normalised in trace.batch_norm_inputs.values() {
            // twice the sum of the means and three times that of the variances
            let flat = normalised.transpose(0, 1).unwrap();
            let flat = flat.flatten_from(1).unwrap();
            let mean = flat.mean_keepdim(1).unwrap();
            let variance = flat.broadcast_sub(&mean).unwrap().sqr().unwrap();
            let variance = variance.mean(1).unwrap().sum_all().unwrap();
            loss = (loss + (mean.sum_all().unwrap() * 2.0).unwrap()).unwrap();
            loss = (loss + (variance * 3.0).unwrap()).unwrap();
        }
        let expected = loss.backward().unwrap().remove(&input).unwrap();
        for device in devices() {
            let name = format!("{} on {device:?}", ann.topology().name());
            let parameters = ann.parameters().to_device(&device).unwrap();
            let there = Ann::new(ann.topology().clone(), parameters);
            let images = images.to_device(&device).unwrap();
            let pass = Pass::forward(&there, &images, Mode::Inference).expect("a pass");
            let of_logits = (pass.logits().unwrap() * 2.0).unwrap();
            let of_batch = pass.batch_statistics().expect("statistics");
            assert!(of_batch.keys().eq(trace.batch_norm_inputs.keys()));
            let statistics = of_batch.into_iter().map(|(layer, statistics)| {
                let ones = statistics.mean.ones_like().unwrap();
                let of = StatisticsGradients {
                    statistics,
                    mean: (&ones * 2.0).unwrap(),
                    variance: (&ones * 3.0).unwrap(),
                };
                (layer, of)
            });
            let found = pass
                .image_gradient(of_logits, &statistics.collect())
                .expect("a gradient");
            assert_close(&found, &expected, Tolerance::Rounding(1000.0), &name);
        }
    }
}

/// Outputs from elsewhere reach what comes after, and the slopes are those of the functions where they lead.
#[test]
fn measured_outputs_pass_straight_through() {
    let seed = Seed::new(7);
    let images = seed.normal(&[3, 2, 8, 8], 0.0, 1.0, &Device::Cpu).unwrap();
    for topology in [mixed(), residual(4)] {
        let ann = Ann::initialise(topology, seed, &Device::Cpu).expect("a network");
        let layers = ann.topology().layers();
        let mut measured = BTreeMap::new();
        let mut outputs: BTreeMap<usize, Tensor> = BTreeMap::new();
        let input = Var::from_tensor(&images).unwrap();
        let mut x = input.as_tensor().clone();
        for (index, layer) in layers.iter().enumerate() {
            let from = match layer {
                Layer::Shortcut { from, .. } => [(*from, outputs[from].clone())].into(),
                _ => BTreeMap::new(),
            };
            let before = x;
            x = ann
                .layer_in(index, &before, Mode::Inference, &from)
                .unwrap();
            let Layer::Activation { function } = layer else {
                continue;
            };
            // one stays as it is, so that some are measured and some are not
            if index != 2 {
                let noise = seed.index(index as u64);
                let noise = noise.normal(x.dims(), 0.0, 0.5, &Device::Cpu).unwrap();
                let value = (x.detach() + noise).unwrap();
                let slope = match function {
                    ActivationFunction::Relu => {
                        let passes = value.gt(0.0).unwrap().to_dtype(value.dtype()).unwrap();
                        (before * passes).unwrap()
                    }
                    _ => x,
                };
                x = ((&slope + &value).unwrap() - slope.detach()).unwrap();
                measured.insert(index, value);
            }
            outputs.insert(index, x.clone());
        }
        let name = ann.topology().name();
        let expected = x.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let pass = Pass::forward_measured(&ann, &images, measured.clone());
        let pass = pass.expect("a pass");
        assert_close(pass.logits().unwrap(), &x, SUMS, name);
        let own = Pass::forward(&ann, &images, Mode::Inference).expect("a pass");
        let change = (own.logits().unwrap() - &x).unwrap().abs().unwrap();
        assert!(change.max_all().unwrap().to_scalar::<f32>().unwrap() > 0.01);
        let of_logits = (pass.logits().unwrap() * 2.0).unwrap();
        let found = pass.image_gradient(of_logits, &BTreeMap::new()).unwrap();
        let expected = expected.get(&input).expect("a gradient");
        assert_close(&found, expected, Tolerance::Rounding(2000.0), name);

        let refused = |layer: usize, shape: &[usize]| {
            let tensor = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
            Pass::forward_measured(&ann, &images, [(layer, tensor)].into())
                .expect_err("it does not fit")
                .to_string()
        };
        let first = *measured.keys().next().unwrap();
        assert!(refused(first, &[3, 1]).contains(&format!("layer {first} gives")));
        assert!(refused(first - 1, &[3, 1]).contains("no activation"));
    }
}

#[test]
fn a_pass_of_the_other_mode_is_refused() {
    let seed = Seed::new(6);
    let images = seed.normal(&[2, 2, 8, 8], 0.0, 1.0, &Device::Cpu).unwrap();
    let ann = Ann::initialise(mixed(), seed, &Device::Cpu).expect("a network");
    let pass = |mode| Pass::forward(&ann, &images, mode).expect("a pass");
    let ones = pass(Mode::Inference).logits().unwrap().ones_like().unwrap();
    let trained = pass(Mode::Inference).parameter_gradients(ones.clone(), &BTreeMap::new());
    assert!(trained.expect_err("fixed").to_string().contains("mode"));
    let training = Mode::Training { seed, ids: &[0, 1] };
    let images = pass(training).image_gradient(ones, &BTreeMap::new());
    assert!(images.expect_err("in motion").to_string().contains("mode"));
}
