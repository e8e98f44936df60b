//! Evaluation against the network run image by image, and what it refuses.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use snn_core::encode::Encoder;
use snn_core::evaluate::{EvaluateOptions, argmax, evaluate};
use snn_core::network::Batch;
use snn_core::progress::{Flow, silent};
use snn_core::rng::Seed;
use snn_core::{
    ActivationFunction, Error, Layer, Parameters, SpikingNetwork, SpikingSettings, Topology,
};

fn network(encoder: Encoder) -> SpikingNetwork {
    let relu = Layer::Activation {
        function: ActivationFunction::Relu,
    };
    let layers = vec![
        Layer::Conv2d {
            in_channels: 1,
            out_channels: 3,
            kernel: 3,
            stride: 1,
            padding: 1,
            bias: false,
        },
        relu.clone(),
        Layer::AvgPool2d { kernel: 2 },
        Layer::Flatten,
        Layer::Linear {
            in_features: 12,
            out_features: 6,
            bias: true,
        },
        relu,
        Layer::Linear {
            in_features: 6,
            out_features: 4,
            bias: false,
        },
    ];
    let topology = Topology::new("tiny", [1, 4, 4], layers).expect("valid");
    let tensors = topology
        .tensor_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let tensor = Seed::new(5)
                .derive(&name)
                .normal(&shape, 0.05, 0.5, &Device::Cpu)?;
            Ok((name, tensor))
        })
        .collect::<snn_core::Result<BTreeMap<_, _>>>()
        .expect("tensors");
    let parameters = Parameters::new(&topology, tensors).expect("fits");
    let threshold = |value: f32| Tensor::new(&[value], &Device::Cpu).expect("a tensor");
    let settings = SpikingSettings {
        encoder,
        ..SpikingSettings::default()
    };
    let thresholds = BTreeMap::from([(1, threshold(0.6)), (5, threshold(0.4))]);
    SpikingNetwork::new(topology, parameters, thresholds, settings).expect("spikes")
}

fn images(n: usize) -> Tensor {
    Seed::new(8)
        .uniform(&[n, 1, 4, 4], -1.0, 1.0, &Device::Cpu)
        .expect("images")
}

fn labels(n: usize) -> Tensor {
    let values: Vec<u32> = (0..n as u32).map(|i| i % 4).collect();
    Tensor::new(values, &Device::Cpu).expect("labels")
}

fn options(batch: usize, chunk: usize) -> EvaluateOptions {
    EvaluateOptions {
        batch,
        chunk,
        seed: Seed::new(1),
    }
}

#[test]
fn equals_one_image_at_a_time() {
    for encoder in [Encoder::Poisson, Encoder::Direct] {
        let (network, images, labels) = (network(encoder), images(11), labels(11));
        let windows = [1, 2, 5, 9];
        let evaluation = evaluate(
            &network,
            &images,
            &labels,
            &windows,
            options(4, 2),
            &mut silent,
        )
        .expect("runs");
        assert_eq!((evaluation.samples, evaluation.timesteps), (11, 9));

        let mut correct = [0u32; 4];
        let mut spikes = BTreeMap::from([(1, vec![0.0; 48]), (5, vec![0.0; 6])]);
        let mut events = vec![0.0; 16];
        let labels: Vec<u32> = labels.to_vec1().expect("labels");
        for i in 0..11 {
            let image = images.narrow(0, i, 1).expect("an image");
            for (w, &window) in windows.iter().enumerate() {
                let batch = Batch {
                    images: &image,
                    ids: &[i as u64],
                    seed: Seed::new(1),
                };
                let run = network.run(batch, window, window).expect("runs");
                let logits: Vec<f32> = run
                    .logits
                    .get(window - 1)
                    .and_then(|t| t.get(0))
                    .and_then(|t| t.to_vec1())
                    .expect("logits");
                correct[w] += u32::from(argmax(&logits) == Some(labels[i] as usize));
                if window == 9 {
                    for (index, sum) in &mut spikes {
                        let counts: Vec<f32> = run.spikes[index]
                            .flatten_all()
                            .and_then(|t| t.to_vec1())
                            .expect("counts");
                        sum.iter_mut()
                            .zip(counts)
                            .for_each(|(s, c)| *s += f64::from(c));
                    }
                    if let Some(counts) = run.input_events {
                        let counts: Vec<f32> = counts
                            .flatten_all()
                            .and_then(|t| t.to_vec1())
                            .expect("counts");
                        events
                            .iter_mut()
                            .zip(counts)
                            .for_each(|(s, c)| *s += f64::from(c));
                    }
                }
            }
        }
        let expected: Vec<(usize, f64)> = windows
            .iter()
            .zip(correct)
            .map(|(&w, c)| (w, f64::from(c) / 11.0))
            .collect();
        assert_eq!(evaluation.accuracy_by_t, expected);
        assert_eq!(evaluation.accuracy(), expected[3].1);
        assert_eq!(evaluation.spikes, spikes);
        assert!(spikes[&1].iter().sum::<f64>() > 0.0 && spikes[&5].iter().sum::<f64>() > 0.0);
        match encoder {
            Encoder::Poisson => assert_eq!(evaluation.input_events, Some(events)),
            _ => assert_eq!(evaluation.input_events, None),
        }
    }
}

