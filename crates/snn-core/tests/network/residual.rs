//! Networks with shortcuts: step by step, through time, by events, and what they cost.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use snn_core::bptt::{self, Gradients, Keep, Options, Wanted};
use snn_core::encode::Encoder;
use snn_core::energy::{AC_PICOJOULE, WORD_PICOJOULE, estimate};
use snn_core::evaluate::{EvaluateOptions, evaluate};
use snn_core::event::EventNetwork;
use snn_core::network::{Batch, Mode};
use snn_core::neuron::{NeuronSettings, scan};
use snn_core::ops::conv2d::Sums;
use snn_core::ops::{conv2d, linear, shortcut};
use snn_core::progress::silent;
use snn_core::rng::Seed;
use snn_core::{Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};
use testkit::{Tolerance, assert_close, assert_thread_independent};

use crate::{RELU, bytes};

const T: usize = 7;

fn conv(in_channels: usize, out_channels: usize, stride: usize) -> Layer {
    Layer::Conv2d {
        in_channels,
        out_channels,
        kernel: 3,
        stride,
        padding: 1,
        bias: true,
    }
}

/// Two blocks of a residual network, the second of which halves the sides; shortcuts from layers 6 and 9 reach its last
/// population.
fn network(encoder: Encoder) -> SpikingNetwork {
    let shortcut = |from, channels, kernel| Layer::Shortcut {
        from,
        channels,
        kernel,
    };
    let layers = vec![
        conv(3, 70, 1),
        RELU,
        conv(70, 5, 1),
        RELU,
        conv(5, 70, 1),
        shortcut(1, 70, 1),
        RELU,
        Layer::Dropout { probability: 0.25 },
        conv(70, 90, 2),
        RELU,
        conv(90, 90, 1),
        shortcut(6, 70, 2),
        shortcut(9, 90, 1),
        RELU,
        Layer::AvgPool2d { kernel: 4 },
        Layer::Flatten,
        Layer::Linear {
            in_features: 90,
            out_features: 3,
            bias: false,
        },
    ];
    made(layers, 8, encoder)
}

fn made(layers: Vec<Layer>, side: usize, encoder: Encoder) -> SpikingNetwork {
    let topology = Topology::new("residual", [3, side, side], layers).expect("fits");
    let shapes = topology.shapes();
    let activations = topology.activations().into_iter();
    let thresholds: BTreeMap<usize, Tensor> = activations
        .map(|index| {
            let count = if index % 2 == 0 { shapes[index][0] } else { 1 };
            let values: Vec<f32> = (0..count).map(|c| 0.9 + 0.1 * (c % 5) as f32).collect();
            (
                index,
                Tensor::new(values, &Device::Cpu).expect("thresholds"),
            )
        })
        .collect();
    let settings = SpikingSettings {
        neuron: NeuronSettings {
            leak: 0.9,
            ..NeuronSettings::default()
        },
        encoder,
        initial_membrane: 0.5,
        readout_scale: 1.5,
        readout_delay: 2,
    };
    let tensors = topology.tensor_shapes().into_iter().map(|(name, shape)| {
        let inputs: usize = shape[1..].iter().product();
        let deviation = (2.0 / inputs as f32).sqrt();
        let seed = Seed::new(5).derive(&name);
        let tensor = seed.normal(&shape, 0.0, deviation, &Device::Cpu);
        (name, tensor.expect("normal numbers"))
    });
    let parameters = Parameters::new(&topology, tensors.collect()).expect("parameters that fit");
    SpikingNetwork::new(topology, parameters, thresholds, settings).expect("a network")
}

fn images(n: usize) -> Tensor {
    images_of(n, 8)
}

fn images_of(n: usize, side: usize) -> Tensor {
    Seed::new(8)
        .uniform(&[n, 3, side, side], -1.0, 1.0, &Device::Cpu)
        .expect("images")
}

fn batch<'a>(images: &'a Tensor, ids: &'a [u64]) -> Batch<'a> {
    Batch {
        images,
        ids,
        seed: Seed::new(4),
    }
}

