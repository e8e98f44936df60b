//! Networks with shortcuts, against their sources.

mod common;

use ann::{Ann, Mode, logits};
use common::{config, convert, images, local_balance, percentile, resnet, values};
use convert::{ConvertConfig, Granularity, ThresholdRule, fold_batch_norm};
use snn_core::encode::Encoder;
use snn_core::network::Batch;
use snn_core::rng::Seed;

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

/// Relative distance of the logits of the converted network after `timesteps` steps from the source's.
fn distance(ann: &Ann, rule: ThresholdRule, timesteps: usize) -> f64 {
    let images = images(6, 2);
    let config = ConvertConfig {
        initial_membrane: 0.5,
        ..config(rule, Encoder::Direct)
    };
    let conversion = convert(ann, Some(&images), &config);
    let batch = Batch {
        images: &images,
        ids: &[0, 1, 2, 3, 4, 5],
        seed: Seed::new(1),
    };
    let run = conversion.network.run(batch, timesteps, 16).expect("a run");
    let ours = values(&run.logits.get(timesteps - 1).expect("the last step"));
    let theirs = ann.forward(&images, Mode::Inference).expect("scores");
    let theirs = values(&theirs);
    let square = |a: f32, b: f32| f64::from(a - b).powi(2);
    let error: f64 = ours.iter().zip(&theirs).map(|(a, b)| square(*a, *b)).sum();
    let size: f64 = theirs.iter().map(|a| square(*a, 0.0)).sum();
    (error / size).sqrt()
}

/// With thresholds that clip nothing the rates of all populations, and so the logits, tend to the source's.
#[test]
fn logits_tend_to_the_source_s() {
    let ann = resnet(false, true, 3);
    let rules = [
        percentile(100.0, Granularity::Channel),
        percentile(100.0, Granularity::Layer),
        local_balance(0.5, 400),
        ThresholdRule::BatchNorm { deviations: 5.0 },
    ];
    for rule in rules {
        let distances = [32, 2_048].map(|timesteps| distance(&ann, rule, timesteps));
        assert!(distances[1] < 0.02, "{rule:?}: {distances:?}");
        assert!(distances[1] < 0.5 * distances[0], "{rule:?}: {distances:?}");
    }
}
