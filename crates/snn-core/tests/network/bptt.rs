//! Backpropagation through time against the graph of the logits.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use snn_core::bptt::{self, Gradients, Keep, Options, Wanted};
use snn_core::encode::Encoder;
use snn_core::network::{Batch, Mode};
use snn_core::neuron::{Firing, NeuronSettings, Reset};
use snn_core::ops::conv2d::Sums;
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;
use snn_core::{Layer, Result, SpikingNetwork, SpikingSettings, Topology};
use testkit::{Tolerance, assert_close, assert_thread_independent, check_gradient};

use crate::{RELU, bytes, network, parameters};

/// Sums over steps, positions and images in another order, from the top layer to the bottom.
const SUMS: Tolerance = Tolerance::Rounding(200.0);
/// The same through Winograd's convolution, whose error is up to six times as large.
const FASTEST: Tolerance = Tolerance::Rounding(6.0 * 200.0);

const BOTH: Wanted = Wanted {
    parameters: true,
    images: true,
};

fn images(n: usize, [c, h, w]: [usize; 3]) -> Tensor {
    Seed::new(8)
        .uniform(&[n, c, h, w], -1.0, 1.0, &Device::Cpu)
        .expect("images")
}

fn ids(n: usize) -> Vec<u64> {
    (0..n as u64).map(|i| 3 * i + 1).collect()
}

fn batch<'a>(images: &'a Tensor, ids: &'a [u64]) -> Batch<'a> {
    Batch {
        images,
        ids,
        seed: Seed::new(4),
    }
}

/// A gradient of the logits that tells all of them apart.
fn g_logits(logits: &Tensor) -> Tensor {
    Seed::new(6)
        .normal(logits.dims(), 0.0, 1.0, &Device::Cpu)
        .expect("normal numbers")
}

/// Logits and gradients by the graph.
fn by_graph(
    network: &SpikingNetwork,
    batch: Batch,
    mode: Mode,
    t: usize,
) -> Result<(Tensor, Gradients)> {
    let (network, variables) = network.trainable()?;
    let images = Var::from_tensor(batch.images)?;
    let batch = Batch {
        images: images.as_tensor(),
        ..batch
    };
    let logits = network.logits(batch, mode, t)?;
    let gradients = (&logits * g_logits(&logits))?.sum_all()?.backward()?;
    let of = |variable: &Var| gradients.get(variable).cloned();
    let parameters = variables
        .iter()
        .filter_map(|(name, variable)| Some((name.clone(), of(variable)?)))
        .collect();
    Ok((
        logits.detach(),
        Gradients {
            parameters,
            images: of(&images),
        },
    ))
}

fn by_hand(
    network: &SpikingNetwork,
    batch: Batch,
    mode: Mode,
    t: usize,
    options: &Options,
) -> Result<(Tensor, Gradients)> {
    let pass = bptt::forward(network, batch, mode, t, options)?;
    let logits = pass.logits().clone();
    let gradients = pass.backward(&g_logits(&logits))?;
    Ok((logits, gradients))
}

#[track_caller]
fn assert_same(what: &str, hand: &Gradients, graph: &Gradients, tolerance: Tolerance) {
    let names = |g: &Gradients| g.parameters.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(hand), names(graph), "{what}");
    for (name, gradient) in &graph.parameters {
        assert_close(
            &hand.parameters[name],
            gradient,
            tolerance,
            &format!("{what}: {name}"),
        );
    }
    match (&hand.images, &graph.images) {
        (Some(hand), Some(graph)) => {
            assert_close(hand, graph, tolerance, &format!("{what}: images"))
        }
        (hand, graph) => assert_eq!(hand.is_some(), graph.is_some(), "{what}: images"),
    }
}

/// Compares every way of keeping with the graph; the logits bit for bit.
#[track_caller]
fn assert_twins(what: &str, network: &SpikingNetwork, n: usize, t: usize) {
    let (images, ids) = (images(n, network.topology().input()), ids(n));
    let batch = batch(&images, &ids);
    let mode = Mode::Training;
    let (logits, graph) = by_graph(network, batch, mode, t).expect("the graph");
    for keep in [Keep::Spikes, Keep::Currents] {
        for chunk in [None, Some(1), Some(3), Some(t), Some(t + 5)] {
            let options = Options {
                wanted: BOTH,
                keep,
                chunk,
                sums: Sums::Ordered,
            };
            let (own, hand) = by_hand(network, batch, mode, t, &options).expect("by hand");
            let what = format!("{what}, N = {n}, T = {t}, {keep:?}, chunk {chunk:?}");
            assert_eq!(bytes(&own), bytes(&logits), "{what}: logits");
            assert_same(&what, &hand, &graph, SUMS);
        }
    }
}

