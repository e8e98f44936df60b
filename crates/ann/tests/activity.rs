//! The activity: against the energy it stands for, its slopes, and what a training makes of it.

use std::collections::BTreeMap;

use ann::{Activity, Ann, Mode, TrainConfig, Trainer};
use candle_core::{Device, Tensor};
use snn_core::energy::{AC_PICOJOULE, estimate};
use snn_core::evaluate::Evaluation;
use snn_core::progress::silent;
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, Topology};

const STAIRCASE: Layer = Layer::Activation {
    function: ActivationFunction::Qcfs { levels: 4 },
};
const RELU: Layer = Layer::Activation {
    function: ActivationFunction::Relu,
};

fn conv(in_channels: usize, out_channels: usize) -> Layer {
    Layer::Conv2d {
        in_channels,
        out_channels,
        kernel: 3,
        stride: 1,
        padding: 1,
        bias: false,
    }
}

/// Two convolutions with batch norm, a pool before each weight but the first, and a classifier.
fn topology(activation: Layer) -> Topology {
    let norm = |channels| Layer::BatchNorm {
        channels,
        epsilon: 1e-5,
    };
    let layers = vec![
        conv(1, 4),
        norm(4),
        activation.clone(),
        Layer::AvgPool2d { kernel: 2 },
        conv(4, 6),
        norm(6),
        activation,
        Layer::AvgPool2d { kernel: 2 },
        Layer::Flatten,
        Layer::Linear {
            in_features: 24,
            out_features: 3,
            bias: true,
        },
    ];
    Topology::new("small", [1, 8, 8], layers).expect("layers fit")
}

fn network(seed: u64) -> Ann {
    Ann::initialise(topology(STAIRCASE), Seed::new(seed), &Device::Cpu).expect("a network")
}

/// Noise with a bright bar whose row is the class.
fn data(count: usize) -> (Tensor, Tensor) {
    let mut stream = Seed::new(8).stream();
    let mut pixels: Vec<u8> = (0..count * 64).map(|_| stream.below(120) as u8).collect();
    let labels: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
    for (image, &label) in pixels.chunks_mut(64).zip(&labels) {
        image[16 * label as usize..][..12].fill(255);
    }
    let images = Tensor::from_vec(pixels, (count, 1, 8, 8), &Device::Cpu).expect("images");
    let labels = Tensor::from_vec(labels, count, &Device::Cpu).expect("labels");
    (images, labels)
}

#[test]
fn it_is_the_energy_by_rates() {
    let ann = network(3);
    let images = Seed::new(6)
        .normal(&[5, 1, 8, 8], 0.0, 1.0, &Device::Cpu)
        .expect("images");
    let trace = ann.trace(&images, Mode::Inference).expect("a trace");
    let activity = Activity::of(ann.topology()).expect("an activity");
    let measured = activity.measure(|layer| Ok(&trace.activations[&layer]), ann.parameters());
    let (activity, _) = measured.expect("measured");
    assert!(activity > 0.05 && activity < 1.0, "{activity}");

    // neurons that fire at just these rates over 4 steps
    let counts = |(&layer, y): (&usize, &Tensor)| {
        let threshold = ann.parameters().threshold(layer).expect("a threshold");
        let spikes = (y.sum(0).unwrap().flatten_all().unwrap() * 4.0).unwrap();
        let spikes = spikes.broadcast_div(threshold).unwrap();
        let spikes: Vec<f32> = spikes.to_vec1().unwrap();
        (layer, spikes.into_iter().map(f64::from).collect())
    };
    let evaluation = Evaluation {
        samples: 5,
        timesteps: 4,
        spikes: trace.activations.iter().map(counts).collect(),
        accuracy_by_t: Vec::new(),
        input_events: None,
    };
    let energy = estimate(ann.topology(), &evaluation, true).expect("an estimate");
    let first = energy.layers[0].snn_picojoule_rate;
    let macs = ann.topology().macs() - ann.topology().macs_by_layer()[0];
    let expected = (energy.snn_picojoule_rate - first) / (AC_PICOJOULE * macs as f64);
    assert!(
        (activity - expected).abs() < 1e-6 * expected,
        "{activity} instead of {expected}"
    );
}

