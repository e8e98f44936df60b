//! A population of neurons over all steps, forward and backward.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use private_snn_benches::normal;
use serde::Deserialize;
use serde_json::{Value, json};
use snn_core::neuron::{self, Firing, NeuronSettings, Reset, Scan};
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;

use crate::{Inputs, Parts, Tensors, Work, gradient, tensor};

/// Currents `[T, N, C, H, W]`, uniform in [0, `largest_current`), thresholds 1.
#[derive(Debug, Deserialize)]
pub struct Sizes {
    shape: Vec<usize>,
    leak: f32,
    largest_current: f32,
}

/// The prepared population.
pub struct Population {
    currents: Var,
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
            currents: Var::from_tensor(&tensor(&tensors, "currents")?)?,
            upstream: tensor(&tensors, "upstream")?,
            threshold: Tensor::ones(1, DType::F32, &Device::Cpu)?,
            membrane: Tensor::zeros(&sizes.shape[1..], DType::F32, &Device::Cpu)?,
            settings: settings(sizes.leak),
        })
    }

    fn scan(&self, currents: &Tensor) -> Result<Scan> {
        let (threshold, membrane) = (&self.threshold, &self.membrane);
        Ok(neuron::scan(currents, threshold, membrane, &self.settings)?)
    }
}

impl Work for Population {
    fn run(&mut self) -> Result<Parts> {
        let start = Instant::now();
        let currents = self.currents.as_detached_tensor();
        let scan = self.scan(&currents)?;
        let forward = start.elapsed();
        let (threshold, membrane) = (&self.threshold, &self.membrane);
        let of_spikes = &self.upstream;
        let gradients =
            neuron::backward(&currents, threshold, membrane, &self.settings, of_spikes)?;
        let backward = start.elapsed() - forward;
        drop((scan, gradients));
        Ok(vec![
            ("forward".into(), forward.as_secs_f64()),
            ("backward".into(), backward.as_secs_f64()),
        ])
    }

    fn outputs(&mut self) -> Result<Tensors> {
        let scan = self.scan(self.currents.as_tensor())?;
        let gradients = gradient::backward(&scan.spikes, &self.upstream)?;
        let gradient = gradients.get(self.currents.as_tensor()).cloned();
        Ok(Tensors::from([
            ("spikes".into(), scan.spikes.detach()),
            ("gradient".into(), gradient.context("no gradient")?),
        ]))
    }

    fn figures(&mut self) -> Result<Value> {
        let scan = self.scan(&self.currents.as_detached_tensor())?;
        let rate = scan.spikes.mean_all()?.to_scalar::<f32>()?;
        Ok(json!({ "firing_rate": rate }))
    }
}