fn settings(encoder: Encoder, neuron: NeuronSettings) -> SpikingSettings {
    SpikingSettings {
        neuron,
        encoder,
        initial_membrane: 0.5,
        readout_scale: 1.5,
        readout_delay: 2,
    }
}

fn conv(channels: [usize; 2], kernel: usize, stride: usize, padding: usize, bias: bool) -> Layer {
    Layer::Conv2d {
        in_channels: channels[0],
        out_channels: channels[1],
        kernel,
        stride,
        padding,
        bias,
    }
}

fn linear(in_features: usize, out_features: usize, bias: bool) -> Layer {
    Layer::Linear {
        in_features,
        out_features,
        bias,
    }
}

fn net(input: [usize; 3], layers: Vec<Layer>, settings: SpikingSettings) -> SpikingNetwork {
    let topology = Topology::new("net", input, layers).expect("a topology that fits");
    let shapes = topology.shapes();
    let thresholds: BTreeMap<usize, Tensor> = topology
        .activations()
        .into_iter()
        .map(|index| {
            let thresholds: Vec<f32> = (0..shapes[index][0])
                .map(|c| 0.4 + 0.1 * (c % 5) as f32)
                .collect();
            (
                index,
                Tensor::new(thresholds, &Device::Cpu).expect("thresholds"),
            )
        })
        .collect();
    let parameters = parameters(&topology);
    SpikingNetwork::new(topology, parameters, thresholds, settings).expect("a network")
}

/// Odd sizes, a stride, pools, dropouts in a row, and channels over several blocks.
fn odd(settings: SpikingSettings) -> SpikingNetwork {
    let layers = vec![
        conv([3, 5], 3, 1, 1, true),
        RELU,
        Layer::AvgPool2d { kernel: 2 },
        Layer::Dropout { probability: 0.25 },
        conv([5, 67], 3, 2, 1, false),
        RELU,
        Layer::Dropout { probability: 0.5 },
        Layer::Dropout { probability: 0.25 },
        conv([67, 3], 1, 1, 0, true),
        RELU,
        Layer::Flatten,
        linear(45, 33, true),
        RELU,
        linear(33, 3, false),
    ];
    net([3, 10, 18], layers, settings)
}

#[test]
fn equals_the_graph_for_all_neurons() {
    let surrogates = [
        Surrogate::default(),
        Surrogate::Atan { alpha: 2.0 },
        Surrogate::Sigmoid { alpha: 4.0 },
        Surrogate::Rectangular { width: 1.0 },
        Surrogate::SuperSpike { beta: 3.0 },
    ];
    for surrogate in surrogates {
        for (reset, firing) in [
            (Reset::Soft, Firing::Above),
            (Reset::Hard, Firing::AtOrAbove),
        ] {
            for detach_reset in [true, false] {
                for leak in [1.0, 0.75] {
                    let neuron = NeuronSettings {
                        leak,
                        reset,
                        firing,
                        surrogate,
                        detach_reset,
                    };
                    for encoder in [Encoder::Poisson, Encoder::Direct] {
                        let network = network(settings(encoder, neuron));
                        assert_twins(&format!("{neuron:?} {encoder:?}"), &network, 2, 7);
                    }
                }
            }
        }
    }
}

#[test]
fn equals_the_graph_for_odd_sizes() {
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        let network = odd(settings(encoder, NeuronSettings::default()));
        for (n, t) in [(1, 1), (3, 1), (5, 6), (2, 13)] {
            assert_twins(&format!("{encoder:?}"), &network, n, t);
        }
    }
}

