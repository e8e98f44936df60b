//! How the time of the event-driven engine grows with the firing rate and with the number of steps, beside the dense
//! engine's, which is the same at every rate.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use candle_core::{Device, Tensor};
use private_snn_benches::normal;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use snn_core::encode::Encoder;
use snn_core::event::{EventNetwork, EventRun};
use snn_core::network::Batch;
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, SpikingNetwork, SpikingSettings, Topology};

use crate::{Parts, Tensors, Work, neurons};

/// A population of `channels` on `side` x `side` that feeds a 3x3 convolution with as many channels, at several rates
/// and numbers of steps.
#[derive(Debug, Deserialize)]
pub struct Sizes {
    channels: usize,
    side: usize,
    batch: usize,
    points: Vec<Point>,
}

#[derive(Debug, Clone, Deserialize)]
struct Point {
    name: String,
    rate: f32,
    timesteps: usize,
    /// Whether the dense engine is timed.
    dense: bool,
}

/// The prepared network and an input for each point.
pub struct Scaling {
    dense: &'static SpikingNetwork,
    network: EventNetwork<'static>,
    points: Vec<(Point, Tensor)>,
    ids: Vec<u64>,
}

/// Steps that the dense engine takes together.
const CHUNK: usize = 16;

/// Above every current, so that events of the first population are the only ones.
const NEVER: f32 = 1e9;

impl Scaling {
    pub fn new(sizes: &Sizes) -> Result<Self> {
        let network: &'static SpikingNetwork = Box::leak(Box::new(network(sizes)?));
        let shape = [sizes.batch, sizes.channels, sizes.side, sizes.side];
        let seed = Seed::new(6);
        let input = |(i, point): (usize, &Point)| -> Result<(Point, Tensor)> {
            // a current of x thresholds per step makes a neuron fire in a share x of the steps
            let (least, most) = (
                (2.0 * point.rate - 1.0).max(0.0),
                (2.0 * point.rate).min(1.0),
            );
            let seed = seed.index(i as u64);
            let currents = seed.uniform(&shape, least, most, &Device::Cpu)?;
            Ok((point.clone(), currents))
        };
        let points = sizes.points.iter().enumerate().map(input);
        Ok(Self {
            dense: network,
            network: EventNetwork::new(network)?,
            points: points.collect::<Result<_>>()?,
            ids: (0..sizes.batch as u64).collect(),
        })
    }

    fn infer(&self, point: &Point, currents: &Tensor) -> Result<EventRun> {
        Ok(self.network.run(self.batch(currents), point.timesteps)?)
    }

    fn batch<'a>(&'a self, currents: &'a Tensor) -> Batch<'a> {
        Batch {
            images: currents,
            ids: &self.ids,
            seed: Seed::new(6),
        }
    }
}

fn network(sizes: &Sizes) -> Result<SpikingNetwork> {
    let (channels, positions) = (sizes.channels, sizes.side * sizes.side);
    let layers = vec![
        Layer::Activation {
            function: ActivationFunction::Relu,
        },
        Layer::Conv2d {
            in_channels: channels,
            out_channels: channels,
            kernel: 3,
            stride: 1,
            padding: 1,
            bias: false,
        },
        Layer::Activation {
            function: ActivationFunction::Relu,
        },
        Layer::Flatten,
        Layer::Linear {
            in_features: channels * positions,
            out_features: 1,
            bias: false,
        },
    ];
    let topology = Topology::new("scaling", [channels, sizes.side, sizes.side], layers)?;
    let tensors = BTreeMap::from([
        (
            "1.weight".into(),
            normal(&[channels, channels, 3, 3], "weight"),
        ),
        (
            "4.weight".into(),
            normal(&[1, channels * positions], "readout"),
        ),
    ]);
    let parameters = Parameters::new(&topology, tensors)?;
    let thresholds = BTreeMap::from([
        (0, Tensor::new(&[1f32], &Device::Cpu)?),
        (2, Tensor::new(&[NEVER], &Device::Cpu)?),
    ]);
    let settings = SpikingSettings {
        neuron: neurons::settings(1.0),
        encoder: Encoder::Direct,
        // rounds instead of flooring, so that low rates are met within few steps
        initial_membrane: 0.5,
        ..SpikingSettings::default()
    };
    Ok(SpikingNetwork::new(
        topology, parameters, thresholds, settings,
    )?)
}

impl Work for Scaling {
    fn run(&mut self) -> Result<Parts> {
        let mut parts = Parts::new();
        for (point, currents) in &self.points {
            let start = Instant::now();
            if point.dense {
                self.dense
                    .run(self.batch(currents), point.timesteps, CHUNK)?;
            } else {
                self.infer(point, currents)?;
            }
            parts.push((point.name.clone(), start.elapsed().as_secs_f64()));
        }
        Ok(parts)
    }

    /// Nobody to compare with.
    fn outputs(&mut self) -> Result<Tensors> {
        Ok(Tensors::new())
    }

    fn figures(&mut self) -> Result<Value> {
        let mut points = Map::new();
        for (point, currents) in &self.points {
            let run = self.infer(point, currents)?;
            let rate = run.run.spikes[&0].mean_all()?.to_scalar::<f32>()? / point.timesteps as f32;
            let operations: u64 = run.synaptic_operations.values().sum();
            let figures = json!({
                "timesteps": point.timesteps, "firing_rate": rate,
                "synaptic_operations": operations,
            });
            points.insert(point.name.clone(), figures);
        }
        Ok(json!({ "points": points }))
    }
}
