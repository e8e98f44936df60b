//! Each threshold rule against a slow reference, and what the rules refuse.

mod common;

use std::collections::BTreeMap;

use ann::{Ann, Mode};
use candle_core::{DType, Device, Tensor};
use common::{
    RELU, config, conv, convert, images, linear, local_balance, percentile, random, refusal,
    resnet, values, vgg,
};
use convert::{CHANNEL_FLOOR, ConvertConfig, Granularity, ThresholdRule, fold_batch_norm};
use snn_core::encode::{self, Encoder};
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Topology, neuron, ops};

const MAX_CURRENT: ThresholdRule = ThresholdRule::MaxCurrent { scale: 1.0 };

/// One image at a time, the whole window at once, every layer from the input again.
fn largest_currents(ann: &Ann, images: &Tensor, config: &ConvertConfig, scale: f64) -> Vec<f32> {
    let steps = config.calibration_timesteps;
    let seed = Seed::new(7).derive("calibration").derive("coder");
    let mut thresholds: BTreeMap<usize, Tensor> = BTreeMap::new();
    // unit of the currents: product of the thresholds so far, by which biases are divided
    let mut unit = 1.0;
    for population in ann.topology().activations() {
        let mut largest = f32::MIN;
        for id in 0..images.dim(0).expect("images") {
            let image = images.narrow(0, id, 1).expect("an image");
            let mut x = match config.encoder {
                Encoder::Poisson => {
                    encode::poisson(&image, &[id as u64], 0, steps, seed).expect("spikes")
                }
                Encoder::Direct => image.repeat((steps, 1, 1, 1, 1)).expect("currents"),
            };
            let mut current_unit = 1.0f64;
            // spikes of each population, and what one stands for
            let mut earlier = BTreeMap::new();
            for (index, layer) in ann.topology().layers()[..population].iter().enumerate() {
                let bias = ann
                    .parameters()
                    .bias(index)
                    .map(|b| (b / current_unit).expect("a bias"));
                let flat = x.flatten(0, 1).expect("rows");
                let y = match layer {
                    Layer::Activation { .. } => {
                        let threshold = &thresholds[&index];
                        current_unit *= f64::from(values(threshold)[0]);
                        let start = values(threshold)[0] * config.initial_membrane as f32;
                        let membrane =
                            Tensor::full(start, &x.dims()[1..], &Device::Cpu).expect("a membrane");
                        let scan =
                            neuron::scan(&x, threshold, &membrane, &config.neuron).expect("spikes");
                        let spikes = scan.spikes.flatten(0, 1).expect("rows");
                        earlier.insert(index, (spikes.clone(), current_unit));
                        spikes
                    }
                    Layer::Conv2d { stride, .. } => {
                        let weight = ann.parameters().weight(index).expect("a weight");
                        ops::conv2d::conv2d(&flat, weight, bias.as_ref(), *stride, 1)
                            .expect("currents")
                    }
                    Layer::Shortcut { from, kernel, .. } => {
                        let (spikes, unit) = &earlier[from];
                        let scale = ann.parameters().scale(index).expect("a scale");
                        let scale = (scale * (unit / current_unit)).expect("a scale");
                        ops::shortcut::reference::shortcut(&flat, spikes, &scale, *kernel)
                            .expect("currents")
                    }
                    Layer::Linear { .. } => {
                        let weight = ann.parameters().weight(index).expect("a weight");
                        ops::linear::linear(&flat, weight, bias.as_ref()).expect("currents")
                    }
                    Layer::AvgPool2d { kernel } => {
                        ops::avg_pool::avg_pool2d(&flat, *kernel).expect("currents")
                    }
                    Layer::Flatten => flat.flatten_from(1).expect("features"),
                    _ => flat,
                };
                let mut shape = vec![steps, 1];
                shape.extend_from_slice(&y.dims()[1..]);
                x = y.reshape(shape).expect("time first");
            }
            largest = values(&x).into_iter().fold(largest, f32::max);
            unit = current_unit;
        }
        assert!(unit > 0.0);
        let threshold = (f64::from(largest) * scale) as f32;
        thresholds.insert(
            population,
            Tensor::new(&[threshold], &Device::Cpu).expect("a threshold"),
        );
    }
    thresholds.values().map(|t| values(t)[0]).collect()
}

