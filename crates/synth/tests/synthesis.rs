//! The synthesis as a user calls it: whole against shards, what it reaches, what it refuses.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use ann::{Ann, Mode, SyntheticSet};
use candle_core::{Device, Tensor};
use common::{assert_same, network};
use snn_core::progress::{Flow, silent};
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, Topology};
use synth::{Error, SynthConfig, agreement, class_similarity, synthesise};

/// One linear layer on an image of one pixel and two channels.
fn linear(rows: &[[f32; 2]]) -> Ann {
    let layers = vec![
        Layer::Flatten,
        Layer::Linear {
            in_features: 2,
            out_features: rows.len(),
            bias: false,
        },
    ];
    let topology = Topology::new("linear", [2, 1, 1], layers).expect("a valid topology");
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    let weight = Tensor::from_vec(flat, (rows.len(), 2), &Device::Cpu).expect("a weight");
    let tensors = BTreeMap::from([("1.weight".to_string(), weight)]);
    let parameters = Parameters::new(&topology, tensors).expect("parameters that fit");
    Ann::new(topology, parameters)
}

fn config() -> SynthConfig {
    SynthConfig {
        count: 13,
        iterations: 12,
        learning_rate: 0.05,
        temperature: 2.0,
        dirichlet: vec![1.0, 0.1],
        total_variation: 0.1,
        jitter: 2,
        batch: 13,
        ..SynthConfig::default()
    }
}

fn make(ann: &Ann, config: &SynthConfig, range: Range<usize>) -> SyntheticSet {
    synthesise(ann, config, Seed::new(8), range, &mut silent).expect("images")
}

#[test]
fn shards_batches_and_threads_change_nothing() {
    for batch_norm in [false, true] {
        let ann = network(batch_norm);
        let whole = make(&ann, &config(), 0..13);
        whole.check().expect("a sound set");
        for batch in [1, 3, 8] {
            let config = SynthConfig { batch, ..config() };
            assert_same(
                &whole,
                &make(&ann, &config, 0..13),
                &format!("batch {batch}"),
            );
        }
        let shards = [
            make(&ann, &config(), 0..5),
            make(&ann, &config(), 5..6),
            make(&ann, &config(), 6..13),
        ];
        assert_same(
            &whole,
            &SyntheticSet::concat(&shards).expect("shards that fit"),
            "shards",
        );
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a thread pool");
            let other = pool.install(|| make(&ann, &config(), 0..13));
            assert_same(&whole, &other, &format!("{threads} threads"));
        }
        let other = synthesise(&ann, &config(), Seed::new(9), 0..13, &mut silent).expect("images");
        let (a, b) = (whole.images.flatten_all(), other.images.flatten_all());
        let (a, b) = (a.expect("values"), b.expect("values"));
        assert_ne!(
            a.to_vec1::<f32>().expect("floats"),
            b.to_vec1::<f32>().expect("floats"),
            "another seed"
        );
    }
}

/// Batch-norm statistics couple the images of a batch: equal batches give equal images.
#[test]
fn a_batch_of_any_size_ends_with_the_range() {
    let ann = network(false);
    let config = SynthConfig {
        count: 6,
        ..config()
    };
    let largest = SynthConfig {
        batch: usize::MAX,
        ..config.clone()
    };
    let (one, same) = (make(&ann, &config, 5..6), make(&ann, &largest, 5..6));
    assert_same(&one, &same, "the largest batch");
}

#[test]
fn statistics_depend_on_the_batch_alone() {
    let ann = network(true);
    let config = SynthConfig {
        batch: 5,
        batch_norm_statistics: 0.1,
        ..config()
    };
    let whole = make(&ann, &config, 0..13);
    let shards = [make(&ann, &config, 0..10), make(&ann, &config, 10..13)];
    assert_same(
        &whole,
        &SyntheticSet::concat(&shards).expect("shards that fit"),
        "equal batches",
    );
}

