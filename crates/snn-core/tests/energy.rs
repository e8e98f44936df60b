//! Energy against a count of every single product, and against numbers worked out by hand.

use std::collections::BTreeMap;

use snn_core::energy::{AC_PICOJOULE, Energy, MAC_PICOJOULE, WORD_PICOJOULE, estimate};
use snn_core::evaluate::Evaluation;
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Topology};

const RELU: Layer = Layer::Activation {
    function: ActivationFunction::Relu,
};

fn conv(
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Layer {
    Layer::Conv2d {
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        bias: false,
    }
}

fn linear(in_features: usize, out_features: usize) -> Layer {
    Layer::Linear {
        in_features,
        out_features,
        bias: true,
    }
}

/// Padding, stride, a pool between layers and one before the classifier: every case of fan-out.
fn topology() -> Topology {
    let layers = vec![
        conv(2, 3, 3, 1, 1),
        RELU,
        Layer::AvgPool2d { kernel: 2 },
        conv(3, 4, 3, 2, 1),
        RELU,
        Layer::Dropout { probability: 0.5 },
        Layer::AvgPool2d { kernel: 2 },
        Layer::Flatten,
        linear(4, 5),
        RELU,
        linear(5, 2),
    ];
    Topology::new("tiny", [2, 8, 8], layers).expect("a valid topology")
}

fn random_counts(seed: u64, units: usize, largest: u32) -> Vec<f64> {
    let mut stream = Seed::new(seed).stream();
    (0..units)
        .map(|_| f64::from(stream.below(largest + 1)))
        .collect()
}

fn evaluation(topology: &Topology, samples: usize, timesteps: usize, input: bool) -> Evaluation {
    let shapes = topology.shapes();
    let largest = (samples * timesteps) as u32;
    let spikes = topology
        .activations()
        .into_iter()
        .map(|i| {
            (
                i,
                random_counts(i as u64, shapes[i].iter().product(), largest),
            )
        })
        .collect();
    let pixels = topology.input().iter().product();
    Evaluation {
        samples,
        timesteps,
        accuracy_by_t: vec![(timesteps, 0.5)],
        spikes,
        input_events: input.then(|| random_counts(99, pixels, largest)),
    }
}

/// Walks every output position and every kernel offset, and asks which spike it meets.
fn products_of_conv(counts: &[f64], [c, h, w]: [usize; 3], layer: &Layer) -> f64 {
    let Layer::Conv2d {
        out_channels,
        kernel,
        stride,
        padding,
        ..
    } = *layer
    else {
        panic!("not a convolution");
    };
    let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
    let mut products = 0.0;
    for _ in 0..out_channels {
        for i in 0..side(h) {
            for j in 0..side(w) {
                for channel in 0..c {
                    for a in 0..kernel {
                        for b in 0..kernel {
                            let (y, x) = (i * stride + a, j * stride + b);
                            if (padding..h + padding).contains(&y)
                                && (padding..w + padding).contains(&x)
                            {
                                products += counts[(channel * h + y - padding) * w + x - padding];
                            }
                        }
                    }
                }
            }
        }
    }
    products
}

fn sum_of_pool(counts: &[f64], [c, h, w]: [usize; 3], kernel: usize) -> Vec<f64> {
    let mut pooled = vec![0.0; c * (h / kernel) * (w / kernel)];
    for channel in 0..c {
        for y in 0..h {
            for x in 0..w {
                pooled[(channel * (h / kernel) + y / kernel) * (w / kernel) + x / kernel] +=
                    counts[(channel * h + y) * w + x];
            }
        }
    }
    pooled
}

#[test]
fn events_equal_a_count_of_every_product() {
    let topology = topology();
    let evaluation = evaluation(&topology, 3, 7, true);
    let layers = topology.layers();
    let first = products_of_conv(
        evaluation.input_events.as_ref().expect("events"),
        [2, 8, 8],
        &layers[0],
    );
    let second = products_of_conv(
        &sum_of_pool(&evaluation.spikes[&1], [3, 8, 8], 2),
        [3, 4, 4],
        &layers[3],
    );
    let third = sum_of_pool(&evaluation.spikes[&4], [4, 2, 2], 2)
        .iter()
        .sum::<f64>()
        * 5.0;
    let fourth = evaluation.spikes[&9].iter().sum::<f64>() * 2.0;

    let energy = estimate(&topology, &evaluation, false).expect("an estimate");
    let expected = [
        (0, first / 3.0),
        (3, second / 3.0),
        (8, third / 3.0),
        (10, fourth / 3.0),
    ];
    let accumulates = |energy: &Energy| -> Vec<(usize, f64)> {
        let layers = energy.layers.iter();
        layers.map(|l| (l.layer, l.accumulates)).collect()
    };
    assert_eq!(accumulates(&energy), expected);
    let products = (first + second + third + fourth) / 3.0;
    assert!((energy.snn_picojoule_events / (products * AC_PICOJOULE) - 1.0).abs() < 1e-12);

    // direct coding: the first layer once per image, as multiply-accumulates
    let direct = estimate(&topology, &evaluation, true).expect("an estimate");
    let macs = topology.macs_by_layer()[0] as f64;
    let expected_direct = macs * MAC_PICOJOULE + (second + third + fourth) / 3.0 * AC_PICOJOULE;
    assert!((direct.snn_picojoule_events / expected_direct - 1.0).abs() < 1e-12);
    assert_eq!(accumulates(&direct)[0], (0, 0.0));
    assert_eq!(accumulates(&direct)[1..], expected[1..]);
}

/// A 1x1 image into a 2-unit layer into 3 classes; 4 steps, 2 images.
#[test]
fn numbers_by_hand() {
    let topology = Topology::new(
        "hand",
        [1, 1, 1],
        vec![Layer::Flatten, linear(1, 2), RELU, linear(2, 3)],
    )
    .expect("valid");
    let evaluation = Evaluation {
        samples: 2,
        timesteps: 4,
        accuracy_by_t: vec![(4, 1.0)],
        spikes: BTreeMap::from([(2, vec![6.0, 2.0])]),
        input_events: Some(vec![5.0]),
    };
    let energy = estimate(&topology, &evaluation, false).expect("an estimate");
    // 2 + 6 multiply-accumulates
    assert!((energy.ann_picojoule - 36.8).abs() < 1e-9);
    // input 5 spikes x 2 weights, hidden 8 spikes x 3 weights, halved for 2 images: 17 accumulates
    assert!((energy.snn_picojoule_events - 17.0 * 0.9).abs() < 1e-9);
    // rates 5/8 and 8/16: 2 x 0.625 + 6 x 0.5 = 4.25
    assert!((energy.snn_picojoule_rate - 4.25 * 0.9).abs() < 1e-9);
    assert!((energy.ratio_events - 36.8 / 15.3).abs() < 1e-9);
    assert!((energy.ratio_rate - 36.8 / 3.825).abs() < 1e-9);
    assert_eq!(energy.mean_rate_by_layer, vec![(2, 0.5)]);
    assert_eq!(energy.spikes_by_layer, vec![(2, 4.0)]);
    // the source network: 2 words for each of 8 products, 2 + 3 outputs
    assert!((energy.ann_picojoule_memory - (36.8 + 21.0 * 5.0)).abs() < 1e-9);
    // 3 words for each of 17 accumulates, 2 for each of (5 + 8) / 2 spikes, 2 for each of 5 neurons at 4 steps
    assert!((energy.snn_picojoule_memory - (17.0 * 0.9 + 104.0 * 5.0)).abs() < 1e-9);
    assert!((energy.ratio_memory - 141.8 / 535.3).abs() < 1e-9);
    let hidden = &energy.layers[1];
    // 12 accumulates, 4 spikes, 3 neurons
    assert!((hidden.snn_picojoule_memory - (12.0 * 0.9 + 68.0 * 5.0)).abs() < 1e-9);

    let direct = estimate(&topology, &evaluation, true).expect("an estimate");
    assert!((direct.snn_picojoule_events - (2.0 * 4.6 + 12.0 * 0.9)).abs() < 1e-9);
    assert!((direct.snn_picojoule_rate - (2.0 * 4.6 + 3.0 * 0.9)).abs() < 1e-9);
    // 2 products and 2 outputs once, 2 currents and 2 membranes twice at each of 4 steps
    let first = 2.0 * 4.6 + (4.0 + 2.0 + 8.0 + 16.0) * 5.0;
    assert!((direct.layers[0].snn_picojoule_memory - first).abs() < 1e-9);
}

/// A pool before the population leaves it a quarter of the layer's outputs: 3 outputs of 4x4 into 3 neurons of 2x2.
#[test]
fn membranes_are_the_populations() {
    let pool = Layer::AvgPool2d { kernel: 2 };
    let network = |between: [Layer; 2]| {
        let [first, second] = between;
        let layers = vec![
            conv(2, 3, 1, 1, 0),
            first,
            second,
            Layer::Flatten,
            linear(12, 2),
        ];
        Topology::new("pooled", [2, 4, 4], layers).expect("valid")
    };
    let (before, after) = (network([pool.clone(), RELU]), network([RELU, pool]));
    let (samples, steps) = (3, 5);
    for (topology, neurons) in [(&before, 12.0), (&after, 48.0)] {
        let evaluation = evaluation(topology, samples, steps, true);
        let events: f64 = evaluation.input_events.iter().flatten().sum();
        let energy = estimate(topology, &evaluation, false).expect("an estimate");
        let events = events / samples as f64;
        // each of the pixels' spikes meets 3 weights
        let words = 3.0 * 3.0 * events + 2.0 * events + 2.0 * neurons * steps as f64;
        let expected = 3.0 * events * AC_PICOJOULE + words * WORD_PICOJOULE;
        let found = energy.layers[0].snn_picojoule_memory;
        assert!(
            (found / expected - 1.0).abs() < 1e-12,
            "{found}: {expected}"
        );

        let direct = estimate(topology, &evaluation, true).expect("an estimate");
        let (macs, outputs) = (2.0 * 3.0 * 16.0, 48.0);
        let words = 2.0 * macs + outputs + 3.0 * neurons * steps as f64;
        let expected = macs * MAC_PICOJOULE + words * WORD_PICOJOULE;
        let found = direct.layers[0].snn_picojoule_memory;
        assert!(
            (found / expected - 1.0).abs() < 1e-12,
            "{found}: {expected}"
        );
        let source = macs * MAC_PICOJOULE + (2.0 * macs + outputs) * WORD_PICOJOULE;
        assert_eq!(direct.layers[0].ann_picojoule_memory, source);
    }
}

#[test]
fn counts_that_do_not_belong_are_refused() {
    let topology = topology();
    let whole = evaluation(&topology, 3, 7, false);
    let message = estimate(&topology, &whole, false)
        .expect_err("no input events")
        .to_string();
    assert!(message.contains("layer 0 (conv2d)"), "{message}");

    let mut short = whole.clone();
    short.spikes.insert(4, vec![1.0; 3]);
    let message = estimate(&topology, &short, true)
        .expect_err("too few counts")
        .to_string();
    assert!(message.contains("layer 4"), "{message}");

    let mut missing = whole.clone();
    missing.spikes.remove(&9);
    let message = estimate(&topology, &missing, true)
        .expect_err("no counts")
        .to_string();
    assert!(message.contains("layer 9"), "{message}");

    // no layer, and one that is no population
    for stranger in [99, 3] {
        let mut more = whole.clone();
        more.spikes.insert(stranger, vec![1.0; 16]);
        let message = estimate(&topology, &more, true)
            .expect_err("no population")
            .to_string();
        assert!(message.contains(&format!("layer {stranger}")), "{message}");
    }

    // not asked for with direct coding, but of another input
    let other_input = Evaluation {
        input_events: Some(vec![1.0; 3]),
        ..whole.clone()
    };
    for direct in [false, true] {
        let message = estimate(&topology, &other_input, direct)
            .expect_err("another input")
            .to_string();
        assert!(message.contains("input"), "{message}");
    }

    let empty = Evaluation {
        samples: 0,
        ..whole
    };
    assert!(estimate(&topology, &empty, true).is_err());

    let series = Topology::new(
        "series",
        [1, 1, 1],
        vec![Layer::Flatten, linear(1, 2), linear(2, 3)],
    )
    .expect("valid");
    let counts = Evaluation {
        samples: 1,
        timesteps: 1,
        accuracy_by_t: vec![(1, 1.0)],
        spikes: BTreeMap::new(),
        input_events: None,
    };
    let message = estimate(&series, &counts, true)
        .expect_err("currents do not spike")
        .to_string();
    assert!(
        message.contains("layer 2 (linear)") && message.contains("layer 1"),
        "{message}"
    );
}
