//! A spiking network whose spikes are run and whose gradient goes through rates.

use std::collections::BTreeMap;

use ann::{Ann, Pass};
use candle_core::{Device, Tensor, Var};
use snn_core::engine::Engine;
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, Topology};

use super::Target;
use super::target::{Window, gradient_of};
use crate::{Result, rate_reading};

/// Steps at a time where the network does not run by events. No result depends on it.
const CHUNK: usize = 16;

/// A spiking network run for a fixed window of T steps, with fresh coder noise at each step of the ascent. Scores are those
/// of the spikes; the gradient goes back through the firing rates `r_l` that the run showed,
///
/// ```text
/// r_l = 1/T sum_t s_l(t)        I_l = W_l r_(l-1) + b_l        dL/dI_l = 1/theta_l [0 < I_l < theta_l] dL/dr_l
/// ```
///
/// which is the slope of a soft-reset neuron's rate with its mean input current `I_l`, pools and shortcuts being part of
/// `W_l` (Bu et al., "Rate gradient approximation attack threats deep spiking neural networks", CVPR 2023). A surrogate lets
/// little through where a membrane is far from its threshold at a step, whatever the neuron does in the window; here a
/// neuron whose mean current lies between 0 and its threshold lets all through, as in [`rate_reading()`], but at the rates
/// that the network has rather than at those that it tends to as T grows.
///
/// The first layer sees the image itself, which is the mean of either coding. Leak, a hard reset and the readout's delay are
/// left out of account on the way back: the scores that are raised know of them.
#[derive(Debug, Clone)]
pub struct RateTarget {
    window: Window,
    reading: Ann,
}

impl RateTarget {
    /// A network and its window.
    ///
    /// # Errors
    /// No time steps; what [`rate_reading()`] refuses.
    pub fn new(network: &SpikingNetwork, timesteps: usize, seed: Seed) -> Result<Self> {
        Ok(Self {
            window: Window::new(network, timesteps, seed)?,
            reading: rate_reading(network)?.detached(),
        })
    }

    /// Scores `[N, K]`, and the spikes of each population, by layer, summed over the window.
    fn run(
        &self,
        images: &Tensor,
        ids: &[u64],
        step: usize,
    ) -> Result<(Tensor, BTreeMap<usize, Tensor>)> {
        let Window {
            network, timesteps, ..
        } = &self.window;
        let batch = self.window.batch(images, ids, step);
        let run = Engine::of(network).run(batch, *timesteps, CHUNK)?;
        Ok((run.logits.get(timesteps - 1)?, run.spikes))
    }
}

impl Target for RateTarget {
    fn topology(&self) -> &Topology {
        self.window.network.topology()
    }

    fn device(&self) -> Device {
        self.window.network.parameters().device()
    }

    fn class_scores(&self, images: &Tensor, ids: &[u64], step: usize) -> Result<Tensor> {
        Ok(self.run(&images.detach(), ids, step)?.0)
    }

    fn gradient(
        &self,
        images: &Tensor,
        ids: &[u64],
        step: usize,
        objective: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let images = images.detach();
        let (scores, spikes) = self.run(&images, ids, step)?;
        let scores = Var::from_tensor(&scores)?;
        let of_scores = gradient_of(&objective(scores.as_tensor())?, &scores)?;
        let rates = spikes.into_iter().map(|(population, spikes)| {
            let rate = (spikes / self.window.timesteps as f64)?;
            Ok((population, rate))
        });
        let rates: BTreeMap<usize, Tensor> = rates.collect::<Result<_>>()?;
        let pass = Pass::forward_measured(&self.reading, &images, rates)?;
        Ok(pass.image_gradient(of_scores, &BTreeMap::new())?)
    }
}
