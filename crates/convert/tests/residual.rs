//! Networks with shortcuts, against their sources.

mod common;

use ann::{Ann, Mode, logits};
use candle_core::Tensor;
use common::{
    RELU, config, conv, convert, images, linear, local_balance, percentile, random, resnet,
    staircases, values,
};
use convert::{Conversion, ConvertConfig, Granularity, ThresholdRule, fold_batch_norm};
use snn_core::encode::Encoder;
use snn_core::network::Batch;
use snn_core::rng::Seed;
use snn_core::{Layer, Topology, ops};

#[test]
fn folding_equals_the_unfolded_network() {
    let ann = resnet(false, true, 3);
    let folded = fold_batch_norm(&ann).expect("folds");
    assert_eq!(folded.topology().shortcuts().len(), 9);
    let scores = |ann: &Ann| values(&logits(ann, &images(4, 5), 4).expect("scores"));
    let (before, after) = (scores(&ann), scores(&folded));
    let size = before.iter().fold(0f32, |size, x| size.max(x.abs()));
    for (a, b) in before.iter().zip(&after) {
        assert!((a - b).abs() < 1e-4 * size, "{a} {b}");
    }
}

/// Relative distance of the logits of a converted network after `timesteps` steps from the source's.
fn distance(ann: &Ann, conversion: &Conversion, images: &Tensor, timesteps: usize) -> f64 {
    let batch = Batch {
        images,
        ids: &[0, 1, 2, 3, 4, 5],
        seed: Seed::new(1),
    };
    let run = conversion.network.run(batch, timesteps, 16).expect("a run");
    let ours = values(&run.logits.get(timesteps - 1).expect("the last step"));
    let theirs = ann.forward(images, Mode::Inference).expect("scores");
    let theirs = values(&theirs);
    let square = |a: f32, b: f32| f64::from(a - b).powi(2);
    let error: f64 = ours.iter().zip(&theirs).map(|(a, b)| square(*a, *b)).sum();
    let size: f64 = theirs.iter().map(|a| square(*a, 0.0)).sum();
    (error / size).sqrt()
}

fn direct(rule: ThresholdRule) -> ConvertConfig {
    ConvertConfig {
        initial_membrane: 0.5,
        ..config(rule, Encoder::Direct)
    }
}

/// With thresholds that clip nothing, or where the source clips, the rates of all populations, and so the logits, tend to
/// the source's.
#[test]
fn logits_tend_to_the_source_s() {
    let (plain, images) = (resnet(false, true, 3), images(6, 2));
    let clipped = staircases(&plain, 1 << 12, 3);
    for (ann, rule) in [
        (&plain, percentile(100.0, Granularity::Channel)),
        (&plain, percentile(100.0, Granularity::Layer)),
        (&plain, local_balance(0.5, 400)),
        (&plain, ThresholdRule::BatchNorm { deviations: 5.0 }),
        (&clipped, ThresholdRule::Trained {}),
    ] {
        let conversion = convert(ann, Some(&images), &direct(rule));
        let distances = [32, 2_048].map(|steps| distance(ann, &conversion, &images, steps));
        assert!(distances[1] < 0.02, "{rule:?}: {distances:?}");
        assert!(distances[1] < 0.5 * distances[0], "{rule:?}: {distances:?}");
    }
}

#[test]
fn corrected_biases_make_a_short_window_better() {
    let (ann, images) = (resnet(false, true, 3), images(6, 2));
    let plain = ConvertConfig {
        calibration_timesteps: 16,
        ..direct(percentile(99.0, Granularity::Channel))
    };
    let corrected = ConvertConfig {
        bias_correction: true,
        ..plain.clone()
    };
    let [before, after] = [plain, corrected]
        .map(|config| distance(&ann, &convert(&ann, Some(&images), &config), &images, 16));
    assert!(after < before, "{before} to {after}");
}

/// Two convolutions, with batch norm or without, and a shortcut to two of the three channels of the second population.
fn small(batch_norm: bool) -> Ann {
    let norm = |channels| {
        batch_norm.then_some(Layer::BatchNorm {
            channels,
            epsilon: 1e-5,
        })
    };
    let mut layers = vec![conv(3, 2, false)];
    layers.extend(norm(2));
    layers.push(RELU);
    let from = layers.len() - 1;
    layers.push(conv(2, 3, false));
    layers.extend(norm(3));
    layers.push(Layer::Shortcut {
        from,
        channels: 2,
        kernel: 1,
    });
    layers.extend([RELU, Layer::Flatten, linear(3 * 64, 5, true)]);
    random(Topology::new("small", [3, 8, 8], layers).expect("valid"), 5)
}