/// Populations fed by the input itself, two weighted layers or a pool before a population, none at all.
#[test]
fn equals_the_graph_for_unusual_orders() {
    let orders = [
        vec![
            RELU,
            Layer::Flatten,
            linear(32, 4, true),
            RELU,
            linear(4, 3, true),
        ],
        vec![
            Layer::AvgPool2d { kernel: 2 },
            Layer::Dropout { probability: 0.25 },
            conv([2, 5], 3, 1, 1, true),
            conv([5, 4], 1, 1, 0, false),
            Layer::AvgPool2d { kernel: 2 },
            Layer::Dropout { probability: 0.25 },
            RELU,
            RELU,
            Layer::Flatten,
            linear(4, 6, false),
            linear(6, 3, true),
        ],
        vec![Layer::Flatten, linear(32, 3, true)],
    ];
    for layers in orders {
        for encoder in [Encoder::Poisson, Encoder::Direct] {
            let network = net(
                [2, 4, 4],
                layers.clone(),
                settings(encoder, NeuronSettings::default()),
            );
            assert_twins(&format!("{encoder:?} {layers:?}"), &network, 3, 5);
        }
    }
}

#[test]
fn silent_and_always_firing_populations() {
    for bias in [-100.0, 100.0] {
        let network = odd(settings(Encoder::Direct, NeuronSettings::default()));
        let mut tensors = network.parameters().tensors().clone();
        let constant = Tensor::full(bias as f32, 5, &Device::Cpu).expect("a bias");
        tensors.insert("0.bias".into(), constant);
        let topology = network.topology().clone();
        let parameters = snn_core::Parameters::new(&topology, tensors).expect("parameters");
        let network = network.with_parameters(parameters).expect("a network");
        assert_twins(&format!("bias {bias}"), &network, 2, 5);
    }
}

/// Maps of sides that Winograd's convolution takes, some of which fire little.
#[test]
fn fastest_sums_are_those_of_the_graph_but_for_rounding() {
    let layers = vec![
        conv([3, 24], 3, 1, 1, true),
        RELU,
        conv([24, 20], 3, 1, 1, false),
        RELU,
        Layer::AvgPool2d { kernel: 2 },
        conv([20, 18], 3, 1, 1, true),
        RELU,
        Layer::Flatten,
        linear(18 * 16, 3, true),
    ];
    let (n, t) = (4, 7);
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        let network = net(
            [3, 8, 8],
            layers.clone(),
            settings(encoder, NeuronSettings::default()),
        );
        let (images, ids) = (images(n, [3, 8, 8]), ids(n));
        let all = batch(&images, &ids);
        let (ordered, graph) = by_graph(&network, all, Mode::Training, t).expect("the graph");
        let run_with = |batch: Batch, keep, chunk, sums| {
            let options = Options {
                wanted: BOTH,
                keep,
                chunk,
                sums,
            };
            by_hand(&network, batch, Mode::Training, t, &options).expect("by hand")
        };
        let run = |batch: Batch, keep, chunk| run_with(batch, keep, chunk, Sums::Fastest);
        let (logits, fastest) = run(all, Keep::Currents, None);
        assert_close(&logits, &ordered, FASTEST, "logits");
        let (_, other) = run_with(all, Keep::Currents, None, Sums::Ordered);
        let [fastest, other] = [fastest, other].map(|g| bytes(&g.images.expect("a gradient")));
        assert_ne!(fastest, other, "other membranes but for rounding");
        for (keep, chunk) in [
            (Keep::Currents, None),
            (Keep::Spikes, None),
            (Keep::Spikes, Some(3)),
            (Keep::Currents, Some(1)),
        ] {
            let (own, hand) = run(all, keep, chunk);
            let what = format!("{encoder:?}, {keep:?}, chunk {chunk:?}");
            assert_eq!(bytes(&own), bytes(&logits), "{what}: logits");
            assert_same(&what, &hand, &graph, FASTEST);
        }
        let one = images.narrow(0, 2, 1).expect("an image");
        let (alone, _) = run(batch(&one, &ids[2..3]), Keep::Currents, None);
        let among = logits.narrow(0, 2, 1).expect("its logits");
        assert_eq!(bytes(&alone), bytes(&among), "an image alone");
    }
}

#[test]
fn only_what_is_wanted() {
    let (images, ids) = (images(2, [3, 10, 18]), ids(2));
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        let network = odd(settings(encoder, NeuronSettings::default()));
        let run = |wanted: Wanted| {
            let options = Options {
                wanted,
                chunk: Some(4),
                ..Options::default()
            };
            by_hand(&network, batch(&images, &ids), Mode::Training, 9, &options)
                .expect("by hand")
                .1
        };
        let both = run(BOTH);
        let parameters = run(Wanted::PARAMETERS);
        assert!(parameters.images.is_none());
        assert_eq!(parameters.parameters.len(), 8);
        for (name, gradient) in &parameters.parameters {
            assert_eq!(bytes(gradient), bytes(&both.parameters[name]), "{name}");
        }
        let of_images = run(Wanted::IMAGES);
        assert!(of_images.parameters.is_empty());
        let gradient = |g: &Gradients| bytes(g.images.as_ref().expect("a gradient"));
        assert_eq!(gradient(&of_images), gradient(&both));
        let nothing = run(Wanted {
            parameters: false,
            images: false,
        });
        assert!(nothing.parameters.is_empty() && nothing.images.is_none());
    }
}