#[test]
fn largest_current_equals_brute_force() {
    for (encoder, bias, start, scale) in [
        (Encoder::Poisson, false, 0.0, 1.0),
        (Encoder::Poisson, true, 0.5, 0.8),
        (Encoder::Direct, true, 0.0, 1.0),
        (Encoder::Direct, false, 0.5, 1.2),
    ] {
        for (ann, populations) in [(vgg(bias, false, 21), 4), (resnet(true, false, 21), 19)] {
            let images = images(7, 22);
            let config = ConvertConfig {
                initial_membrane: start,
                batch: 3,
                ..config(ThresholdRule::MaxCurrent { scale }, encoder)
            };
            let network = convert(&ann, Some(&images), &config).network;
            let ours: Vec<f32> = network
                .thresholds()
                .values()
                .map(|t| values(t)[0])
                .collect();
            let reference = largest_currents(&ann, &images, &config, scale);
            assert_eq!(ours.len(), populations);
            for (a, b) in ours.iter().zip(&reference) {
                assert!(
                    (a / b - 1.0).abs() < 1e-5,
                    "{encoder:?}: {ours:?} {reference:?}"
                );
            }
        }
    }
}

/// As `numpy.quantile(..., method="linear")`, over images and positions.
fn quantile(mut values: Vec<f32>, percentile: f64) -> f64 {
    values.sort_by(f32::total_cmp);
    let position = percentile / 100.0 * (values.len() - 1) as f64;
    let (low, high) = (position.floor() as usize, position.ceil() as usize);
    let share = position - position.floor();
    f64::from(values[low]) * (1.0 - share) + f64::from(values[high]) * share
}

#[test]
fn percentiles_are_those_of_the_activations() {
    let ann = vgg(false, true, 31);
    let source = fold_batch_norm(&ann).expect("folds");
    let images = images(9, 32);
    let trace = source.trace(&images, Mode::Inference).expect("runs");
    for granularity in [Granularity::Layer, Granularity::Channel] {
        let rule = percentile(97.5, granularity);
        let network = convert(&ann, Some(&images), &config(rule, Encoder::Direct)).network;
        // back from thresholds to activation units
        let mut unit = 1.0;
        for (index, activation) in &trace.activations {
            let found: Vec<f64> = values(&network.thresholds()[index])
                .into_iter()
                .map(|v| f64::from(v) * unit)
                .collect();
            let by_channel = activation
                .transpose(0, 1)
                .and_then(|t| t.contiguous())
                .expect("channels first");
            let mut expected: Vec<f64> = match granularity {
                Granularity::Layer => vec![quantile(values(activation), 97.5)],
                Granularity::Channel => (0..by_channel.dims()[0])
                    .map(|c| quantile(values(&by_channel.get(c).expect("a channel")), 97.5))
                    .collect(),
            };
            let largest = expected.iter().copied().fold(0.0, f64::max);
            for value in &mut expected {
                *value = value.max(CHANNEL_FLOOR * largest);
            }
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(&expected) {
                assert!((a / b - 1.0).abs() < 1e-5, "layer {index}: {a} {b}");
            }
            unit = (expected.iter().map(|v| v.ln()).sum::<f64>() / expected.len() as f64).exp();
        }
    }
}