#[test]
fn its_slopes_are_differences() {
    let ann = network(4);
    let activity = Activity::of(ann.topology()).expect("an activity");
    let shapes = ann.topology().shapes();
    let layers = ann.topology().activations();
    let values = |layer: usize| {
        let shape: Vec<usize> = [&[2], shapes[layer].as_slice()].concat();
        Seed::new(7)
            .uniform(&shape, 0.0, 1.0, &Device::Cpu)
            .expect("values")
    };
    let outputs: BTreeMap<usize, Tensor> = layers.iter().map(|&l| (l, values(l))).collect();
    let (_, slopes) = activity
        .measure(|layer| Ok(&outputs[&layer]), ann.parameters())
        .expect("measured");
    assert!(slopes.keys().eq(&layers));
    for (&layer, slope) in &slopes {
        let of_threshold = |change: f64| {
            let mut parameters = ann.parameters().clone();
            let moved = (parameters.threshold(layer).unwrap() + change).unwrap();
            parameters.replace(layer, "threshold", moved).unwrap();
            activity
                .measure(|layer| Ok(&outputs[&layer]), &parameters)
                .unwrap()
                .0
        };
        let of_activation = |change: f64| {
            let mut outputs = outputs.clone();
            outputs.insert(layer, (&outputs[&layer] + change).unwrap());
            activity
                .measure(|layer| Ok(&outputs[&layer]), ann.parameters())
                .unwrap()
                .0
        };
        // of all numbers of the output together
        let numbers = outputs[&layer].elem_count() as f64;
        for (found, expected) in [
            (
                slope.of_threshold,
                (of_threshold(1e-3) - of_threshold(-1e-3)) / 2e-3,
            ),
            (
                slope.of_activation * numbers,
                (of_activation(0.1) - of_activation(-0.1)) / 0.2,
            ),
        ] {
            assert!(
                expected != 0.0 && (found - expected).abs() < 1e-4 * expected.abs(),
                "layer {layer}: {found} instead of {expected}"
            );
        }
    }
}

fn trained(penalty: f64, through_a_file: bool) -> Trainer {
    let config = TrainConfig {
        epochs: 12,
        batch: 12,
        learning_rate: 0.05,
        activity_penalty: penalty,
        augment: ann::Augment {
            crop_padding: 0,
            flip: false,
        },
        ..TrainConfig::default()
    };
    let (seed, (images, labels)) = (Seed::new(9), data(60));
    let mut trainer = Trainer::new(&network(5), config.clone(), seed).expect("a trainer");
    let folder = tempfile::tempdir().expect("a folder");
    while !trainer.is_finished() {
        trainer
            .epoch(&images, &labels, None, &mut silent)
            .expect("an epoch");
        if through_a_file {
            let path = folder.path().join("state.safetensors");
            trainer.save(&path).expect("saved");
            let topology = trainer.ann().topology().clone();
            trainer = Trainer::resume(&path, &topology, config.clone(), seed, &Device::Cpu)
                .expect("resumed");
        }
    }
    trainer
}

fn bits(parameters: &Parameters) -> BTreeMap<String, Vec<f32>> {
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1().unwrap();
    let tensors = parameters.tensors().iter();
    tensors.map(|(name, x)| (name.clone(), flat(x))).collect()
}

#[test]
fn a_penalty_makes_quieter_networks_that_still_learn() {
    let (free, quiet) = (trained(0.0, false), trained(2.0, false));
    let last = |trainer: &Trainer| trainer.history().last().cloned().expect("an epoch");
    assert_eq!(last(&free).activity, None);
    let activities: Vec<f64> = quiet
        .history()
        .iter()
        .flat_map(|log| log.activity)
        .collect();
    assert_eq!(activities.len(), 12);
    assert!(
        activities[11] < 0.6 * activities[0],
        "the activity goes from {} to {}",
        activities[0],
        activities[11]
    );
    for log in [last(&free), last(&quiet)] {
        assert!(log.train_accuracy > 0.9, "{log:?}");
    }

    let (images, _) = data(60);
    let images =
        ((images.to_dtype(candle_core::DType::F32).unwrap() / 127.5).unwrap() - 1.0).unwrap();
    let of = |trainer: &Trainer| {
        let ann = trainer.ann().frozen().expect("a network");
        let trace = ann.trace(&images, Mode::Inference).expect("a trace");
        let activity = Activity::of(ann.topology()).expect("an activity");
        let measured = activity.measure(|layer| Ok(&trace.activations[&layer]), ann.parameters());
        measured.expect("measured").0
    };
    assert!(of(&quiet) < 0.6 * of(&free), "{} {}", of(&quiet), of(&free));
}

#[test]
fn an_interruption_leaves_no_trace() {
    let (straight, resumed) = (trained(1.0, false), trained(1.0, true));
    assert_eq!(straight.history(), resumed.history());
    assert!(bits(straight.ann().parameters()) == bits(resumed.ann().parameters()));
}

#[test]
fn refusals_say_what_to_do() {
    let start = |activation, activity_penalty| {
        let ann = Ann::initialise(topology(activation), Seed::new(1), &Device::Cpu).unwrap();
        let config = TrainConfig {
            activity_penalty,
            ..TrainConfig::default()
        };
        Trainer::new(&ann, config, Seed::new(1))
    };
    assert!(start(RELU, 0.0).is_ok());
    let message = start(RELU, 0.5).expect_err("no thresholds").to_string();
    assert!(
        message.contains("activity_penalty") && message.contains("layer 2"),
        "{message}"
    );
    for penalty in [-1.0, f64::NAN, f64::INFINITY] {
        let message = start(STAIRCASE, penalty).expect_err("refused").to_string();
        assert!(message.contains("activity_penalty"), "{message}");
    }
}