const ENCODERS: [Encoder; 2] = [Encoder::Poisson, Encoder::Direct];

/// The layers written out one by one with the reference kernels, all steps of one before the next.
fn slowly(network: &SpikingNetwork, images: &Tensor, ids: &[u64]) -> snn_core::Result<Tensor> {
    let (parameters, settings) = (network.parameters(), network.settings());
    let input = match settings.encoder {
        Encoder::Direct => Tensor::stack(&[images; T], 0)?,
        Encoder::Poisson => {
            snn_core::encode::poisson(images, ids, 0, T, Seed::new(4).derive("coder"))?
        }
    };
    let conv = |index: usize, x: &Tensor, stride: usize| {
        let (weight, bias) = (parameters.weight(index)?, parameters.bias(index));
        let steps = (0..T).map(|t| conv2d::reference::conv2d(&x.get(t)?, weight, bias, stride, 1));
        Ok::<_, snn_core::Error>(Tensor::stack(&steps.collect::<Result<Vec<_>, _>>()?, 0)?)
    };
    let fire = |index: usize, currents: &Tensor| {
        let threshold = &network.thresholds()[&index];
        let start = (threshold.reshape((1, threshold.elem_count(), 1, 1))? * 0.5)?;
        let start = start.broadcast_as(&currents.dims()[1..])?.contiguous()?;
        Ok::<_, snn_core::Error>(scan(currents, threshold, &start, &settings.neuron)?.spikes)
    };
    let beside = |index: usize, x: &Tensor, earlier: &Tensor, kernel: usize| {
        shortcut::reference::shortcut(x, earlier, parameters.scale(index)?, kernel)
    };
    let first = fire(1, &conv(0, &input, 1)?)?;
    let second = fire(3, &conv(2, &first, 1)?)?;
    let third = fire(6, &beside(5, &conv(4, &second, 1)?, &first, 1)?)?;
    let fourth = fire(9, &conv(8, &third, 2)?)?;
    let both = beside(11, &conv(10, &fourth, 1)?, &third, 2)?;
    let fifth = fire(13, &beside(12, &both, &fourth, 1)?)?;
    let pooled = fifth.mean(4)?.mean(3)?;
    let counted = pooled.narrow(0, 2, T - 2)?.mean(0)?;
    let logits = linear::reference::linear(&counted, parameters.weight(16)?, None)?;
    Ok((logits * settings.readout_scale)?)
}

#[test]
fn logits_equal_a_slow_walk() {
    let (images, ids) = (images(3), [3, 1, 2]);
    for encoder in ENCODERS {
        let network = network(encoder);
        let logits = network.logits(batch(&images, &ids), Mode::Inference, T);
        let expected = slowly(&network, &images, &ids).expect("the slow walk");
        let logits = logits.expect("logits");
        assert_close(&logits, &expected, Tolerance::Rounding(500.0), "logits");
    }
}

#[test]
fn events_give_the_same_bit_for_bit() {
    let (images, ids) = (images(5), [3, 1, 2, 9, 7]);
    for encoder in ENCODERS {
        let network = network(encoder);
        let batch = batch(&images, &ids);
        // more steps than a layer takes at a time
        let dense = network.run(batch, 19, 6).expect("dense");
        let events = EventNetwork::new(&network).expect("events");
        let events = events.run(batch, 19).expect("events");
        for (index, counts) in &dense.spikes {
            assert_eq!(bytes(&events.run.spikes[index]), bytes(counts), "{index}");
            let rate = counts.mean_all().and_then(|mean| mean.to_scalar::<f32>());
            let rate = rate.expect("a number") / 19.0;
            assert!(rate > 0.02 && rate < 0.9, "layer {index} fires at {rate}");
        }
        assert_eq!(bytes(&events.run.logits), bytes(&dense.logits));
        for (layer, from) in [(5, 1), (11, 6), (12, 9)] {
            let spikes = dense.spikes[&from]
                .sum_all()
                .and_then(|s| s.to_scalar::<f32>());
            let spikes = spikes.expect("a sum") as u64;
            assert_eq!(events.synaptic_operations[&layer], spikes, "layer {layer}");
        }
    }
}