#[test]
fn batch_norm_rule_takes_shift_and_scale() {
    let ann = vgg(false, true, 41);
    let network = convert(
        &ann,
        None,
        &config(
            ThresholdRule::BatchNorm { deviations: 3.0 },
            Encoder::Direct,
        ),
    )
    .network;
    let get = |name| values(ann.parameters().get(1, name).expect("a tensor"));
    let expected: Vec<f32> = get("beta")
        .iter()
        .zip(get("gamma"))
        .map(|(b, g)| b + 3.0 * g.abs())
        .collect();
    let largest = expected.iter().copied().fold(0.0, f32::max);
    let first = values(&network.thresholds()[&1]);
    assert_eq!(first.len(), expected.len());
    for (a, b) in first.iter().zip(&expected) {
        assert!((a - b.max(largest * CHANNEL_FLOOR as f32)).abs() < 1e-6);
    }
    // the hidden layer has no batch norm: one threshold, from the moments of the layer before
    let hidden = network.topology().activations()[3];
    assert_eq!(network.thresholds()[&hidden].dims(), [1]);
}

/// The hidden layer's threshold, from propagated moments, is near the largest mean + 3 deviations that inputs with
/// those statistics really give: on an untrained network, whose channels are nearly independent, from four fifths of it to
/// four times as much.
#[test]
fn propagated_moments_are_near_the_measured_ones() {
    let topology = Topology::new(
        "moments",
        [3, 8, 8],
        vec![
            conv(3, 8, false),
            Layer::BatchNorm {
                channels: 8,
                epsilon: 1e-5,
            },
            RELU,
            Layer::AvgPool2d { kernel: 2 },
            Layer::Flatten,
            linear(128, 20, true),
            RELU,
            linear(20, 5, true),
        ],
    )
    .expect("valid");
    let mut ann = random(topology, 51);
    let images = images(400, 52);
    // true statistics of these images, as training would leave them
    let x = ann
        .trace(&images, Mode::Inference)
        .expect("runs")
        .batch_norm_inputs[&1]
        .clone();
    let statistics = ops::batch_norm::statistics(&x).expect("statistics");
    ann.parameters_mut()
        .replace(1, "running_mean", statistics.mean)
        .expect("fits");
    ann.parameters_mut()
        .replace(1, "running_var", statistics.variance)
        .expect("fits");

    let network = convert(
        &ann,
        None,
        &config(
            ThresholdRule::BatchNorm { deviations: 3.0 },
            Encoder::Direct,
        ),
    );
    let features = ann
        .trace(&images, Mode::Inference)
        .expect("runs")
        .activations[&2]
        .clone();
    let pooled = ops::avg_pool::avg_pool2d(&features, 2)
        .and_then(|x| Ok(x.flatten_from(1)?))
        .expect("features");
    let hidden = ops::linear::linear(
        &pooled,
        ann.parameters().weight(5).expect("a weight"),
        ann.parameters().bias(5),
    )
    .expect("pre-activations");
    let hidden: Vec<Vec<f32>> = hidden.t().and_then(|t| t.to_vec2()).expect("units");
    let measured = hidden
        .iter()
        .map(|unit| {
            let mean = unit.iter().sum::<f32>() / 400.0;
            let variance = unit.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 400.0;
            mean + 3.0 * variance.sqrt()
        })
        .fold(0f32, f32::max);
    let layers = &network.report.layers;
    let ratio = layers[1].spike_value_mean / f64::from(measured);
    assert!((0.8..4.0).contains(&ratio), "{ratio}");
}

