//! What a converted network computes, against the source network.

mod common;

use ann::Mode;
use common::{
    RELU, config, conv, convert, images, linear, local_balance, percentile, random, refusal,
    staircase, values, vgg,
};
use convert::{ConvertConfig, Granularity, ThresholdRule, fold_batch_norm};
use snn_core::encode::Encoder;
use snn_core::evaluate::argmax;
use snn_core::network::Batch;
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Topology};

const MAX_CURRENT: ThresholdRule = ThresholdRule::MaxCurrent { scale: 1.0 };

#[test]
fn per_layer_thresholds_keep_bias_free_weights_bit_for_bit() {
    let ann = vgg(false, false, 1);
    for rule in [MAX_CURRENT, percentile(99.0, Granularity::Layer)] {
        let conversion = convert(&ann, Some(&images(6, 2)), &config(rule, Encoder::Poisson));
        for (name, tensor) in ann.parameters().iter() {
            let converted = &conversion.network.parameters().tensors()[name];
            assert_eq!(values(converted), values(tensor), "{name}");
        }
        for threshold in conversion.network.thresholds().values() {
            assert_eq!(threshold.dims(), [1]);
        }
        let bare = convert(&ann, Some(&images(6, 2)), &config(rule, Encoder::Direct));
        assert_eq!(bare.network.topology(), ann.topology());
    }
}

#[test]
fn channel_thresholds_keep_the_scale_of_the_weights() {
    let ann = vgg(false, false, 1);
    let rule = percentile(99.0, Granularity::Channel);
    let network = convert(&ann, Some(&images(6, 2)), &config(rule, Encoder::Direct)).network;
    // the input has unit 1, so the first layer is untouched; then columns are scaled with geometric mean 1
    let weighted = network.topology().weighted();
    let weight = |layer| {
        let ours = values(network.parameters().weight(layer).expect("a weight"));
        let theirs = values(ann.parameters().weight(layer).expect("a weight"));
        (ours, theirs)
    };
    let (ours, theirs) = weight(weighted[0]);
    assert_eq!(ours, theirs);
    let (ours, theirs) = weight(weighted[1]);
    assert_ne!(ours, theirs);
    let logarithms: f64 = ours
        .iter()
        .zip(&theirs)
        .map(|(a, b)| f64::from(a / b).ln())
        .sum::<f64>();
    assert!((logarithms / ours.len() as f64).abs() < 1e-5);
}

#[test]
fn corrected_biases_bring_mean_rates_nearer_to_mean_activations() {
    const T: usize = 16;
    let ann = vgg(false, true, 3);
    let images = images(12, 2);
    let rule = ThresholdRule::BatchNorm { deviations: 3.0 };
    let plain = ConvertConfig {
        initial_membrane: 0.5,
        calibration_timesteps: T,
        ..config(rule, Encoder::Direct)
    };
    let corrected = ConvertConfig {
        bias_correction: true,
        ..plain.clone()
    };
    // difference of a channel's mean activation and what its mean rate stands for, mean over channels, by population
    let differences = |config: &ConvertConfig| -> Vec<f64> {
        let conversion = convert(&ann, Some(&images), config);
        let network = &conversion.network;
        let activations = conversion
            .source
            .trace(&images, Mode::Inference)
            .expect("a trace")
            .activations;
        let ids: Vec<u64> = (0..12).collect();
        let batch = Batch {
            images: &images,
            ids: &ids,
            seed: Seed::new(1),
        };
        let run = network.run(batch, T, T).expect("a run");
        let mut current = 1.0;
        let mut differences = Vec::new();
        for (index, threshold) in network.thresholds() {
            let lambdas: Vec<f64> = values(threshold)
                .iter()
                .map(|&v| f64::from(v) * current)
                .collect();
            let logarithms: f64 = lambdas.iter().map(|l| l.ln()).sum();
            current = (logarithms / lambdas.len() as f64).exp();
            let activation = &activations[index];
            let channels = activation.dim(1).expect("channels");
            let mean = |tensor: &candle_core::Tensor| {
                let tensor = tensor.flatten_from(1).expect("flat");
                let per_channel = tensor.dim(1).expect("units") / channels;
                let mut means = vec![0f64; channels];
                for row in values(&tensor).chunks_exact(per_channel * channels) {
                    for (i, value) in row.iter().enumerate() {
                        means[i / per_channel] += f64::from(*value) / (per_channel * 12) as f64;
                    }
                }
                means
            };
            let sum = mean(activation)
                .iter()
                .zip(mean(&run.spikes[index]))
                .enumerate()
                .map(|(c, (wanted, count))| {
                    let lambda = lambdas[if lambdas.len() == 1 { 0 } else { c }];
                    (wanted / lambda - count / T as f64).abs()
                })
                .sum::<f64>();
            differences.push(sum / channels as f64);
        }
        differences
    };
    let (before, after) = (differences(&plain), differences(&corrected));
    for (population, (before, after)) in before.iter().zip(&after).enumerate() {
        // a channel of one position has a rate in steps of a spike in 12 images of T steps: no correction is finer
        let step = 1.0 / (12.0 * T as f64);
        let bound = if population == 3 { step } else { 0.8 * before };
        assert!(after < &bound, "{population}: {before} to {after}");
    }
    assert_eq!(before.len(), 4);
}

