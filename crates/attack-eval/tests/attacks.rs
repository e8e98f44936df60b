//! The ascent: that it climbs, its gradients, its determinism, what it refuses.

mod common;

use std::collections::BTreeMap;

use ann::{Ann, Mode};
use attack_eval::attacks::ascent::{self, input_gradient};
use attack_eval::attacks::{
    AscentConfig, BackConversionConfig, Objective, Reconstruction, SpikeGradientConfig,
    SpikingTarget, Through, Update, back_conversion, spike_gradient,
};
use attack_eval::{Error, relu_reading};
use candle_core::{Device, Tensor};
use common::{Outcome, cosine, largest_difference, network, per_layer};
use snn_core::encode::Encoder;
use snn_core::network::Batch;
use snn_core::progress::{Flow, silent};
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;
use snn_core::{ActivationFunction, Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};

fn mean_class_logit(ann: &Ann, made: &Reconstruction) -> Outcome<f32> {
    let logits: Vec<Vec<f32>> = ann.forward(&made.images, Mode::Inference)?.to_vec2()?;
    let classes: Vec<u32> = made.classes.to_vec1()?;
    let sum: f32 = logits
        .iter()
        .zip(&classes)
        .map(|(row, &c)| row[c as usize])
        .sum();
    Ok(sum / classes.len() as f32)
}

fn short(ascent: AscentConfig) -> AscentConfig {
    AscentConfig {
        iterations: 30,
        batch: 5,
        ..ascent
    }
}

#[test]
fn both_updates_and_objectives_raise_the_class_logit() -> Outcome<()> {
    let ann = network(true, Seed::new(3))?;
    for update in [Update::Gradient, Update::Adam] {
        for objective in [Objective::Logit, Objective::LogSoftmax] {
            let preset = match update {
                Update::Gradient => AscentConfig::classic(),
                Update::Adam => AscentConfig::adam(),
            };
            let config = |iterations| BackConversionConfig {
                ascent: AscentConfig {
                    objective,
                    iterations,
                    ..preset.clone()
                },
                ..BackConversionConfig::default()
            };
            let run = |n| back_conversion::run(&ann, &config(n), 3, Seed::new(1), &mut silent);
            let (early, late) = (run(1)?, run(30)?);
            assert_eq!(late.images.dims(), [12, 3, 8, 8]);
            assert_eq!(
                late.classes.to_vec1::<u32>()?,
                [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]
            );
            let (a, b) = (
                mean_class_logit(&ann, &early)?,
                mean_class_logit(&ann, &late)?,
            );
            assert!(b > a + 0.3, "{update:?} {objective:?}: {a} to {b}");
            assert!(late.images.abs()?.max_all()?.to_scalar::<f32>()? <= 1.0);
            let mean = |made: &Reconstruction| made.confidence.iter().sum::<f32>() / 12.0;
            assert!(mean(&late) > mean(&early) + 0.1);
        }
    }
    Ok(())
}

#[test]
fn of_unit_size_the_gradient_does_not_tell_how_steep_the_scores_are() -> Outcome<()> {
    let gentle = network(false, Seed::new(3))?;
    let mut steep = gentle.clone();
    let last = *gentle.topology().weighted().last().expect("a readout");
    let weight = gentle.parameters().weight(last)?;
    // a power of two, so that nothing rounds differently
    let raised = (weight * 1024.0)?;
    steep.parameters_mut().replace(last, "weight", raised)?;
    for update in [Update::Gradient, Update::Adam] {
        let run = |ann: &Ann, unit_gradient| {
            let config = BackConversionConfig {
                ascent: AscentConfig {
                    update,
                    learning_rate: 0.05,
                    unit_gradient,
                    total_variation: 0.3,
                    weight_decay: 0.1,
                    ..short(AscentConfig::adam())
                },
                ..BackConversionConfig::default()
            };
            back_conversion::run(ann, &config, 2, Seed::new(1), &mut silent)
        };
        let (a, b) = (run(&gentle, true)?, run(&steep, true)?);
        assert_eq!(largest_difference(&a.images, &b.images)?, 0.0, "{update:?}");
        let logit = mean_class_logit(&gentle, &a)?;
        assert!(logit > 0.3, "{update:?}: {logit}");
        // as they are, the steeper scores drown the pulls
        let (a, b) = (run(&gentle, false)?, run(&steep, false)?);
        assert!(
            largest_difference(&a.images, &b.images)? > 0.5,
            "{update:?}"
        );
    }
    Ok(())
}

