use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use snn_core::encode::Encoder;
use snn_core::evaluate::{EvaluateOptions, evaluate};
use snn_core::network::{Batch, Mode, State};
use snn_core::neuron::{NeuronSettings, Reset};
use snn_core::ops::{avg_pool, conv2d, linear, neuron};
use snn_core::progress::silent;
use snn_core::rng::Seed;
use snn_core::{Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};
use testkit::{Tolerance, assert_close, assert_thread_independent, devices};

use crate::{RELU, bytes, images, network, parameters, thresholds, topology};

const T: usize = 12;

fn batch<'a>(images: &'a Tensor, ids: &'a [u64]) -> Batch<'a> {
    Batch {
        images,
        ids,
        seed: Seed::new(4),
    }
}

fn both_encoders() -> [SpikingSettings; 2] {
    [Encoder::Poisson, Encoder::Direct].map(|encoder| SpikingSettings {
        encoder,
        initial_membrane: 0.5,
        readout_scale: 1.5,
        neuron: NeuronSettings {
            leak: 0.9,
            ..NeuronSettings::default()
        },
        readout_delay: 0,
    })
}

/// The network written out, layer after layer with the reference kernels, one step at a time.
fn slowly(network: &SpikingNetwork, images: &Tensor, ids: &[u64]) -> snn_core::Result<Tensor> {
    let (parameters, settings) = (network.parameters(), network.settings());
    let mut membranes: BTreeMap<usize, Tensor> = BTreeMap::new();
    let mut sum: Option<Tensor> = None;
    for t in 0..T {
        let mut x = match settings.encoder {
            Encoder::Direct => images.clone(),
            Encoder::Poisson => {
                snn_core::encode::poisson(images, ids, t, 1, Seed::new(4).derive("coder"))?
                    .get(0)?
            }
        };
        for (index, layer) in network.topology().layers().iter().enumerate() {
            let weight = parameters.get(index, "weight");
            x = match layer {
                Layer::Conv2d { .. } => conv2d::reference::conv2d(
                    &x,
                    weight.expect("a weight"),
                    parameters.bias(index),
                    1,
                    1,
                )?,
                Layer::Linear { .. } => linear::reference::linear(
                    &x,
                    weight.expect("a weight"),
                    parameters.bias(index),
                )?,
                Layer::AvgPool2d { kernel } => avg_pool::reference::avg_pool2d(&x, *kernel)?,
                Layer::Flatten => x.flatten_from(1)?,
                Layer::Activation { .. } => {
                    let threshold = &network.thresholds()[&index];
                    let mut shape = vec![1; x.rank()];
                    shape[1] = threshold.elem_count();
                    let start = (threshold.reshape(shape)? * settings.initial_membrane)?
                        .broadcast_as(x.shape())?;
                    let before = membranes
                        .get(&index)
                        .cloned()
                        .unwrap_or(start.contiguous()?);
                    let scan = neuron::reference::scan(
                        &x.unsqueeze(0)?,
                        threshold,
                        &before,
                        &settings.neuron,
                    )?;
                    membranes.insert(index, scan.membrane);
                    scan.spikes.get(0)?
                }
                _ => x,
            };
        }
        sum = Some(match sum {
            Some(sum) => (sum + x)?,
            None => x,
        });
    }
    Ok((sum.expect("at least one step") * (settings.readout_scale / T as f64))?)
}

#[test]
fn logits_equal_a_slow_walk() {
    for settings in both_encoders() {
        let (network, images) = (network(settings), images(3));
        let logits = network
            .logits(batch(&images, &[1, 2, 3]), Mode::Inference, T)
            .expect("logits");
        let slow = slowly(&network, &images, &[1, 2, 3]).expect("logits");
        // a membrane within a rounding of its threshold would make this fail by a whole spike: none is
        let tolerance = Tolerance::Rounding(50.0);
        let what = format!("{:?}", settings.encoder);
        assert_close(&logits, &slow, tolerance, &what);
        for device in devices() {
            let (there, images) = (on(&network, &device), images.to_device(&device));
            let images = images.expect("moved");
            let run = there.run(batch(&images, &[1, 2, 3]), T, 5).expect("a run");
            let logits = run.logits.get(T - 1).expect("the last step");
            assert_close(&logits, &slow, tolerance, &format!("{what} on {device:?}"));
        }
    }
}

