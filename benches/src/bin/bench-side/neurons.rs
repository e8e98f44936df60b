//! A population of neurons over all steps, forward and backward.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use private_snn_benches::normal;
use serde::Deserialize;
use serde_json::{Value, json};
use snn_core::neuron::{self, Firing, NeuronSettings, Reset, Scan};
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;

use crate::{Inputs, Parts, Tensors, Work, tensor};

/// Currents `[T, N, C, H, W]`, uniform in [0, `largest_current`), thresholds 1.
#[derive(Debug, Deserialize)]
pub struct Sizes {
    shape: Vec<usize>,
    leak: f32,
    largest_current: f32,
}

/// The prepared population.
pub struct Population {
    currents: Tensor,
    upstream: Tensor,
    threshold: Tensor,
    membrane: Tensor,
    settings: NeuronSettings,
}

/// The dynamics that all sides compute: soft reset, firing at or above the threshold, arctangent surrogate, no gradient
/// through the reset.
pub fn settings(leak: f32) -> NeuronSettings {
    NeuronSettings {
        leak,
        reset: Reset::Soft,
        firing: Firing::AtOrAbove,
        surrogate: Surrogate::Atan { alpha: 2.0 },
        detach_reset: true,
    }
}

impl Population {
    pub fn new(sizes: &Sizes, inputs: &Inputs) -> Result<Self> {
        let tensors = inputs.get(|| {
            let seed = Seed::new(1).derive("currents");
            let currents = seed.uniform(&sizes.shape, 0.0, sizes.largest_current, &Device::Cpu)?;
            let upstream = normal(&sizes.shape, "upstream");
            Ok(Tensors::from([
                ("currents".into(), currents),
                ("upstream".into(), upstream),
            ]))
        })?;
        Ok(Self {
            currents: tensor(&tensors, "currents")?,
            upstream: tensor(&tensors, "upstream")?,
            threshold: Tensor::ones(1, DType::F32, &Device::Cpu)?,
            membrane: Tensor::zeros(&sizes.shape[1..], DType::F32, &Device::Cpu)?,
            settings: settings(sizes.leak),
        })
    }

    fn scan(&self) -> Result<Scan> {
        let (threshold, membrane) = (&self.threshold, &self.membrane);
        let scan = neuron::scan(&self.currents, threshold, membrane, &self.settings);
        Ok(scan?)
    }

    /// Gradients of the currents and of the first membranes.
    fn backward(&self) -> Result<(Tensor, Tensor)> {
        let (threshold, membrane) = (&self.threshold, &self.membrane);
        let (currents, upstream) = (&self.currents, &self.upstream);
        let gradients = neuron::backward(currents, threshold, membrane, &self.settings, upstream);
        Ok(gradients?)
    }
}

impl Work for Population {
    fn run(&mut self) -> Result<Parts> {
        let start = Instant::now();
        let scan = self.scan()?;
        let forward = start.elapsed();
        let gradients = self.backward()?;
        let backward = start.elapsed() - forward;
        drop((scan, gradients));
        Ok(vec![
            ("forward".into(), forward.as_secs_f64()),
            ("backward".into(), backward.as_secs_f64()),
        ])
    }

    fn outputs(&mut self) -> Result<Tensors> {
        let (gradient, _) = self.backward()?;
        Ok(Tensors::from([
            ("spikes".into(), self.scan()?.spikes),
            ("gradient".into(), gradient),
        ]))
    }

    fn figures(&mut self) -> Result<Value> {
        let scan = self.scan()?;
        let rate = scan.spikes.mean_all()?.to_scalar::<f32>()?;
        Ok(json!({ "firing_rate": rate }))
    }
}