/// Its pictures are the starting noise, and the attack says so.
#[test]
fn an_attack_without_a_gradient_is_counted() -> Outcome<()> {
    let source = network(false, Seed::new(3))?;
    let run = |scales: &[f32], iterations| {
        let spiking = per_layer(&source, scales)?;
        let config = SpikeGradientConfig {
            timesteps: 4,
            surrogate: Some(Surrogate::Rectangular { width: 0.5 }),
            ascent: AscentConfig {
                iterations,
                total_variation: 0.0,
                ..AscentConfig::adam()
            },
            ..SpikeGradientConfig::default()
        };
        let made = spike_gradient::run(&spiking, &config, 2, Seed::new(1), &mut silent)?;
        Outcome::Ok(made)
    };
    let (once, often) = (run(&[1e6, 1e6, 1e6], 1)?, run(&[1e6, 1e6, 1e6], 5)?);
    assert_eq!(once.guided, [0; 8]);
    assert_eq!(often.guided, [0; 8]);
    assert_eq!(largest_difference(&once.images, &often.images)?, 0.0);
    let awake = run(&[0.4, 0.3, 0.2], 5)?;
    assert!(awake.guided.iter().all(|&steps| steps > 0), "{awake:?}");
    Ok(())
}

#[test]
fn through_the_spikes_the_class_score_rises_too() -> Outcome<()> {
    let spiking = per_layer(&network(false, Seed::new(3))?, &[0.4, 0.3, 0.2])?;
    let config = |iterations, detach_reset| SpikeGradientConfig {
        timesteps: 8,
        surrogate: Some(Surrogate::Rectangular { width: 2.0 }),
        detach_reset,
        through: Through::Surrogate,
        ascent: AscentConfig {
            iterations,
            total_variation: 0.0,
            ..AscentConfig::adam()
        },
    };
    let run =
        |n, detach| spike_gradient::run(&spiking, &config(n, detach), 2, Seed::new(1), &mut silent);
    let (early, late) = (run(1, None)?, run(25, None)?);
    // the network's own is to leave the reset out
    let (same, other) = (run(25, Some(true))?, run(25, Some(false))?);
    assert_eq!(largest_difference(&late.images, &same.images)?, 0.0);
    assert!(largest_difference(&late.images, &other.images)? > 0.1);
    // judged through the spikes, over a longer window and with other noise
    let score = |made: &Reconstruction| -> Outcome<f32> {
        let ids: Vec<u64> = (100..108).collect();
        let batch = Batch {
            images: &made.images,
            ids: &ids,
            seed: Seed::new(77),
        };
        let logits = spiking.run(batch, 64, 64)?.logits.get(63)?;
        let logits: Vec<Vec<f32>> = logits.to_vec2()?;
        let own: f32 = logits.iter().enumerate().map(|(i, row)| row[i % 4]).sum();
        let all: f32 = logits.iter().flatten().sum();
        Ok(own / 8.0 - all / 32.0)
    };
    let (a, b) = (score(&early)?, score(&late)?);
    assert!(b > a + 0.1 && b > 2.0 * a, "{a} to {b}");
    let c = score(&other)?;
    assert!(c > a + 0.1 && c > 2.0 * a, "{a} to {c}");
    Ok(())
}