#[test]
fn a_correction_without_a_bias_or_without_images_is_refused() {
    let corrected = ConvertConfig {
        bias_correction: true,
        ..config(MAX_CURRENT, Encoder::Direct)
    };
    let said = refusal(&vgg(false, false, 1), Some(&images(2, 1)), &corrected);
    assert!(said.contains("bias") && said.contains("layer 1"), "{said}");
    let without_images = ConvertConfig {
        thresholds: ThresholdRule::BatchNorm { deviations: 3.0 },
        ..corrected
    };
    let said = refusal(&vgg(false, true, 1), None, &without_images);
    assert!(said.contains("needs images"), "{said}");
}

#[test]
fn folding_equals_the_unfolded_network() {
    let ann = vgg(false, true, 3);
    let folded = fold_batch_norm(&ann).expect("folds");
    let layers = folded.topology().layers();
    assert!(!layers.iter().any(|l| matches!(l, Layer::BatchNorm { .. })));
    assert_eq!(layers.len(), ann.topology().layers().len() - 3);
    let forward =
        |ann: &ann::Ann| values(&ann.forward(&images(7, 4), Mode::Inference).expect("runs"));
    let (whole, merged) = (forward(&ann), forward(&folded));
    let largest = whole.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.1);
    for (a, b) in whole.iter().zip(&merged) {
        assert!((a - b).abs() < 1e-5 * largest, "{a} {b}");
    }
    // nothing to fold: the same tensors
    let plain = vgg(true, false, 3);
    let same = fold_batch_norm(&plain).expect("folds");
    assert_eq!(same.topology(), plain.topology());
    assert_eq!(forward(&same), forward(&plain));
}