#[test]
fn threads_batches_and_repetition_change_nothing() {
    let ann = vgg(true, false, 61);
    let images = images(9, 62);
    let network = |rule, batch, threads| {
        let config = ConvertConfig {
            batch,
            ..config(rule, Encoder::Poisson)
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a thread pool");
        let network = pool.install(|| convert(&ann, Some(&images), &config).network);
        let thresholds: Vec<Vec<f32>> = network.thresholds().values().map(values).collect();
        let tensors: Vec<Vec<f32>> = network
            .parameters()
            .iter()
            .map(|(_, t)| values(t))
            .collect();
        (thresholds, tensors)
    };
    for rule in [
        MAX_CURRENT,
        percentile(99.0, Granularity::Layer),
        percentile(99.0, Granularity::Channel),
    ] {
        assert_eq!(network(rule, 3, 1), network(rule, 3, 4));
        let (whole, split) = (network(rule, 9, 2).0, network(rule, 2, 2).0);
        for (a, b) in whole.iter().flatten().zip(split.iter().flatten()) {
            assert!((a / b - 1.0).abs() < 1e-5, "{rule:?}: {a} {b}");
        }
    }
    // which grows from batch to batch
    let balanced = |threads| network(local_balance(1.0, 4), 3, threads);
    assert_eq!(balanced(1), balanced(4));
}

#[test]
fn layers_without_a_spiking_counterpart_are_refused_by_name() {
    let direct = config(
        ThresholdRule::BatchNorm { deviations: 3.0 },
        Encoder::Direct,
    );
    let refused = |layers: Vec<Layer>| {
        let topology = Topology::new("odd", [3, 8, 8], layers).expect("valid");
        refusal(&random(topology, 1), None, &direct)
    };
    let norm = Layer::BatchNorm {
        channels: 2,
        epsilon: 1e-5,
    };
    let silu = Layer::Activation {
        function: ActivationFunction::Silu,
    };
    let tail = [Layer::Flatten, linear(128, 5, false)];
    let with = |head: &[Layer]| [head, &tail].concat();

    let pooled = vec![
        conv(3, 2, false),
        norm.clone(),
        RELU,
        Layer::MaxPool2d { kernel: 2 },
        Layer::Flatten,
        linear(32, 5, false),
    ];
    let message = refused(pooled);
    assert!(message.contains("layer 3 (max_pool2d)"), "{message}");
    let message = refused(with(&[conv(3, 2, false), norm.clone(), silu]));
    assert!(
        message.contains("layer 2 (activation)") && message.contains("Silu"),
        "{message}"
    );
    let message = refused(with(&[conv(3, 2, false), RELU, norm.clone()]));
    assert!(message.contains("layer 2 (batch_norm)"), "{message}");
    let message = refused(with(&[conv(3, 2, false), norm.clone(), RELU, RELU]));
    assert!(message.contains("layer 3 (activation)"), "{message}");
    let message = refused(with(&[conv(3, 2, false), RELU]));
    assert!(
        message.contains("layer 0 (conv2d)") && message.contains("batch norm"),
        "{message}"
    );
}

#[test]
fn impossible_batch_norm_statistics_are_refused() {
    let mut ann = vgg(false, true, 1);
    let variance = ann
        .parameters()
        .get(1, "running_var")
        .expect("a tensor")
        .clone();
    ann.parameters_mut()
        .replace(1, "running_var", variance.neg().expect("a tensor"))
        .expect("fits");
    let rule = ThresholdRule::BatchNorm { deviations: 3.0 };
    let message = refusal(&ann, None, &config(rule, Encoder::Direct));
    assert!(message.contains("layer 1 (batch_norm)"), "{message}");

    let mut ann = vgg(false, true, 1);
    let zeros = ann
        .parameters()
        .get(1, "gamma")
        .expect("a tensor")
        .zeros_like()
        .expect("a tensor");
    for name in ["gamma", "beta"] {
        ann.parameters_mut()
            .replace(1, name, zeros.clone())
            .expect("fits");
    }
    let message = refusal(&ann, None, &config(rule, Encoder::Direct));
    assert!(message.contains("layer 1 (activation)"), "{message}");
}

#[test]
fn bad_calibration_is_an_error() {
    let ann = vgg(false, false, 1);
    for rule in [
        MAX_CURRENT,
        percentile(99.0, Granularity::Layer),
        percentile(99.0, Granularity::Channel),
    ] {
        let config = config(rule, Encoder::Poisson);
        assert!(refusal(&ann, None, &config).contains("calibration"));
        let none = Tensor::zeros((0, 3, 8, 8), DType::F32, &Device::Cpu).expect("a tensor");
        assert!(refusal(&ann, Some(&none), &config).contains("images"));
        let narrow = Tensor::zeros((2, 3, 8, 7), DType::F32, &Device::Cpu).expect("a tensor");
        assert!(refusal(&ann, Some(&narrow), &config).contains("[N, 3, 8, 8]"));
        let bright = (images(2, 1) * 255.0).expect("images");
        assert!(refusal(&ann, Some(&bright), &config).contains("[-1, 1]"));
        let mut broken = values(&images(2, 1));
        broken[200] = f32::NAN;
        let broken = Tensor::from_vec(broken, (2, 3, 8, 8), &Device::Cpu).expect("a tensor");
        assert!(refusal(&ann, Some(&broken), &config).contains("image 1 holds NaN"));
        // black images: nothing ever enters a network without bias
        let black = Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu).expect("a tensor");
        let message = refusal(&ann, Some(&black), &config);
        assert!(message.contains("layer 1 (activation)"), "{message}");
    }
}