/// Against backpropagation through time written out for one hidden layer, in f64.
#[test]
fn gradient_through_the_spikes_matches_a_reference() -> Outcome<()> {
    const INPUTS: usize = 4;
    const HIDDEN: usize = 5;
    const CLASSES: usize = 3;
    const STEPS: usize = 6;
    let layers = vec![
        Layer::Flatten,
        Layer::Linear {
            in_features: INPUTS,
            out_features: HIDDEN,
            bias: false,
        },
        Layer::Activation {
            function: ActivationFunction::Relu,
        },
        Layer::Linear {
            in_features: HIDDEN,
            out_features: CLASSES,
            bias: false,
        },
    ];
    let topology = Topology::new("tiny", [1, 2, 2], layers)?;
    let draw = |name: &str, shape: &[usize]| {
        Seed::new(11)
            .derive(name)
            .normal(shape, 0.2, 0.6, &Device::Cpu)
    };
    let (first, second) = (
        draw("first", &[HIDDEN, INPUTS])?,
        draw("second", &[CLASSES, HIDDEN])?,
    );
    let tensors = BTreeMap::from([
        ("1.weight".to_string(), first.clone()),
        ("3.weight".to_string(), second.clone()),
    ]);
    let threshold = 0.7f32;
    let thresholds = BTreeMap::from([(2, Tensor::new(&[threshold], &Device::Cpu)?)]);
    let settings = SpikingSettings {
        encoder: Encoder::Direct,
        readout_scale: 1.7,
        ..SpikingSettings::default()
    };
    let spiking = SpikingNetwork::new(
        topology.clone(),
        Parameters::new(&topology, tensors)?,
        thresholds,
        settings,
    )?;
    let images = Seed::new(12).uniform(&[3, 1, 2, 2], -1.0, 1.0, &Device::Cpu)?;
    let target = SpikingTarget::new(&spiking, STEPS, Seed::new(1))?;
    let classes = [2, 0, 1];
    let gradient = input_gradient(&target, &images, &classes, &[0, 1, 2], 0, Objective::Logit)?;
    let gradient: Vec<f32> = gradient.flatten_all()?.to_vec1()?;

    let (first, second): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (first.to_vec2()?, second.to_vec2()?);
    let images: Vec<f32> = images.flatten_all()?.to_vec1()?;
    let (mut largest, theta) = (0f64, f64::from(threshold));
    for (n, &class) in classes.iter().enumerate() {
        let mut expected = [0f64; INPUTS];
        for j in 0..HIDDEN {
            let current: f64 = (0..INPUTS)
                .map(|i| f64::from(first[j][i]) * f64::from(images[n * INPUTS + i]))
                .sum();
            let (mut v, mut before_reset) = (0f64, Vec::new());
            for _ in 0..STEPS {
                v += current;
                before_reset.push(v);
                if v > theta {
                    v -= theta;
                }
            }
            // dL/ds is the same at each step; the soft reset passes dL/dv on unchanged
            let per_spike = 1.7 / STEPS as f64 * f64::from(second[class as usize][j]);
            let (mut carried, mut total) = (0f64, 0f64);
            for u in before_reset.iter().rev() {
                carried += per_spike
                    * f64::from(Surrogate::default().derivative((u / theta - 1.0) as f32))
                    / theta;
                total += carried;
            }
            for i in 0..INPUTS {
                expected[i] += total * f64::from(first[j][i]);
            }
        }
        for i in 0..INPUTS {
            let got = f64::from(gradient[n * INPUTS + i]);
            assert!(
                (got - expected[i]).abs() < 1e-5,
                "image {n}, pixel {i}: {got} for {}",
                expected[i]
            );
            largest = largest.max(expected[i].abs());
        }
    }
    assert!(
        largest > 0.05,
        "no neuron was near its threshold: nothing was tested"
    );
    Ok(())
}