/// A mean over nine neurons has no exact share.
#[test]
fn events_of_a_mean_that_rounds_give_the_same_bit_for_bit() {
    let layers = vec![
        conv(3, 70, 1),
        RELU,
        conv(70, 75, 3),
        Layer::Shortcut {
            from: 1,
            channels: 70,
            kernel: 3,
        },
        RELU,
        Layer::Flatten,
        Layer::Linear {
            in_features: 75 * 9,
            out_features: 3,
            bias: false,
        },
    ];
    let (images, ids) = (images_of(3, 9), [3, 1, 2]);
    for encoder in ENCODERS {
        let network = made(layers.clone(), 9, encoder);
        let dense = network.run(batch(&images, &ids), T, T).expect("dense");
        let events = EventNetwork::new(&network).expect("events");
        let events = events.run(batch(&images, &ids), T).expect("events").run;
        assert_eq!(bytes(&events.spikes[&4]), bytes(&dense.spikes[&4]));
        assert_eq!(bytes(&events.logits), bytes(&dense.logits));
    }
}

/// Logits and gradients by the graph.
fn by_graph(
    network: &SpikingNetwork,
    images: &Tensor,
    ids: &[u64],
    g: &Tensor,
) -> (Tensor, Gradients) {
    let (trained, variables) = network.trainable().expect("variables");
    assert!(variables.iter().all(|(name, _)| !name.ends_with(".scale")));
    let pixels = Var::from_tensor(images).expect("a variable");
    let logits = trained.logits(batch(&pixels, ids), Mode::Training, T);
    let logits = logits.expect("logits");
    let loss = (&logits * g).and_then(|loss| loss.sum_all());
    let gradients = loss.and_then(|loss| loss.backward()).expect("gradients");
    let of = |variable: &Var| gradients.get(variable).expect("a gradient").clone();
    let parameters = variables
        .iter()
        .map(|(name, variable)| (name.clone(), of(variable)));
    let gradients = Gradients {
        parameters: parameters.collect(),
        images: Some(of(&pixels)),
    };
    (logits, gradients)
}

#[test]
fn backpropagation_through_time_equals_the_graph() {
    let (images, ids) = (images(3), [3, 1, 2]);
    let g = Seed::new(6).normal(&[3, 3], 0.0, 1.0, &Device::Cpu);
    let g = g.expect("numbers");
    let both = Wanted {
        parameters: true,
        images: true,
    };
    for encoder in ENCODERS {
        let network = network(encoder);
        let (logits, expected) = by_graph(&network, &images, &ids, &g);
        for wanted in [both, Wanted::PARAMETERS, Wanted::IMAGES] {
            for (keep, chunk) in [Keep::Spikes, Keep::Currents]
                .into_iter()
                .flat_map(|keep| [(keep, None), (keep, Some(3))])
            {
                let options = Options {
                    wanted,
                    keep,
                    chunk,
                    sums: Sums::Ordered,
                };
                let what = format!("{encoder:?} {options:?}");
                let batch = batch(&images, &ids);
                let pass = bptt::forward(&network, batch, Mode::Training, T, &options);
                let pass = pass.expect("a pass");
                assert_eq!(bytes(pass.logits()), bytes(&logits), "{what}");
                let gradients = pass.backward(&g).expect("gradients");
                let tolerance = Tolerance::Rounding(400.0);
                assert_eq!(gradients.images.is_some(), wanted.images, "{what}");
                if let (Some(ours), Some(theirs)) = (&gradients.images, &expected.images) {
                    assert_close(ours, theirs, tolerance, &what);
                }
                let count = if wanted.parameters {
                    expected.parameters.len()
                } else {
                    0
                };
                assert_eq!(gradients.parameters.len(), count, "{what}");
                for (name, ours) in &gradients.parameters {
                    let what = format!("{what} {name}");
                    assert_close(ours, &expected.parameters[name], tolerance, &what);
                }
            }
        }
    }
}