/// A threshold that grows by what it clips stays below the channel's largest activation and comes up to it.
#[test]
fn local_balance_grows_to_the_largest_activation() {
    let (ann, images) = (vgg(true, false, 5), images(10, 6));
    let after = |passes: usize| -> Vec<Vec<f32>> {
        let config = config(local_balance(1.0, passes), Encoder::Direct);
        let network = convert(&ann, Some(&images), &config).network;
        let thresholds = network.thresholds().values();
        thresholds.map(values).collect()
    };
    let largest: Vec<f32> = {
        let trace = ann.trace(&images, Mode::Inference).expect("runs");
        let first = trace.activations.values().next().expect("an activation");
        let by_channel = first.transpose(0, 1).and_then(|x| x.flatten_from(1));
        values(&by_channel.and_then(|x| x.max(1)).expect("maxima"))
    };
    let mut before = vec![0.0; largest.len()];
    for passes in [1, 5, 50, 2000] {
        let first = after(passes).remove(0);
        for ((now, before), largest) in first.iter().zip(&before).zip(&largest) {
            assert!(now >= before && *now <= largest * 1.000_001);
        }
        before = first;
    }
    for (now, largest) in before.iter().zip(&largest) {
        assert!(*now > 0.8 * largest, "{now} of {largest}");
    }
    assert_eq!(after(5), after(5));
}

#[test]
fn fields_outside_their_domain_are_named() {
    let ann = vgg(false, false, 1);
    let images = images(2, 1);
    let good = config(MAX_CURRENT, Encoder::Poisson);
    let with = |field: &str, config: ConvertConfig| {
        let message = refusal(&ann, Some(&images), &config);
        assert!(message.contains(field), "{field}: {message}");
    };
    let rules = [
        ("scale", ThresholdRule::MaxCurrent { scale: 0.0 }),
        ("scale", ThresholdRule::MaxCurrent { scale: f64::NAN }),
        ("percentile", percentile(100.5, Granularity::Layer)),
        ("percentile", percentile(f64::NAN, Granularity::Layer)),
        ("deviations", ThresholdRule::BatchNorm { deviations: -1.0 }),
        ("rate", local_balance(0.0, 3)),
        ("rate", local_balance(f64::NAN, 3)),
        ("passes", local_balance(1.0, 0)),
    ];
    for (field, thresholds) in rules {
        with(
            field,
            ConvertConfig {
                thresholds,
                ..good.clone()
            },
        );
    }
    with(
        "initial_membrane",
        ConvertConfig {
            initial_membrane: 1.0,
            ..good.clone()
        },
    );
    with(
        "initial_membrane",
        ConvertConfig {
            initial_membrane: f64::NAN,
            ..good.clone()
        },
    );
    with(
        "calibration_timesteps",
        ConvertConfig {
            calibration_timesteps: 0,
            ..good.clone()
        },
    );
    with("batch", ConvertConfig { batch: 0, ..good });
}
