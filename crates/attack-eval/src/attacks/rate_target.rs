//! A spiking network whose spikes are run and whose gradient goes through rates.

use std::collections::BTreeMap;

use ann::{Ann, Pass};
use candle_core::{Device, Tensor, Var};
use snn_core::engine::Engine;
use snn_core::network::{Batch, Run};
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, Topology};

use super::Target;
use super::target::gradient_of;
use crate::{Error, Result, rate_reading};

/// Steps at a time where the network does not run by events. No result depends on it.
const CHUNK: usize = 16;

/// A spiking network run for a fixed window of T steps, with fresh coder noise at each step of the ascent. Scores are those
/// of the spikes; the gradient goes back through the firing rates `r_l` that the run showed,
///
/// ```text
/// r_l = 1/T sum_t s_l(t)        I_l = W_l r_(l-1) + b_l        dL/dI_l = 1/theta_l [0 < I_l < theta_l] dL/dr_l
/// ```
///
/// which is the slope of a soft-reset neuron's rate with its mean input current (Bu et al., "Rate gradient approximation
/// attack threats deep spiking neural networks", CVPR 2023). A surrogate lets little through where a membrane is far from
/// its threshold at a step, whatever the neuron does in the window; here a neuron that fires at some of the steps lets all
/// through, as in [`rate_reading()`], but at the rates that the network has rather than at those that it tends to as T grows.
///
/// The first layer sees the image itself, which is the mean of either coding. Leak is ignored on the way back, and so is the
/// readout's delay.
#[derive(Debug, Clone)]
pub struct RateTarget {
    network: SpikingNetwork,
    reading: Ann,
    timesteps: usize,
    seed: Seed,
}

impl RateTarget {
    /// A network and its window.
    ///
    /// # Errors
    /// No time steps; what [`rate_reading()`] refuses.
    pub fn new(network: &SpikingNetwork, timesteps: usize, seed: Seed) -> Result<Self> {
        if timesteps == 0 {
            return Err(Error::argument("timesteps", "must be at least 1"));
        }
        Ok(Self {
            reading: rate_reading(network)?.detached(),
            network: network.frozen()?,
            timesteps,
            seed,
        })
    }

    fn run(&self, images: &Tensor, ids: &[u64], step: usize) -> Result<Run> {
        let images = images.detach();
        let batch = Batch {
            images: &images,
            ids,
            seed: self.seed.index(step as u64),
        };
        Ok(Engine::of(&self.network).run(batch, self.timesteps, CHUNK)?)
    }

    fn scores(&self, run: &Run) -> Result<Tensor> {
        Ok(run.logits.get(self.timesteps - 1)?)
    }
}

impl Target for RateTarget {
    fn topology(&self) -> &Topology {
        self.network.topology()
    }

    fn device(&self) -> Device {
        self.network.parameters().device()
    }

    fn class_scores(&self, images: &Tensor, ids: &[u64], step: usize) -> Result<Tensor> {
        self.scores(&self.run(images, ids, step)?)
    }

    fn gradient(
        &self,
        images: &Tensor,
        ids: &[u64],
        step: usize,
        objective: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let run = self.run(images, ids, step)?;
        let scores = Var::from_tensor(&self.scores(&run)?)?;
        let of_scores = gradient_of(&objective(scores.as_tensor())?, &scores)?;
        let rates = run.spikes.iter().map(|(&population, spikes)| {
            let rate = (spikes / self.timesteps as f64)?;
            Ok((population, rate))
        });
        let rates: BTreeMap<usize, Tensor> = rates.collect::<Result<_>>()?;
        let mode = ann::Mode::Inference;
        let pass = Pass::forward_measured(&self.reading, &images.detach(), mode, rates)?;
        Ok(pass.image_gradient(of_scores, &BTreeMap::new())?)
    }
}