/// Batch norm after a layer with a bias of its own, and after a linear layer.
#[test]
fn folding_merges_biases_and_linear_layers() {
    let norm = |channels| Layer::BatchNorm {
        channels,
        epsilon: 1e-3,
    };
    let layers = vec![
        conv(3, 4, true),
        norm(4),
        RELU,
        Layer::Flatten,
        linear(256, 6, true),
        norm(6),
        RELU,
        linear(6, 5, false),
    ];
    let ann = random(
        Topology::new("normed", [3, 8, 8], layers).expect("valid"),
        5,
    );
    let folded = fold_batch_norm(&ann).expect("folds");
    let forward =
        |ann: &ann::Ann| values(&ann.forward(&images(3, 4), Mode::Inference).expect("runs"));
    for (a, b) in forward(&ann).iter().zip(forward(&folded)) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

/// In the first population, with a constant current and v(0) = 0, the rate times the spike value is the clipped
/// activation to within one spike.
#[test]
fn rates_are_clipped_activations() {
    for granularity in [Granularity::Layer, Granularity::Channel] {
        let ann = vgg(true, false, 6);
        let images = images(3, 8);
        let conversion = convert(
            &ann,
            Some(&images),
            &config(percentile(90.0, granularity), Encoder::Direct),
        );
        let timesteps = 200;
        let batch = Batch {
            images: &images,
            ids: &[0, 1, 2],
            seed: Seed::new(0),
        };
        let run = conversion.network.run(batch, timesteps, 32).expect("runs");
        let trace = conversion
            .source
            .trace(&images, Mode::Inference)
            .expect("runs");
        let first = conversion.network.topology().activations()[0];
        // the input has unit 1: the first thresholds are in the source network's units
        let lambda = values(&conversion.network.thresholds()[&first]);
        let (counts, activations) = (
            values(&run.spikes[&first]),
            values(&trace.activations[&first]),
        );
        let per_channel = 64;
        let channels = activations.len() / 3 / per_channel;
        let mut clipped = 0;
        for (i, (count, activation)) in counts.iter().zip(&activations).enumerate() {
            let lambda = lambda[(i / per_channel % channels) % lambda.len()];
            let rate = count / timesteps as f32 * lambda;
            clipped += usize::from(*activation > lambda);
            let error = (rate - activation.min(lambda)).abs();
            assert!(
                error <= lambda / timesteps as f32 * 1.01,
                "{rate} {activation} {lambda}"
            );
        }
        assert!(clipped > 0 && clipped < activations.len() / 5);
    }
}

/// With a long window and v(0) half a threshold the classes are the source network's, for every rule, and the logits
/// are on its scale.
#[test]
fn predictions_agree_with_the_source_at_a_long_window() {
    let rules = [
        (percentile(100.0, Granularity::Channel), false),
        (percentile(100.0, Granularity::Layer), false),
        (MAX_CURRENT, false),
        (local_balance(1.0, 500), false),
        (ThresholdRule::BatchNorm { deviations: 4.0 }, true),
        (ThresholdRule::Trained {}, false),
    ];
    for (rule, batch_norm) in rules {
        let (mut agreeing, mut distance, mut size) = (0, 0.0, 0.0);
        for seed in [10, 11, 12] {
            let ann = match rule {
                ThresholdRule::Trained {} => staircase(256, seed),
                _ => vgg(!batch_norm, batch_norm, seed),
            };
            let images = images(20, 100 + seed);
            let config = ConvertConfig {
                initial_membrane: 0.5,
                ..config(rule, Encoder::Direct)
            };
            let calibration = config.needs_images().then_some(&images);
            let network = convert(&ann, calibration, &config).network;
            let ids: Vec<u64> = (0..20).collect();
            let batch = Batch {
                images: &images,
                ids: &ids,
                seed: Seed::new(0),
            };
            let run = network.run(batch, 256, 32).expect("runs");
            let ours = values(&run.logits.get(255).expect("the last step"));
            let theirs = values(&ann.forward(&images, Mode::Inference).expect("runs"));
            for (a, b) in ours.chunks(5).zip(theirs.chunks(5)) {
                agreeing += usize::from(argmax(a) == argmax(b));
            }
            for (a, b) in ours.iter().zip(&theirs) {
                distance += f64::from(a - b).powi(2);
                size += f64::from(*b).powi(2);
            }
        }
        assert!(agreeing >= 54, "{rule:?}: {agreeing} of 60");
        assert!(distance < 0.02 * size, "{rule:?}: {}", distance / size);
    }
}

/// A staircase of L steps before the class scores is what its population fires in T = L steps, so that a network with one
/// population computes what its source does, from the thresholds that it was trained with.
#[test]
fn a_trained_staircase_converts_without_loss() {
    let levels = 8;
    let layers = vec![
        conv(3, 6, true),
        Layer::Activation {
            function: ActivationFunction::Qcfs { levels },
        },
        Layer::Flatten,
        linear(6 * 64, 5, true),
    ];
    let ann = random(Topology::new("one", [3, 8, 8], layers).expect("valid"), 4);
    let config = ConvertConfig {
        initial_membrane: 0.5,
        ..config(ThresholdRule::Trained {}, Encoder::Direct)
    };
    assert!(!config.needs_images());
    let conversion = convert(&ann, None, &config);
    let images = images(6, 9);
    let batch = Batch {
        images: &images,
        ids: &[0, 1, 2, 3, 4, 5],
        seed: Seed::new(0),
    };
    let run = conversion.network.run(batch, levels, levels).expect("runs");
    let ours = values(&run.logits.get(levels - 1).expect("the last step"));
    for source in [&ann, &conversion.source] {
        let theirs = values(&source.forward(&images, Mode::Inference).expect("runs"));
        for (a, b) in ours.iter().zip(&theirs) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
    // the released network says nothing of steps: its layers are those of a plain one
    let spiking = conversion.network.topology();
    assert_eq!(spiking.layers()[1], RELU);
    assert_eq!(*spiking, ann.topology().spiking());
}

/// A staircase ends at its threshold, however that rounds.
#[test]
fn trained_thresholds_clip_nothing() {
    let config = ConvertConfig {
        report_images: 8,
        ..config(ThresholdRule::Trained {}, Encoder::Direct)
    };
    for seed in 1..5 {
        let conversion = convert(&staircase(7, seed), Some(&images(8, 9)), &config);
        for layer in &conversion.report.layers {
            assert_eq!(layer.clipped_share, Some(0.0), "seed {seed}: {layer:?}");
        }
    }
}

#[test]
fn thresholds_that_were_not_trained_are_refused() {
    let config = config(ThresholdRule::Trained {}, Encoder::Direct);
    let message = refusal(&vgg(true, false, 1), None, &config);
    assert!(
        message.contains("layer 1 (activation)") && message.contains("levels"),
        "{message}"
    );
}

#[test]
fn settings_are_passed_on_and_files_round_trip() {
    let config = ConvertConfig {
        initial_membrane: 0.5,
        ..config(
            ThresholdRule::BatchNorm { deviations: 3.0 },
            Encoder::Direct,
        )
    };
    let network = convert(&vgg(false, true, 1), None, &config).network;
    assert_eq!(network.settings().encoder, Encoder::Direct);
    assert_eq!(network.settings().initial_membrane, 0.5);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("converted.safetensors");
    network.save(&path).expect("saves");
    let loaded = snn_core::SpikingNetwork::load(&path, &candle_core::Device::Cpu).expect("loads");
    assert_eq!(loaded.settings(), network.settings());
    assert_eq!(loaded.topology(), network.topology());
}