/// The sums of training, in which next to no neuron is so near its threshold that their rounding decides.
#[test]
fn fastest_sums_give_nearly_the_same() {
    let (network, images, ids) = (network(Encoder::Direct), images(3), [3, 1, 2]);
    let run = |sums| {
        let options = Options {
            sums,
            ..Options::default()
        };
        let batch = batch(&images, &ids);
        let pass = bptt::forward(&network, batch, Mode::Training, T, &options);
        let pass = pass.expect("a pass");
        let logits = pass.logits().clone();
        let g = logits.ones_like().expect("ones");
        (logits, pass.backward(&g).expect("gradients").parameters)
    };
    let (ordered, fastest) = (run(Sums::Ordered), run(Sums::Fastest));
    assert_close(&fastest.0, &ordered.0, Tolerance::Rounding(1e4), "logits");
    for (name, gradient) in &ordered.1 {
        assert_close(&fastest.1[name], gradient, Tolerance::Rounding(1e4), name);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (network, images) = (network(Encoder::Direct), images(5));
    assert_thread_independent("gradients", || {
        let batch = batch(&images, &[1, 2, 3, 4, 5]);
        let pass = bptt::forward(&network, batch, Mode::Training, T, &Options::default());
        let pass = pass.expect("a pass");
        let g = pass.logits().ones_like().expect("ones");
        let gradients = pass.backward(&g).expect("gradients");
        gradients
            .parameters
            .values()
            .flat_map(bytes)
            .collect::<Vec<_>>()
    });
}

#[test]
fn files_keep_shortcuts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (network, path) = (
        network(Encoder::Direct),
        folder.path().join("net.safetensors"),
    );
    network.save(&path).expect("saved");
    let back = SpikingNetwork::load(&path, &Device::Cpu).expect("loaded");
    assert_eq!(back.topology(), network.topology());
    for (name, tensor) in network.parameters().tensors() {
        assert_eq!(bytes(&back.parameters().tensors()[name]), bytes(tensor));
    }
}

/// The second shortcut adds 70 x 4 x 4 means in the source network, and in the spiking one every spike of the third
/// population once.
#[test]
fn energy_counts_shortcuts() {
    let (network, images) = (network(Encoder::Direct), images(4));
    let labels = Tensor::zeros(4, candle_core::DType::U32, &Device::Cpu).expect("labels");
    let options = EvaluateOptions::for_topology(network.topology(), Seed::new(1));
    let evaluation = evaluate(&network, &images, &labels, &[T], options, &mut silent);
    let evaluation = evaluation.expect("an evaluation");
    let energy = estimate(network.topology(), &evaluation, true).expect("an estimate");
    let layers: Vec<usize> = energy.layers.iter().map(|layer| layer.layer).collect();
    assert_eq!(layers, [0, 2, 4, 5, 8, 10, 11, 12, 16]);
    let layer = &energy.layers[6];
    let (additions, spikes) = (70.0 * 16.0, evaluation.spikes[&6].iter().sum::<f64>() / 4.0);
    assert!(spikes > 0.0);
    assert_eq!(layer.accumulates, spikes);
    assert_eq!(layer.ann_picojoule, additions * AC_PICOJOULE);
    let memory = additions * (AC_PICOJOULE + WORD_PICOJOULE);
    assert!((layer.ann_picojoule_memory / memory - 1.0).abs() < 1e-12);
    assert_eq!(layer.snn_picojoule_events, spikes * AC_PICOJOULE);
    let memory = spikes * (AC_PICOJOULE + 4.0 * WORD_PICOJOULE);
    assert!((layer.snn_picojoule_memory / memory - 1.0).abs() < 1e-12);
    let rate = spikes / (70.0 * 64.0 * T as f64);
    let by_rate = additions * rate * AC_PICOJOULE;
    assert!((layer.snn_picojoule_rate / by_rate - 1.0).abs() < 1e-12);
}