/// The network with its tensors on a device.
fn on(network: &SpikingNetwork, device: &Device) -> SpikingNetwork {
    let parameters = network.parameters().to_device(device).expect("moved");
    let thresholds = network.thresholds().iter();
    let thresholds = thresholds
        .map(|(&index, threshold)| Ok((index, threshold.to_device(device)?)))
        .collect::<candle_core::Result<_>>()
        .expect("moved");
    let topology = network.topology().clone();
    SpikingNetwork::new(topology, parameters, thresholds, *network.settings()).expect("a network")
}

/// Spikes of the batches of an evaluation, added up, are those of the network run at once.
#[test]
fn an_evaluation_counts_the_spikes_of_a_run() {
    let labels = Tensor::new(&[0u32, 1, 2, 0, 1], &Device::Cpu).expect("labels");
    let ids = [0, 1, 2, 3, 4];
    for settings in both_encoders() {
        let (network, images) = (network(settings), images(5));
        let run = network.run(batch(&images, &ids), T, T).expect("a run");
        for device in devices() {
            let options = EvaluateOptions {
                batch: 2,
                chunk: 5,
                seed: Seed::new(4),
            };
            let found = evaluate(
                &on(&network, &device),
                &images,
                &labels,
                &[T],
                options,
                &mut silent,
            )
            .expect("an evaluation");
            for (index, counts) in &run.spikes {
                let counts = counts.sum(0).and_then(|sum| sum.flatten_all()?.to_vec1());
                let counts: Vec<f32> = counts.expect("counts");
                let expected: Vec<f64> = counts.into_iter().map(f64::from).collect();
                assert!(expected.iter().sum::<f64>() > 0.0);
                assert_eq!(found.spikes[index], expected, "layer {index} on {device:?}");
            }
        }
    }
}

#[test]
fn a_delayed_readout_is_the_mean_of_the_steps_after_the_delay() {
    let (delay, images) = (3, images(2));
    for settings in both_encoders() {
        let network = network(SpikingSettings {
            readout_delay: delay,
            ..settings
        });
        let batch = batch(&images, &[1, 2]);
        let (stretch, _) = network
            .advance(batch, Mode::Inference, T, &State::default())
            .expect("the window");
        let run = network.run(batch, T, 2).expect("the window");
        for t in 1..=T {
            // windows up to the delay count every step
            let first = if t > delay { delay } else { 0 };
            let mean = stretch
                .readout
                .narrow(0, first, t - first)
                .and_then(|counted| counted.mean(0))
                .and_then(|mean| mean * settings.readout_scale)
                .expect("a mean");
            let logits = run.logits.get(t - 1).expect("logits");
            assert_close(
                &logits,
                &mean,
                Tolerance::Rounding(8.0),
                &format!("T = {t}"),
            );
            if t == T {
                let logits = network.logits(batch, Mode::Inference, T).expect("logits");
                assert_close(&logits, &mean, Tolerance::Rounding(8.0), "logits");
            }
        }
    }
}