#[test]
fn batch_chunk_and_threads_change_nothing() {
    let (network, images, labels) = (network(Encoder::Poisson), images(9), labels(9));
    let run = |batch, chunk, threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a thread pool");
        pool.install(|| {
            evaluate(
                &network,
                &images,
                &labels,
                &[3, 8],
                options(batch, chunk),
                &mut silent,
            )
        })
        .expect("runs")
    };
    let reference = run(9, 8, 1);
    assert_eq!(reference, run(2, 3, 1));
    assert_eq!(reference, run(4, 1, 4));
}

#[test]
fn bad_input_is_an_error() {
    let network = network(Encoder::Direct);
    let run = |images: &Tensor, labels: &Tensor, windows: &[usize], options| {
        evaluate(&network, images, labels, windows, options, &mut silent)
            .expect_err("must be refused")
            .to_string()
    };
    let good = options(2, 2);
    for windows in [&[][..], &[0, 1], &[2, 2], &[4, 2]] {
        assert!(run(&images(3), &labels(3), windows, good).contains("windows"));
    }
    assert!(run(&images(3), &labels(2), &[1], good).contains("labels"));
    let beyond = Tensor::new(&[0u32, 4, 1], &Device::Cpu).expect("labels");
    assert!(run(&images(3), &beyond, &[1], good).contains("label 4 of image 1"));
    assert!(run(&images(3), &labels(3), &[1], options(0, 1)).contains("options"));
    assert!(run(&images(3), &labels(3), &[1], options(1, 0)).contains("options"));
    let none =
        Tensor::zeros((0, 1, 4, 4), candle_core::DType::F32, &Device::Cpu).expect("a tensor");
    assert!(run(&none, &labels(0), &[1], good).contains("images"));
    let bright = (images(3) * 3.0).expect("images");
    assert!(run(&bright, &labels(3), &[1], good).contains("[-1, 1]"));
    let mut values = vec![0f32; 48];
    values[20] = f32::NAN;
    let broken = Tensor::from_vec(values, (3, 1, 4, 4), &Device::Cpu).expect("a tensor");
    assert!(run(&broken, &labels(3), &[1], good).contains("image 1 holds NaN"));
    let shape =
        Tensor::zeros((3, 1, 4, 5), candle_core::DType::F32, &Device::Cpu).expect("a tensor");
    assert!(run(&shape, &labels(3), &[1], good).contains("images"));
}

#[test]
fn the_watcher_sees_images_and_can_stop() {
    let network = network(Encoder::Direct);
    let mut seen = Vec::new();
    let mut watch = |p: &snn_core::progress::Progress| {
        seen.push((p.done, p.total));
        if p.done >= 4 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    };
    let result = evaluate(
        &network,
        &images(7),
        &labels(7),
        &[2],
        options(2, 2),
        &mut watch,
    );
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(seen, [(2, 7), (4, 7)]);
}

#[test]
fn defaults_keep_memory_bounded() {
    let options = EvaluateOptions::for_topology(network(Encoder::Direct).topology(), Seed::new(0));
    assert_eq!((options.batch, options.chunk), (128, 16));
}
