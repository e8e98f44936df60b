//! The event-driven engine against the dense one: every spike, every logit, bit for bit.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use snn_core::encode::Encoder;
use snn_core::event::EventNetwork;
use snn_core::network::Batch;
use snn_core::neuron::{Firing, NeuronSettings, Reset};
use snn_core::rng::Seed;
use snn_core::{Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};
use testkit::assert_thread_independent;

use crate::{RELU, bytes};

const T: usize = 19;

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
        bias: out_channels % 2 == 1,
    }
}

fn linear(in_features: usize, out_features: usize) -> Layer {
    Layer::Linear {
        in_features,
        out_features,
        bias: true,
    }
}

/// Convolutions of several shapes with and without a pool before them, more channels than a block, two linear layers.
fn layers() -> Vec<Layer> {
    vec![
        conv(3, 70, 3, 1, 1),
        RELU,
        Layer::Dropout { probability: 0.2 },
        conv(70, 33, 3, 1, 1),
        RELU,
        Layer::AvgPool2d { kernel: 2 },
        conv(33, 130, 3, 2, 1),
        RELU,
        conv(130, 20, 1, 1, 0),
        RELU,
        Layer::AvgPool2d { kernel: 3 },
        Layer::Flatten,
        linear(20, 65),
        RELU,
        linear(65, 10),
    ]
}

/// Thresholds are `threshold` times a number around 1: a layer's rate falls with it.
fn network(
    layers: Vec<Layer>,
    side: usize,
    threshold: f64,
    settings: SpikingSettings,
) -> SpikingNetwork {
    let topology = Topology::new("test", [3, side, side], layers).expect("valid");
    let normal = |name: &str, shape: &[usize], deviation: f32| {
        Seed::new(7)
            .derive(name)
            .normal(shape, 0.02, deviation, &Device::Cpu)
            .expect("numbers")
    };
    let mut tensors = BTreeMap::new();
    for (index, layer) in topology.layers().iter().enumerate() {
        for (name, shape) in layer.tensors() {
            let inputs: usize = shape[1..].iter().product();
            let name = format!("{index}.{name}");
            let deviation = (2.0 / inputs as f32).sqrt();
            tensors.insert(name.clone(), normal(&name, &shape, deviation));
        }
    }
    let shapes = topology.shapes();
    let thresholds = topology
        .activations()
        .into_iter()
        .enumerate()
        .map(|(i, index)| {
            // of a layer and of its channels in turn
            let count = if i % 2 == 0 { 1 } else { shapes[index][0] };
            let around = Seed::new(8)
                .index(index as u64)
                .uniform(&[count], 0.5, 1.5, &Device::Cpu)
                .expect("numbers");
            (index, (around * threshold).expect("thresholds"))
        })
        .collect();
    let parameters = Parameters::new(&topology, tensors).expect("fits");
    SpikingNetwork::new(topology, parameters, thresholds, settings).expect("a network")
}

fn images(n: usize, side: usize) -> Tensor {
    Seed::new(9)
        .uniform(&[n, 3, side, side], -1.0, 1.0, &Device::Cpu)
        .expect("images")
}

/// The mean rate of all populations.
fn assert_equal(network: &SpikingNetwork, images: &Tensor, timesteps: usize, what: &str) -> f64 {
    let ids: Vec<u64> = (0..images.dims()[0] as u64).map(|i| 3 * i).collect();
    let batch = Batch {
        images,
        ids: &ids,
        seed: Seed::new(5),
    };
    let dense = network.run(batch, timesteps, 6).expect("dense");
    let events = EventNetwork::new(network)
        .expect("events")
        .run(batch, timesteps)
        .expect("events");
    let mut total = 0.0;
    let mut neurons = 0;
    for (index, counts) in &dense.spikes {
        let ours = &events.run.spikes[index];
        assert_eq!(ours.dims(), counts.dims(), "{what}: layer {index}");
        assert_eq!(bytes(ours), bytes(counts), "{what}: layer {index}");
        total += f64::from(
            counts
                .sum_all()
                .and_then(|s| s.to_scalar::<f32>())
                .expect("a sum"),
        );
        neurons += counts.elem_count() * timesteps;
    }
    assert_eq!(bytes(&events.run.logits), bytes(&dense.logits), "{what}");
    match (&events.run.input_events, &dense.input_events) {
        (Some(ours), Some(theirs)) => assert_eq!(bytes(ours), bytes(theirs), "{what}"),
        (ours, theirs) => assert!(ours.is_none() && theirs.is_none(), "{what}"),
    }
    total / neurons as f64
}