#[test]
fn in_chunks_it_is_the_whole_window() {
    for settings in both_encoders() {
        let (network, images) = (network(settings), images(3));
        let batch = batch(&images, &[1, 2, 3]);
        let (whole, end) = network
            .advance(batch, Mode::Inference, T, &State::default())
            .expect("the window");
        let run = network.run(batch, T, T).expect("the window");
        for chunk in [1, 5] {
            let mut state = State::default();
            let mut readouts = Vec::new();
            for start in (0..T).step_by(chunk) {
                let steps = chunk.min(T - start);
                let (stretch, next) = network
                    .advance(batch, Mode::Inference, steps, &state)
                    .expect("a chunk");
                readouts.push(stretch.readout);
                state = next;
            }
            let readouts = Tensor::cat(&readouts, 0).expect("all steps");
            assert_eq!(bytes(&readouts), bytes(&whole.readout), "chunks of {chunk}");
            // the state goes on from the same place
            let after = |state: &State| {
                network
                    .advance(batch, Mode::Inference, 2, state)
                    .expect("two more")
                    .0
                    .readout
            };
            assert_eq!(
                bytes(&after(&state)),
                bytes(&after(&end)),
                "state after chunks of {chunk}"
            );

            let chunked = network.run(batch, T, chunk).expect("the window");
            assert_eq!(bytes(&chunked.logits), bytes(&run.logits));
            for (index, spikes) in &run.spikes {
                assert_eq!(
                    bytes(&chunked.spikes[index]),
                    bytes(spikes),
                    "spikes of layer {index}"
                );
            }
        }
        let logits = network.logits(batch, Mode::Inference, T).expect("logits");
        let last = run.logits.get(T - 1).expect("the last step");
        assert_close(&last, &logits, Tolerance::Rounding(20.0), "logits");
        let spikes = whole.spikes[&1].sum(0).expect("a sum over time");
        assert_close(&run.spikes[&1], &spikes, Tolerance::Exact, "spike counts");
        assert_eq!(
            run.input_events.is_some(),
            settings.encoder == Encoder::Poisson
        );
        let count: f32 = run.spikes[&1]
            .sum_all()
            .and_then(|s| s.to_scalar())
            .expect("a number");
        assert!(count > 0.0, "a test of silence shows nothing");
    }
}

#[test]
fn an_image_does_not_see_its_batch() {
    let (network, images) = (network(SpikingSettings::default()), images(20));
    let ids: Vec<u64> = (100..120).collect();
    for mode in [Mode::Inference, Mode::Training] {
        let all = network
            .logits(batch(&images, &ids), mode, T)
            .expect("the batch");
        let one = images.narrow(0, 7, 1).expect("an image");
        let one = network
            .logits(batch(&one, &ids[7..8]), mode, T)
            .expect("an image alone");
        assert_eq!(
            bytes(&one),
            bytes(&all.get(7).expect("its logits")),
            "{mode:?}"
        );
    }
}

#[test]
fn threads_do_not_matter() {
    assert_thread_independent("training step", || {
        let (network, variables) = network(SpikingSettings::default())
            .trainable()
            .expect("variables");
        let images = images(9);
        let ids: Vec<u64> = (0..9).collect();
        let logits = network
            .logits(batch(&images, &ids), Mode::Training, T)
            .expect("logits");
        let gradients = logits
            .sqr()
            .and_then(|l| l.sum_all()?.backward())
            .expect("backward");
        let mut all = bytes(&logits);
        for (name, variable) in &variables {
            all.extend(bytes(
                gradients
                    .get(variable)
                    .unwrap_or_else(|| panic!("no gradient of {name}")),
            ));
        }
        all
    });
}

#[test]
fn gradients_reach_weights_and_images() {
    let (network, variables) = network(SpikingSettings::default())
        .trainable()
        .expect("variables");
    let images = Var::from_tensor(&images(2)).expect("a variable");
    let logits = network
        .logits(batch(&images, &[1, 2]), Mode::Inference, T)
        .expect("logits");
    let gradients = logits
        .sqr()
        .and_then(|l| l.sum_all()?.backward())
        .expect("backward");
    let size = |v: &Var| -> f32 {
        let gradient = gradients.get(v).expect("a gradient");
        gradient
            .abs()
            .and_then(|g| g.sum_all()?.to_scalar())
            .expect("a number")
    };
    for (name, variable) in &variables {
        assert!(size(variable) > 0.0, "{name}");
    }
    assert!(size(&images) > 0.0);
    // a frozen copy keeps its numbers when the variables move
    let frozen = network.frozen().expect("a copy");
    let before = bytes(
        &frozen
            .logits(batch(&images, &[1, 2]), Mode::Inference, T)
            .expect("logits"),
    );
    let (_, weight) = &variables[0];
    weight
        .set(&weight.zeros_like().expect("zeros"))
        .expect("set");
    assert_eq!(
        bytes(
            &frozen
                .logits(batch(&images, &[1, 2]), Mode::Inference, T)
                .expect("logits")
        ),
        before
    );
    assert_ne!(
        bytes(
            &network
                .logits(batch(&images, &[1, 2]), Mode::Inference, T)
                .expect("logits")
        ),
        before
    );
}