/// Distance between the statistics of a set's images and the network's running ones, by plain arithmetic.
fn statistics_distance(ann: &Ann, set: &SyntheticSet) -> f64 {
    let trace = ann.trace(&set.images, Mode::Inference).expect("a trace");
    let mut sum = 0.0;
    for (layer, x) in trace.batch_norm_inputs {
        let statistics = snn_core::ops::batch_norm::statistics(&x).expect("statistics");
        for (name, found) in [
            ("running_mean", statistics.mean),
            ("running_var", statistics.variance),
        ] {
            let expected: Vec<f32> = ann
                .parameters()
                .get(layer, name)
                .expect("running statistics")
                .to_vec1()
                .expect("floats");
            let found: Vec<f32> = found.to_vec1().expect("floats");
            let squares = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2));
            sum += f64::from(squares.sum::<f32>()).sqrt();
        }
    }
    sum
}

#[test]
fn statistics_loss_draws_the_statistics_nearer() {
    let ann = network(true);
    let plain = SynthConfig {
        iterations: 60,
        total_variation: 0.0,
        jitter: 0,
        ..config()
    };
    let drawn = SynthConfig {
        batch_norm_statistics: 1.0,
        ..plain.clone()
    };
    let without = statistics_distance(&ann, &make(&ann, &plain, 0..13));
    let with = statistics_distance(&ann, &make(&ann, &drawn, 0..13));
    assert!(with < 0.7 * without, "{with} with, {without} without");
}

#[test]
fn images_reach_their_targets() {
    let ann = network(false);
    let config = SynthConfig {
        iterations: 150,
        temperature: 1.0,
        total_variation: 0.0,
        jitter: 0,
        ..config()
    };
    let start = SynthConfig {
        iterations: 1,
        learning_rate: 1e-9,
        ..config.clone()
    };
    let loss = |set: &SyntheticSet| -> f32 {
        ann::loss::soft_cross_entropy(&set.logits, &set.soft_targets)
            .and_then(|loss| Ok(loss.to_scalar()?))
            .expect("a loss")
    };
    let (before, after) = (make(&ann, &start, 0..13), make(&ann, &config, 0..13));
    assert!(
        loss(&after) < 0.7 * loss(&before),
        "{} then {}",
        loss(&before),
        loss(&after)
    );
    let reached = agreement(&after).expect("a share");
    assert!(reached > 0.9, "{reached}");
    assert!(reached > agreement(&before).expect("a share"));
}

#[test]
fn agreement_counts_by_hand() {
    let rows = |rows: [[f32; 2]; 4]| Tensor::new(&rows, &Device::Cpu).expect("rows");
    let set = SyntheticSet {
        images: Tensor::zeros((4, 1, 1, 1), candle_core::DType::F32, &Device::Cpu).expect("images"),
        soft_targets: rows([[0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [1.0, 0.0]]),
        logits: rows([[3.0, -1.0], [2.0, 1.0], [0.0, 0.0], [-5.0, -4.0]]),
        classes: Tensor::new(&[0u32, 1, 0, 1], &Device::Cpu).expect("classes"),
        seed: 0,
    };
    // right, wrong, right (the first of equals on both sides), wrong
    assert_eq!(agreement(&set).expect("a share"), 0.5);
}

#[test]
fn similarity_by_hand() {
    let ann = linear(&[[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]]);
    let s = class_similarity(&ann).expect("similarities");
    // cosines with (1, 0): 1, 0, sqrt(1/2), -1
    let expected = [1.0, 0.5, 0.5 + 0.5 * 0.5f64.sqrt(), 0.0];
    for (found, expected) in s[0].iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{:?}", s[0]);
    }
    for (i, row) in s.iter().enumerate() {
        assert!((row[i] - 1.0).abs() < 1e-12, "diagonal of row {i}: {row:?}");
    }
    assert_eq!(
        class_similarity(&linear(&[[0.5, 0.5]])).expect("one class"),
        [[1.0]]
    );
    let zero = class_similarity(&linear(&[[1.0, 0.0], [0.0, 0.0]]));
    assert!(
        zero.expect_err("no direction")
            .to_string()
            .contains("class 1")
    );
}

