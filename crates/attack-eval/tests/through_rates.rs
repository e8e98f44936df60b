//! A2 through the rates: its gradient against one written out, where it leads, what it refuses.

mod common;

use std::collections::BTreeMap;

use ann::Ann;
use attack_eval::attacks::ascent::input_gradient;
use attack_eval::attacks::{
    AscentConfig, Objective, RateTarget, SpikeGradientConfig, Target, Through, spike_gradient,
};
use attack_eval::{Error, rate_reading};
use candle_core::{Device, Tensor};
use common::{Outcome, cosine, largest_difference, network, per_layer, residual};
use snn_core::encode::Encoder;
use snn_core::network::Batch;
use snn_core::progress::silent;
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;
use snn_core::{ActivationFunction, Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};

const WIDTHS: [usize; 4] = [6, 7, 5, 3];
const STEPS: usize = 7;

/// Linear layers of these widths, with biases and a threshold for each channel.
fn linear_network(encoder: Encoder) -> Outcome<SpikingNetwork> {
    let seed = Seed::new(21);
    let mut layers = vec![Layer::Flatten];
    let mut tensors = BTreeMap::new();
    let mut thresholds = BTreeMap::new();
    for (number, pair) in WIDTHS.windows(2).enumerate() {
        let index = layers.len();
        let draw = |name: &str, shape: &[usize], mean, deviation| {
            let own = seed.derive(name).index(number as u64);
            own.normal(shape, mean, deviation, &Device::Cpu)
        };
        let weight = draw("weight", &[pair[1], pair[0]], 0.1, 0.6)?;
        tensors.insert(format!("{index}.weight"), weight);
        let bias = draw("bias", &[pair[1]], 0.1, 0.1)?;
        tensors.insert(format!("{index}.bias"), bias);
        layers.push(Layer::Linear {
            in_features: pair[0],
            out_features: pair[1],
            bias: true,
        });
        if number + 2 < WIDTHS.len() {
            let own = seed.derive("threshold").index(number as u64);
            let threshold = own.uniform(&[pair[1]], 0.6, 1.4, &Device::Cpu)?;
            thresholds.insert(index + 1, threshold);
            layers.push(Layer::Activation {
                function: ActivationFunction::Relu,
            });
        }
    }
    let topology = Topology::new("linear", [1, 2, 3], layers)?;
    let settings = SpikingSettings {
        encoder,
        initial_membrane: 0.5,
        readout_scale: 1.3,
        readout_delay: 2,
        ..SpikingSettings::default()
    };
    let parameters = Parameters::new(&topology, tensors)?;
    Ok(SpikingNetwork::new(
        topology, parameters, thresholds, settings,
    )?)
}

/// `W x + b` of layer `index`, and `W` transposed times what comes back.
struct Affine {
    weight: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

impl Affine {
    fn of(network: &SpikingNetwork, index: usize) -> Outcome<Self> {
        let parameters = network.parameters();
        Ok(Self {
            weight: parameters.weight(index)?.to_vec2()?,
            bias: parameters.bias(index).expect("it has one").to_vec1()?,
        })
    }

    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.weight.iter().zip(&self.bias);
        rows.map(|(row, bias)| {
            let products = row.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
            f64::from(*bias) + products.sum::<f64>()
        })
        .collect()
    }

    fn backward(&self, g: &[f64]) -> Vec<f64> {
        let columns = 0..self.weight[0].len();
        columns
            .map(|i| {
                let column = self.weight.iter().map(|row| f64::from(row[i]));
                column.zip(g).map(|(w, g)| w * g).sum()
            })
            .collect()
    }
}

/// Against the equations written out in f64, at the spikes that the network fired.
#[test]
fn the_gradient_matches_a_reference() -> Outcome<()> {
    const IMAGES: usize = 5;
    let images = Seed::new(22).uniform(&[IMAGES, 1, 2, 3], -1.0, 1.0, &Device::Cpu)?;
    let (classes, ids) = ([0, 1, 2, 0, 1], [3, 1, 4, 15, 9]);
    for (encoder, objective) in [
        (Encoder::Direct, Objective::Logit),
        (Encoder::Poisson, Objective::Logit),
        (Encoder::Direct, Objective::LogSoftmax),
    ] {
        let network = linear_network(encoder)?;
        let seed = Seed::new(23);
        let target = RateTarget::new(&network, STEPS, seed)?;
        let step = 2;
        let found = input_gradient(&target, &images, &classes, &ids, step, objective)?;
        let found: Vec<Vec<f32>> = found.flatten_from(1)?.to_vec2()?;
        let batch = Batch {
            images: &images,
            ids: &ids,
            seed: seed.index(step as u64),
        };
        let run = network.run(batch, STEPS, STEPS)?;
        let scores = target.class_scores(&images, &ids, step)?;
        assert_eq!(
            largest_difference(&scores, &run.logits.get(STEPS - 1)?)?,
            0.0
        );
        let scores: Vec<Vec<f32>> = scores.to_vec2()?;
        let pixels: Vec<Vec<f32>> = images.flatten_from(1)?.to_vec2()?;
        let (mut passed, mut stopped) = (0, 0);
        for n in 0..IMAGES {
            let mut before: Vec<f64> = pixels[n].iter().map(|&x| f64::from(x)).collect();
            let mut slopes = Vec::new();
            for population in network.topology().activations() {
                let currents = Affine::of(&network, population - 1)?.forward(&before);
                let thresholds: Vec<f32> = network.thresholds()[&population].to_vec1()?;
                let slope = currents.iter().zip(thresholds).map(|(&current, theta)| {
                    let theta = f64::from(theta);
                    // as far from an edge as rounding could not carry it
                    assert!(current.abs() > 1e-5 && (current - theta).abs() > 1e-5);
                    if 0.0 < current && current < theta {
                        passed += 1;
                        1.0 / theta
                    } else {
                        stopped += 1;
                        0.0
                    }
                });
                slopes.push(slope.collect::<Vec<f64>>());
                let spikes: Vec<f32> = run.spikes[&population].get(n)?.to_vec1()?;
                before = spikes
                    .iter()
                    .map(|&s| f64::from(s) / STEPS as f64)
                    .collect();
            }
            let last = network.topology().layers().len() - 1;
            let mut back = vec![0.0; WIDTHS[3]];
            if objective == Objective::LogSoftmax {
                let shares = scores[n].iter().map(|&s| f64::from(s).exp());
                let sum: f64 = shares.clone().sum();
                back = shares.map(|share| -share / sum).collect();
            }
            back[classes[n] as usize] += 1.0;
            back.iter_mut().for_each(|g| *g *= 1.3);
            back = Affine::of(&network, last)?.backward(&back);
            for population in network.topology().activations().into_iter().rev() {
                let slope = slopes.pop().expect("one of each population");
                back = back.iter().zip(slope).map(|(g, s)| g * s).collect();
                back = Affine::of(&network, population - 1)?.backward(&back);
            }
            for (got, expected) in found[n].iter().zip(back) {
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-5,
                    "{encoder:?}, {objective:?}, image {n}: {got} for {expected}"
                );
            }
        }
        assert!(passed > 10 && stopped > 10, "{passed} {stopped}");
    }
    Ok(())
}