/// With many steps and a wide window the gradient through the spikes points where the reading's does.
#[test]
fn long_windows_align_both_gradients() -> Outcome<()> {
    let source = network(false, Seed::new(3))?;
    let spiking = per_layer(&source, &[1.0, 1.5, 2.0])?;
    let mut settings = *spiking.settings();
    settings.neuron.surrogate = Surrogate::Rectangular { width: 2.0 };
    // the membrane must not carry gradients over the whole window: they would count each spike again and again
    settings.neuron.detach_reset = false;
    settings.encoder = Encoder::Direct;
    let spiking = spiking.with_settings(settings)?;
    let images = Seed::new(2).uniform(&[4, 3, 8, 8], -1.0, 1.0, &Device::Cpu)?;
    let (classes, ids) = ([0, 1, 2, 3], [0, 1, 2, 3]);
    let relu = input_gradient(
        &relu_reading(&spiking)?,
        &images,
        &classes,
        &ids,
        0,
        Objective::Logit,
    )?;
    let target = SpikingTarget::new(&spiking, 24, Seed::new(1))?;
    let spikes = input_gradient(&target, &images, &classes, &ids, 0, Objective::Logit)?;
    let cosine = cosine(&relu, &spikes)?;
    assert!(cosine > 0.5, "cosine {cosine}");
    Ok(())
}