#[test]
fn refuses_bad_settings() {
    let ann = network(false);
    let cases: [(&str, SynthConfig); 9] = [
        (
            "count",
            SynthConfig {
                count: 0,
                ..config()
            },
        ),
        (
            "iterations",
            SynthConfig {
                iterations: 0,
                ..config()
            },
        ),
        (
            "batch",
            SynthConfig {
                batch: 0,
                ..config()
            },
        ),
        (
            "learning_rate",
            SynthConfig {
                learning_rate: f64::NAN,
                ..config()
            },
        ),
        (
            "temperature",
            SynthConfig {
                temperature: 0.0,
                ..config()
            },
        ),
        (
            "dirichlet",
            SynthConfig {
                dirichlet: Vec::new(),
                ..config()
            },
        ),
        (
            "dirichlet",
            SynthConfig {
                dirichlet: vec![1.0, -0.1],
                ..config()
            },
        ),
        (
            "total_variation",
            SynthConfig {
                total_variation: -1.0,
                ..config()
            },
        ),
        (
            "batch_norm_statistics",
            SynthConfig {
                batch_norm_statistics: 0.1,
                ..config()
            },
        ),
    ];
    for (field, config) in cases {
        match synthesise(&ann, &config, Seed::new(1), 0..1, &mut silent) {
            Err(Error::Argument { name, .. }) => assert_eq!(name, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let backwards = Range { start: 3, end: 2 };
    for range in [0..0, backwards, 10..14] {
        let found = synthesise(&ann, &config(), Seed::new(1), range, &mut silent);
        assert!(matches!(found, Err(Error::Argument { name: "range", .. })));
    }
}

#[test]
fn a_loss_that_is_not_finite_names_the_image() {
    let layers = vec![
        Layer::Flatten,
        Layer::Linear {
            in_features: 2,
            out_features: 2,
            bias: false,
        },
        Layer::Activation {
            function: ActivationFunction::Relu,
        },
        Layer::Linear {
            in_features: 2,
            out_features: 2,
            bias: false,
        },
    ];
    let topology = Topology::new("huge", [2, 1, 1], layers).expect("a valid topology");
    let huge = Tensor::new(&[[1e30f32, 1e30], [-1e30, 1e30]], &Device::Cpu).expect("a weight");
    let tensors = BTreeMap::from([
        ("1.weight".to_string(), huge.clone()),
        ("3.weight".to_string(), huge),
    ]);
    let parameters = Parameters::new(&topology, tensors).expect("finite parameters");
    let ann = Ann::new(topology, parameters);
    match synthesise(&ann, &config(), Seed::new(1), 4..13, &mut silent) {
        Err(Error::NotFinite {
            image,
            iteration: 0,
            ..
        }) => assert!((4..13).contains(&image)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_watcher_hears_and_stops() {
    let ann = network(false);
    let config = SynthConfig {
        batch: 8,
        ..config()
    };
    let mut heard = Vec::new();
    synthesise(&ann, &config, Seed::new(1), 0..13, &mut |p| {
        heard.push((p.unit.clone(), p.done, p.total));
        Flow::Continue
    })
    .expect("images");
    assert_eq!(heard.len(), 24);
    assert_eq!(heard[0], ("image batch 1/2, iteration".to_string(), 1, 12));
    assert_eq!(
        heard[23],
        ("image batch 2/2, iteration".to_string(), 12, 12)
    );

    let mut calls = 0;
    let stopped = synthesise(&ann, &config, Seed::new(1), 0..13, &mut |_| {
        calls += 1;
        if calls == 3 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    });
    assert!(matches!(
        stopped,
        Err(Error::Core(snn_core::Error::Interrupted))
    ));
    assert_eq!(calls, 3);
}

#[test]
fn settings_read_from_text_refuse_unknown_keys() {
    let read = |text| serde_json::from_str::<SynthConfig>(text);
    assert_eq!(read("{}").expect("defaults"), SynthConfig::default());
    assert!(read(r#"{"iteration": 3}"#).is_err());
}