#[test]
fn dropout_masks_are_held_over_time() {
    let (network, images) = (network(SpikingSettings::default()), images(4));
    let run = |mode| {
        network
            .logits(batch(&images, &[1, 2, 3, 4]), mode, T)
            .expect("logits")
    };
    assert_ne!(bytes(&run(Mode::Training)), bytes(&run(Mode::Inference)));
    // two chunks use one mask, so that they are one window
    let batch = batch(&images, &[1, 2, 3, 4]);
    let whole = network
        .advance(batch, Mode::Training, 4, &State::default())
        .expect("a window")
        .0;
    let (first, state) = network
        .advance(batch, Mode::Training, 2, &State::default())
        .expect("a half");
    let second = network
        .advance(batch, Mode::Training, 2, &state)
        .expect("a half")
        .0;
    let halves = Tensor::cat(&[first.readout, second.readout], 0).expect("both halves");
    assert_eq!(bytes(&halves), bytes(&whole.readout));
}

#[test]
fn bad_networks_name_their_layer() {
    let good = topology("tiny");
    let fail =
        |topology: Topology, thresholds: BTreeMap<usize, Tensor>, settings: SpikingSettings| {
            let parameters = parameters(&topology);
            SpikingNetwork::new(topology, parameters, thresholds, settings)
                .expect_err("a bad network")
                .to_string()
        };
    let threshold = |values: &[f32]| Tensor::new(values, &Device::Cpu).expect("a threshold");
    let with = |index: usize, tensor: Tensor| {
        let mut thresholds = thresholds();
        thresholds.insert(index, tensor);
        thresholds
    };
    let mut missing = thresholds();
    missing.remove(&6);
    let usual = SpikingSettings::default();
    for (message, expected) in [
        (
            fail(good.clone(), missing, usual),
            "layer 6 (activation): has no threshold",
        ),
        (
            fail(good.clone(), with(6, threshold(&[-1.0])), usual),
            "layer 6 (activation): threshold must be positive",
        ),
        (
            fail(good.clone(), with(6, threshold(&[f32::NAN])), usual),
            "layer 6 (activation): threshold must be positive",
        ),
        (
            fail(good.clone(), with(1, threshold(&[1.0, 2.0])), usual),
            "layer 1 (activation): threshold must be [1] or [4]",
        ),
        (
            fail(good.clone(), with(3, threshold(&[1.0])), usual),
            "layer 3 is not an activation",
        ),
        (
            fail(
                good.clone(),
                thresholds(),
                SpikingSettings {
                    initial_membrane: 1.0,
                    ..usual
                },
            ),
            "initial_membrane",
        ),
        (
            fail(
                good.clone(),
                thresholds(),
                SpikingSettings {
                    readout_scale: f64::NAN,
                    ..usual
                },
            ),
            "readout_scale",
        ),
        (
            fail(
                good.clone(),
                thresholds(),
                SpikingSettings {
                    neuron: NeuronSettings {
                        leak: 0.0,
                        reset: Reset::Hard,
                        ..usual.neuron
                    },
                    ..usual
                },
            ),
            "neuron.leak",
        ),
    ] {
        assert!(
            message.contains(expected),
            "`{message}` should contain `{expected}`"
        );
    }
    let doubles = threshold(&[1.0]).to_dtype(DType::F64).expect("f64");
    assert!(
        fail(good.clone(), with(6, doubles), usual)
            .contains("layer 6 (activation): threshold must be f32")
    );

    let pooled = |layer: Layer| {
        let layers = vec![
            layer,
            Layer::Flatten,
            Layer::Linear {
                in_features: 48,
                out_features: 2,
                bias: false,
            },
        ];
        Topology::new("bad", [3, 8, 8], layers).expect("a topology")
    };
    let max = pooled(Layer::MaxPool2d { kernel: 2 });
    assert!(fail(max, BTreeMap::new(), usual).contains("layer 0 (max_pool2d)"));
    let layers = vec![
        Layer::BatchNorm {
            channels: 3,
            epsilon: 1e-5,
        },
        RELU,
        Layer::Flatten,
        Layer::Linear {
            in_features: 192,
            out_features: 2,
            bias: false,
        },
    ];
    let normed = Topology::new("bad", [3, 8, 8], layers).expect("a topology");
    assert!(fail(normed, BTreeMap::new(), usual).contains("layer 0 (batch_norm): must be folded"));

    // parameters of another topology
    let layers = vec![
        Layer::Flatten,
        Layer::Linear {
            in_features: 192,
            out_features: 2,
            bias: false,
        },
    ];
    let other = Topology::new("other", [3, 8, 8], layers).expect("a topology");
    let message = SpikingNetwork::new(good, parameters(&other), thresholds(), usual)
        .expect_err("a misfit")
        .to_string();
    assert!(
        message.contains("layer 0 (conv2d): tensor `0.bias` is missing")
            || message.contains("`0.weight` is missing"),
        "{message}"
    );
}