/// An image is a function of seed, class and number: not of the batch it is in, of how many are made, or of threads.
#[test]
fn images_do_not_depend_on_batch_or_threads() -> Outcome<()> {
    let ann = network(true, Seed::new(3))?;
    let spiking = per_layer(&network(false, Seed::new(3))?, &[0.4, 0.3, 0.2])?;
    let run = |unit_gradient, batch, per_class, threads| -> Outcome<[Tensor; 3]> {
        let ascent = AscentConfig {
            iterations: 6,
            batch,
            unit_gradient,
            total_variation: 0.1,
            ..AscentConfig::adam()
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        let both = pool.install(|| -> attack_eval::Result<_> {
            let one = BackConversionConfig {
                ascent: ascent.clone(),
                ..BackConversionConfig::default()
            };
            let two = |through| {
                let config = SpikeGradientConfig {
                    timesteps: 4,
                    through,
                    surrogate: None,
                    detach_reset: None,
                    ascent: ascent.clone(),
                };
                spike_gradient::run(&spiking, &config, per_class, Seed::new(1), &mut silent)
            };
            Ok([
                back_conversion::run(&ann, &one, per_class, Seed::new(1), &mut silent)?.images,
                two(Through::Surrogate)?.images,
                two(Through::Rates)?.images,
            ])
        })?;
        Ok(both)
    };
    for unit_gradient in [false, true] {
        let one_thread = run(unit_gradient, 100, 3, 1)?;
        let threads = run(unit_gradient, 100, 3, 4)?;
        let batches = run(unit_gradient, 5, 4, 2)?;
        for ((one_thread, threads), batches) in one_thread.iter().zip(&threads).zip(&batches) {
            assert_eq!(largest_difference(one_thread, threads)?, 0.0);
            let difference = largest_difference(one_thread, &batches.narrow(0, 0, 12)?)?;
            assert!(difference < 1e-3, "{difference}");
        }
    }
    let other = {
        let config = BackConversionConfig {
            ascent: AscentConfig {
                iterations: 6,
                ..AscentConfig::adam()
            },
            ..BackConversionConfig::default()
        };
        back_conversion::run(&ann, &config, 3, Seed::new(2), &mut silent)?.images
    };
    assert!(largest_difference(&run(false, 100, 3, 2)?[0], &other)? > 0.1);
    Ok(())
}

#[test]
fn bad_settings_are_refused_by_name() -> Outcome<()> {
    let ann = network(false, Seed::new(3))?;
    let good = short(AscentConfig::classic());
    let cases: [(&str, AscentConfig); 9] = [
        (
            "iterations",
            AscentConfig {
                iterations: 0,
                ..good.clone()
            },
        ),
        (
            "batch",
            AscentConfig {
                batch: 0,
                ..good.clone()
            },
        ),
        (
            "learning_rate",
            AscentConfig {
                learning_rate: f64::NAN,
                ..good.clone()
            },
        ),
        (
            "learning_rate",
            AscentConfig {
                learning_rate: -1.0,
                ..good.clone()
            },
        ),
        (
            "weight_decay",
            AscentConfig {
                weight_decay: -1e-4,
                ..good.clone()
            },
        ),
        (
            "total_variation",
            AscentConfig {
                total_variation: f64::INFINITY,
                ..good.clone()
            },
        ),
        (
            "blur_radius",
            AscentConfig {
                blur_radius: 0.0,
                ..good.clone()
            },
        ),
        (
            "blur_radius",
            AscentConfig {
                blur_radius: 1e9,
                ..good.clone()
            },
        ),
        (
            "start_amplitude",
            AscentConfig {
                start_amplitude: 1.5,
                ..good.clone()
            },
        ),
    ];
    for (name, config) in cases {
        match ascent::run(&ann, &config, 1, Seed::new(1), &mut silent) {
            Err(Error::Argument { name: got, .. }) => assert_eq!(got, name),
            other => panic!("{name}: {:?}", other.map(|made| made.len())),
        }
    }
    for per_class in [0, usize::MAX] {
        assert!(matches!(
            ascent::run(&ann, &good, per_class, Seed::new(1), &mut silent),
            Err(Error::Argument {
                name: "per_class",
                ..
            })
        ));
    }
    let spiking = per_layer(&ann, &[0.4, 0.3, 0.2])?;
    assert!(SpikingTarget::new(&spiking, 0, Seed::new(1)).is_err());
    let unknown = serde_json::from_str::<AscentConfig>(r#"{"iterationen": 3}"#);
    assert!(unknown.is_err());
    let partial: AscentConfig = serde_json::from_str(r#"{"iterations": 3, "update": "adam"}"#)?;
    assert_eq!(
        partial,
        AscentConfig {
            iterations: 3,
            update: Update::Adam,
            ..AscentConfig::classic()
        }
    );
    Ok(())
}

#[test]
fn an_overflowing_network_and_a_stop_end_the_ascent() -> Outcome<()> {
    let mut ann = network(false, Seed::new(3))?;
    let config = short(AscentConfig::classic());
    let mut calls = 0;
    let mut watch = |_: &snn_core::progress::Progress| {
        calls += 1;
        if calls == 4 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    };
    let stopped = ascent::run(&ann, &config, 1, Seed::new(1), &mut watch);
    assert!(matches!(
        stopped,
        Err(Error::Core(snn_core::Error::Interrupted))
    ));
    assert_eq!(calls, 4);

    for layer in ann.topology().weighted() {
        let huge = (ann.parameters().weight(layer)? * 1e18)?;
        ann.parameters_mut().replace(layer, "weight", huge)?;
    }
    let diverged = ascent::run(&ann, &config, 1, Seed::new(1), &mut silent);
    assert!(
        matches!(diverged, Err(Error::Diverged { .. })),
        "{:?}",
        diverged.err()
    );
    Ok(())
}

/// A window without coder noise in the gradient's way: the images' ids select the noise, the step renews it.
#[test]
fn coder_noise_is_fresh_at_each_step() -> Outcome<()> {
    use attack_eval::attacks::Target;
    let spiking = per_layer(&network(false, Seed::new(3))?, &[0.4, 0.3, 0.2])?;
    let target = SpikingTarget::new(&spiking, 5, Seed::new(1))?;
    let images = Seed::new(2).uniform(&[2, 3, 8, 8], -1.0, 1.0, &Device::Cpu)?;
    let scores = |ids: &[u64], step| target.class_scores(&images, ids, step);
    let first = scores(&[0, 1], 0)?;
    assert_eq!(largest_difference(&first, &scores(&[0, 1], 0)?)?, 0.0);
    assert!(largest_difference(&first, &scores(&[0, 1], 1)?)? > 0.0);
    assert!(largest_difference(&first, &scores(&[2, 3], 0)?)? > 0.0);
    let batch = Batch {
        images: &images,
        ids: &[0, 1],
        seed: Seed::new(1).index(0),
    };
    let logits = spiking.logits(batch, snn_core::network::Mode::Inference, 5)?;
    assert_eq!(largest_difference(&first, &logits)?, 0.0);
    Ok(())
}