/// Off spikes, where there is a slope: the readout is linear in its own weights.
#[test]
fn gradients_are_slopes() {
    let network = odd(settings(Encoder::Direct, NeuronSettings::default()));
    let (images, ids) = (images(3, [3, 10, 18]), ids(3));
    let batch = batch(&images, &ids);
    let (_, hand) =
        by_hand(&network, batch, Mode::Training, 6, &Options::default()).expect("by hand");
    let weight = network.parameters().get(13, "weight").expect("a weight");
    let of_weight = |weight: &Tensor| {
        // a variable is no parameter of a checked network; its values are
        let mut parameters = network.parameters().clone();
        parameters.replace(13, "weight", weight.clone())?;
        let network = SpikingNetwork::new(
            network.topology().clone(),
            parameters,
            network.thresholds().clone(),
            *network.settings(),
        )?;
        let logits = network.logits(batch, Mode::Training, 6)?;
        Ok::<_, snn_core::Error>((&logits * g_logits(&logits))?.sum_all()?)
    };
    check_gradient(
        of_weight,
        weight,
        0.5,
        Tolerance::Rounding(1e3),
        "the graph's slope",
    );
    let variable = Var::from_tensor(weight).expect("a variable");
    let loss = of_weight(variable.as_tensor()).expect("the loss");
    let slope = loss.backward().expect("a slope");
    let slope = slope.get(&variable).expect("a slope");
    assert_close(
        &hand.parameters["13.weight"],
        slope,
        SUMS,
        "the readout's weight",
    );
}

/// As a node of a graph over the images it gives what the network's own graph gives.
#[test]
fn a_node_of_a_graph() {
    let (images, ids) = (images(3, [3, 10, 18]), ids(3));
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        let network = odd(settings(encoder, NeuronSettings::default()));
        let options = Options {
            sums: Sums::Ordered,
            ..Options::default()
        };
        let gradients = |node: bool| -> Result<(Tensor, Option<Tensor>)> {
            let variable = Var::from_tensor(&(&images * 0.5)?)?;
            // not the variable itself: the graph goes on below the node
            let shifted = (variable.as_tensor() + 0.1)?;
            let batch = batch(&shifted, &ids);
            let logits = match node {
                true => bptt::logits(&network, batch, Mode::Inference, 7, &options)?,
                false => network.logits(batch, Mode::Inference, 7)?,
            };
            let gradients = logits.sqr()?.sum_all()?.backward()?;
            Ok((logits.detach(), gradients.get(&variable).cloned()))
        };
        let (own, hand) = gradients(true).expect("the node");
        let (logits, graph) = gradients(false).expect("the graph");
        assert_eq!(bytes(&own), bytes(&logits));
        let (hand, graph) = hand.zip(graph).expect("gradients");
        assert_close(&hand, &graph, SUMS, "images");
        // no graph, no node
        let quiet = bptt::logits(&network, batch(&images, &ids), Mode::Inference, 7, &options);
        assert!(!quiet.expect("logits").track_op());
        let variable = Var::from_tensor(&images).expect("a variable");
        let batch = batch(variable.as_tensor(), &ids);
        let logits = bptt::logits(&network, batch, Mode::Inference, 7, &options).expect("logits");
        assert!(logits.backward().is_ok());
        let again = logits.backward().map(drop).expect_err("a second time");
        assert!(again.to_string().contains("once"), "{again}");
    }
}

#[test]
fn threads_do_not_matter() {
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        let network = odd(settings(encoder, NeuronSettings::default()));
        let (images, ids) = (images(9, [3, 10, 18]), ids(9));
        for chunk in [None, Some(3)] {
            assert_thread_independent("backpropagation through time", || {
                let options = Options {
                    wanted: BOTH,
                    chunk,
                    ..Options::default()
                };
                let (logits, hand) =
                    by_hand(&network, batch(&images, &ids), Mode::Training, 8, &options)
                        .expect("by hand");
                let mut all = bytes(&logits);
                for gradient in hand.parameters.values().chain(&hand.images) {
                    all.extend(bytes(gradient));
                }
                all
            });
        }
    }
}