fn settings(encoder: Encoder) -> SpikingSettings {
    SpikingSettings {
        encoder,
        initial_membrane: 0.5,
        readout_scale: 1.3,
        readout_delay: 2,
        ..SpikingSettings::default()
    }
}

#[test]
fn spikes_and_logits_equal_the_dense_engine_s() {
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        for reset in [Reset::Soft, Reset::Hard] {
            for firing in [Firing::Above, Firing::AtOrAbove] {
                let settings = SpikingSettings {
                    neuron: NeuronSettings {
                        reset,
                        firing,
                        leak: 0.9,
                        ..NeuronSettings::default()
                    },
                    ..settings(encoder)
                };
                let network = network(layers(), 12, 0.5, settings);
                let rate = assert_equal(&network, &images(3, 12), T, &format!("{settings:?}"));
                assert!(rate > 0.05 && rate < 0.6, "{rate}");
            }
        }
    }
}

#[test]
fn silent_and_ever_firing_populations_one_step_one_image() {
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        let silent = network(layers(), 12, 1e6, settings(encoder));
        assert_eq!(assert_equal(&silent, &images(2, 12), T, "silent"), 0.0);
        let busy = network(layers(), 12, 1e-6, settings(encoder));
        assert!(assert_equal(&busy, &images(2, 12), T, "busy") > 0.3);
        let usual = network(layers(), 12, 0.5, settings(encoder));
        assert_equal(&usual, &images(1, 12), 1, "one step");
    }
}

#[test]
fn operations_are_spikes_times_the_weights_they_meet() {
    let network = network(layers(), 12, 0.5, settings(Encoder::Poisson));
    let images = images(2, 12);
    let batch = Batch {
        images: &images,
        ids: &[1, 2],
        seed: Seed::new(5),
    };
    let events = EventNetwork::new(&network)
        .expect("events")
        .run(batch, T)
        .expect("a run");
    // a spike of the first population inside the map meets 9 weights of each of the 33 channels, fewer at the border
    let spikes: Vec<f32> = events.run.spikes[&1]
        .flatten_all()
        .and_then(|s| s.to_vec1())
        .expect("counts");
    let met: f64 = spikes
        .iter()
        .enumerate()
        .map(|(i, &count)| {
            let (y, x) = (i / 12 % 12, i % 12);
            let side = |at: usize| if at == 0 || at == 11 { 2.0 } else { 3.0 };
            f64::from(count) * side(y) * side(x) * 33.0
        })
        .sum();
    assert_eq!(events.synaptic_operations[&3], met as u64);
    // every spike of the pooled population before the first linear layer meets its 65 weights once
    let spikes: f32 = events.run.spikes[&9]
        .sum_all()
        .and_then(|s| s.to_scalar())
        .expect("a sum");
    assert_eq!(events.synaptic_operations[&12], spikes as u64 * 65);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let network = network(layers(), 12, 0.5, settings(Encoder::Poisson));
    let images = images(5, 12);
    assert_thread_independent("events", || {
        let batch = Batch {
            images: &images,
            ids: &[1, 2, 3, 4, 5],
            seed: Seed::new(5),
        };
        let run = EventNetwork::new(&network)
            .expect("events")
            .run(batch, T)
            .expect("a run");
        bytes(&run.run.logits)
    });
}

#[test]
fn what_has_no_events_is_refused_with_its_layer() {
    let refused = |layers: Vec<Layer>, encoder| {
        let network = network(layers, 12, 0.5, settings(encoder));
        EventNetwork::new(&network)
            .expect_err("must be refused")
            .to_string()
    };
    let twice = vec![
        conv(3, 4, 3, 1, 1),
        RELU,
        conv(4, 4, 3, 1, 1),
        conv(4, 4, 3, 1, 1),
        RELU,
        Layer::Flatten,
        linear(576, 10),
    ];
    let said = refused(twice, Encoder::Direct);
    assert!(
        said.contains("layer 3") && said.contains("conv2d"),
        "{said}"
    );
    let pooled_late = vec![
        conv(3, 4, 3, 1, 1),
        RELU,
        conv(4, 4, 3, 1, 1),
        Layer::AvgPool2d { kernel: 2 },
        RELU,
        Layer::Flatten,
        linear(144, 10),
    ];
    let said = refused(pooled_late, Encoder::Direct);
    assert!(said.contains("layer 3") && said.contains("pool"), "{said}");
    let without = vec![Layer::Flatten, linear(432, 10)];
    assert!(refused(without, Encoder::Direct).contains("no population"));
}