/// Thresholds of both populations in units of the source's activations.
fn lambdas(conversion: &Conversion) -> [Vec<f64>; 2] {
    let thresholds: Vec<Vec<f64>> = conversion
        .network
        .thresholds()
        .values()
        .map(|threshold| values(threshold).into_iter().map(f64::from).collect())
        .collect();
    let logarithms: f64 = thresholds[0].iter().map(|v| v.ln()).sum();
    let unit = (logarithms / thresholds[0].len() as f64).exp();
    let second = thresholds[1].iter().map(|v| v * unit).collect();
    [thresholds[0].clone(), second]
}

/// Mean and deviation of `max(0, x)` for Gaussian x, by a sum over its density.
fn rectified(mean: f64, deviation: f64) -> (f64, f64) {
    let (mut first, mut second) = (0.0, 0.0);
    for i in -80_000..80_000 {
        let z = f64::from(i) / 10_000.0;
        let share = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt() / 10_000.0;
        let value = (mean + deviation * z).max(0.0);
        first += share * value;
        second += share * value * value;
    }
    (first, (second - first * first).sqrt())
}

#[test]
fn batch_norm_statistics_of_both_summands_count() {
    let ann = small(true);
    let rule = ThresholdRule::BatchNorm { deviations: 3.0 };
    let [_, found] = lambdas(&convert(&ann, None, &direct(rule)));
    let of = |layer: usize, name: &str| -> Vec<f64> {
        let tensor = ann.parameters().get(layer, name).expect("a tensor");
        values(tensor).into_iter().map(f64::from).collect()
    };
    let (first, second) = (
        (of(1, "beta"), of(1, "gamma")),
        (of(4, "beta"), of(4, "gamma")),
    );
    let scale = of(5, "scale");
    for (c, lambda) in found.iter().enumerate() {
        let (mean, deviation) = match scale.get(c) {
            Some(scale) => {
                let (mean, deviation) = rectified(first.0[c], first.1[c].abs());
                (scale * mean, scale * deviation)
            }
            None => (0.0, 0.0),
        };
        let expected = second.0[c] + mean + 3.0 * second.1[c].hypot(deviation);
        assert!(
            (lambda / expected - 1.0).abs() < 1e-4,
            "{c}: {lambda} {expected}"
        );
    }
}

/// One batch in two passes, written out: what a shortcut adds is clipped too.
#[test]
fn local_balance_clips_what_a_shortcut_adds() -> Result<(), Box<dyn std::error::Error>> {
    let (ann, images) = (small(false), images(6, 2));
    let config = ConvertConfig {
        batch: 6,
        ..direct(local_balance(0.5, 2))
    };
    let found = lambdas(&convert(&ann, Some(&images), &config));
    let mut expected = [vec![0f64; 2], vec![0f64; 3]];
    let balance = |x: Tensor, thresholds: &mut [f64]| -> candle_core::Result<Tensor> {
        let mut clipped = Vec::new();
        for (c, threshold) in thresholds.iter_mut().enumerate() {
            let channel = x.narrow(1, c, 1)?.relu()?;
            let beyond = (&channel - *threshold)?.relu()?.mean_all()?;
            *threshold += f64::from(beyond.to_scalar::<f32>()?);
            clipped.push(channel.minimum(*threshold)?);
        }
        Tensor::cat(&clipped, 1)
    };
    for _ in 0..2 {
        let weight = |layer| ann.parameters().weight(layer);
        let first = images.conv2d(weight(0)?, 1, 1, 1, 1)?;
        let first = balance(first, &mut expected[0])?;
        let second = first.conv2d(weight(2)?, 1, 1, 1, 1)?;
        let scale = ann.parameters().scale(3)?;
        let second = ops::shortcut::reference::shortcut(&second, &first, scale, 1)?;
        balance(second, &mut expected[1])?;
    }
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
    }
    Ok(())
}