/// Bits for spikes, and borders of chunks: nothing else grows with time.
#[test]
fn memory_over_time() {
    let network = odd(settings(Encoder::Poisson, NeuronSettings::default()));
    let n = 4;
    let (images, ids) = (images(n, [3, 10, 18]), ids(n));
    let units = [5 * 180, 67 * 15, 3 * 15, 33];
    let words: usize = units.iter().map(|units: &usize| units.div_ceil(64)).sum();
    let neurons: usize = units.iter().sum();
    let kept = |t: usize, keep, chunk| {
        let options = Options {
            wanted: BOTH,
            keep,
            chunk,
            ..Options::default()
        };
        bptt::forward(&network, batch(&images, &ids), Mode::Training, t, &options)
            .expect("a pass")
            .bytes_kept()
            .expect("no graph on the CPU")
    };
    for t in [1, 10, 100] {
        assert_eq!(kept(t, Keep::Spikes, None), t * n * words * 8);
        assert_eq!(
            kept(t, Keep::Currents, None),
            t * n * (words * 8 + neurons * 4)
        );
    }
    // close to one bit
    assert!(kept(100, Keep::Spikes, None) * 8 < 100 * n * neurons * 11 / 10);
    // membranes at all borders but the first, and one chunk
    for (t, chunk) in [(16, 4), (100, 10), (103, 10)] {
        let (borders, last) = ((t - 1) / chunk, (t - 1) % chunk + 1);
        let expected = borders * n * neurons * 4 + last * n * words * 8;
        assert_eq!(kept(t, Keep::Spikes, Some(chunk)), expected);
    }
    let sqrt = |t: usize, side| kept(t, Keep::Currents, Some(side));
    // four times the time, twice the memory
    assert!(sqrt(400, 20) * 10 < sqrt(100, 10) * 22);
    // a directly coded input's currents are kept once, if at all
    let network = odd(settings(Encoder::Direct, NeuronSettings::default()));
    let pass = |keep| {
        let options = Options {
            keep,
            ..Options::default()
        };
        bptt::forward(&network, batch(&images, &ids), Mode::Training, 10, &options)
            .expect("a pass")
            .bytes_kept()
            .expect("no graph on the CPU")
    };
    let spikes = 10 * n * words * 8;
    assert_eq!(pass(Keep::Spikes), spikes);
    let currents = (units[0] + 10 * (neurons - units[0])) * n * 4;
    assert_eq!(pass(Keep::Currents), spikes + currents);
}

#[test]
fn bad_arguments_are_refused() {
    let network = odd(SpikingSettings::default());
    let (images, ids) = (images(2, [3, 10, 18]), ids(2));
    let forward = |batch, t, chunk| {
        let options = Options {
            chunk,
            ..Options::default()
        };
        bptt::forward(&network, batch, Mode::Training, t, &options)
    };
    let message = |result: Result<_>| match result {
        Ok(_) => panic!("was not refused"),
        Err(error) => error.to_string(),
    };
    let good = batch(&images, &ids);
    let refused = message(forward(good, 3, Some(0)).map(drop));
    assert!(refused.contains("chunk"), "{refused}");
    let options = Options {
        chunk: Some(0),
        ..Options::default()
    };
    let refused = bptt::logits(&network, good, Mode::Training, 3, &options);
    let refused = message(refused.map(drop));
    assert!(refused.contains("chunk"), "without a graph too: {refused}");
    let refused = message(forward(good, 0, None).map(drop));
    assert!(refused.contains("at least one step"), "{refused}");
    let refused = message(forward(batch(&images, &ids[..1]), 3, None).map(drop));
    assert!(refused.contains("1 ids for 2 images"), "{refused}");
    let pass = || forward(good, 3, None).expect("a pass");
    let wrong = Tensor::zeros((3, 2), DType::F32, &Device::Cpu).expect("zeros");
    let refused = message(pass().backward(&wrong).map(drop));
    assert!(refused.contains("[2, 3]"), "{refused}");
    let wrong = Tensor::zeros((2, 3), DType::F64, &Device::Cpu).expect("zeros");
    let refused = message(pass().backward(&wrong).map(drop));
    assert!(refused.contains("F64"), "{refused}");
}