fn spiking(source: &Ann, scales: &[f32]) -> Outcome<SpikingNetwork> {
    let spiking = per_layer(source, scales)?;
    let settings = SpikingSettings {
        encoder: Encoder::Direct,
        initial_membrane: 0.5,
        ..*spiking.settings()
    };
    Ok(spiking.with_settings(settings)?)
}

fn gradient(target: &dyn Target) -> Outcome<Tensor> {
    let images = Seed::new(2).uniform(&[4, 3, 8, 8], -1.0, 1.0, &Device::Cpu)?;
    let (classes, ids) = ([0, 1, 2, 3], [0, 1, 2, 3]);
    let objective = Objective::Logit;
    Ok(input_gradient(
        target, &images, &classes, &ids, 0, objective,
    )?)
}

/// The rates of a long window are those that the reading has.
#[test]
fn a_long_window_gives_the_gradient_of_the_reading() -> Outcome<()> {
    let seed = Seed::new(3);
    for source in [network(true, seed)?, residual(true, seed)?] {
        let network = spiking(&source, &[1.0, 1.5, 2.0])?;
        let expected = gradient(&rate_reading(&network)?)?;
        let at = |timesteps| -> Outcome<f32> {
            let target = RateTarget::new(&network, timesteps, Seed::new(1))?;
            cosine(&gradient(&target)?, &expected)
        };
        let (short, long) = (at(2)?, at(500)?);
        let name = source.topology().name();
        assert!(long > 0.99 && long > short, "{name}: {short} to {long}");
    }
    Ok(())
}

/// Of the network itself, run longer than the attack ran it.
#[test]
fn the_class_score_rises() -> Outcome<()> {
    let network = spiking(&network(false, Seed::new(3))?, &[0.4, 0.3, 0.2])?;
    let score = |iterations| -> Outcome<f32> {
        let config = SpikeGradientConfig {
            timesteps: 8,
            through: Through::Rates,
            ascent: AscentConfig {
                iterations,
                ..AscentConfig::adam()
            },
            ..SpikeGradientConfig::default()
        };
        let made = spike_gradient::run(&network, &config, 2, Seed::new(1), &mut silent)?;
        assert_eq!(made.images.dims(), [8, 3, 8, 8]);
        let batch = Batch {
            images: &made.images,
            ids: &[0, 1, 2, 3, 4, 5, 6, 7],
            seed: Seed::new(77),
        };
        let logits = network.run(batch, 64, 64)?.logits.get(63)?;
        let logits: Vec<Vec<f32>> = logits.to_vec2()?;
        let own: f32 = logits.iter().enumerate().map(|(i, row)| row[i % 4]).sum();
        let all: f32 = logits.iter().flatten().sum();
        Ok(own / 8.0 - all / 32.0)
    };
    let (early, late) = (score(1)?, score(25)?);
    assert!(
        late > early + 0.1 && late > 2.0 * early,
        "{early} to {late}"
    );
    Ok(())
}

#[test]
fn what_does_not_go_together_is_refused() -> Outcome<()> {
    let network = spiking(&network(false, Seed::new(3))?, &[0.4, 0.3, 0.2])?;
    assert!(RateTarget::new(&network, 0, Seed::new(1)).is_err());
    let config = SpikeGradientConfig {
        through: Through::Rates,
        surrogate: Some(Surrogate::default()),
        ..SpikeGradientConfig::default()
    };
    let with_reset = SpikeGradientConfig {
        surrogate: None,
        detach_reset: Some(false),
        ..config.clone()
    };
    for (config, setting) in [(&config, "surrogate"), (&with_reset, "detach_reset")] {
        match spike_gradient::run(&network, config, 1, Seed::new(1), &mut silent) {
            Err(Error::Argument { name, message }) => {
                assert_eq!(name, setting);
                assert!(message.contains("rates"), "{message}");
            }
            other => panic!("{:?}", other.map(|made| made.len())),
        }
    }
    // older settings do not know of them
    let text = serde_json::to_string(&SpikeGradientConfig::default())?;
    assert!(
        !text.contains("through") && !text.contains("reset"),
        "{text}"
    );
    assert!(serde_json::to_string(&config)?.contains(r#""through":"rates""#));
    Ok(())
}