#[test]
fn bad_batches_are_errors() {
    let (network, images) = (network(SpikingSettings::default()), images(2));
    let error = |images: &Tensor, ids: &[u64], steps: usize| {
        network
            .logits(batch(images, ids), Mode::Inference, steps)
            .expect_err("a bad batch")
            .to_string()
    };
    assert!(error(&images, &[1, 2], 0).contains("at least one step"));
    assert!(error(&images, &[1], 3).contains("an id per image"));
    assert!(error(&images.narrow(2, 0, 7).expect("a part"), &[1, 2], 3).contains("[N, 3, 8, 8]"));
    assert!(error(&images.narrow(0, 0, 0).expect("nothing"), &[], 3).contains("N at least 1"));
    let nan = (&images * f64::NAN).expect("no numbers");
    assert!(error(&nan, &[1, 2], 3).contains("not finite"));
    assert!(network.run(batch(&images, &[1, 2]), 0, 4).is_err());
    // a state of another batch
    let (_, state) = network
        .advance(
            batch(&images, &[1, 2]),
            Mode::Inference,
            1,
            &State::default(),
        )
        .expect("a step");
    let one = images.narrow(0, 0, 1).expect("an image");
    assert!(
        network
            .advance(batch(&one, &[1]), Mode::Inference, 1, &state)
            .is_err()
    );
}

#[test]
fn bad_parameters_name_their_layer() {
    let topology = topology("tiny");
    let good = parameters(&topology).tensors().clone();
    let fail = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        Parameters::new(&topology, tensors)
            .expect_err("bad parameters")
            .to_string()
    };
    let zeros =
        |shape: &[usize], dtype: DType| Tensor::zeros(shape, dtype, &Device::Cpu).expect("zeros");
    assert!(
        fail(&|t| drop(t.remove("5.weight")))
            .contains("layer 5 (linear): tensor `5.weight` is missing")
    );
    assert!(
        fail(&|t| drop(t.insert("7.bias".into(), zeros(&[4], DType::F32))))
            .contains("layer 7 (linear)")
    );
    assert!(
        fail(&|t| drop(t.insert("7.bias".into(), zeros(&[3], DType::F64)))).contains("must be f32")
    );
    assert!(
        fail(&|t| drop(t.insert("2.weight".into(), zeros(&[3], DType::F32))))
            .contains("layer 2 (dropout)")
    );
    for value in [f64::NAN, f64::INFINITY] {
        let bad = (zeros(&[3], DType::F32) + value).expect("no number");
        assert!(
            fail(&|t| drop(t.insert("7.bias".into(), bad.clone())))
                .contains("`7.bias` holds a value that is not finite")
        );
    }
}
