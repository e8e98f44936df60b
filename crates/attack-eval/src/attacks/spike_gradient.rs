//! A2: the class score raised through the spikes, with a surrogate gradient summed over time.

use serde::{Deserialize, Serialize};
use snn_core::SpikingNetwork;
use snn_core::progress::Watch;
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;

use super::ascent::{self, AscentConfig};
use super::{Reconstruction, SpikingTarget};
use crate::Result;

/// Settings of A2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpikeGradientConfig {
    /// Window of one forward pass, in steps. Memory grows with it times [`AscentConfig::batch`].
    pub timesteps: usize,
    /// The attacker's surrogate; none takes the one that the network was trained with.
    pub surrogate: Option<Surrogate>,
    /// The ascent.
    pub ascent: AscentConfig,
}

impl Default for SpikeGradientConfig {
    fn default() -> Self {
        Self {
            timesteps: 32,
            surrogate: None,
            ascent: AscentConfig::default(),
        }
    }
}

/// Rebuilds `per_class` images of each class from a spiking network, backpropagating the class score through
/// `timesteps` steps. Poisson coding lets the gradient through as the identity at each step, so that the image's
/// gradient is the sum over time; its noise is drawn afresh at each step of the ascent.
///
/// # Errors
/// Settings out of range, no images, no steps, scores that overflow, the watcher's wish to stop.
pub fn run(
    network: &SpikingNetwork,
    config: &SpikeGradientConfig,
    per_class: usize,
    seed: Seed,
    watch: &mut Watch,
) -> Result<Reconstruction> {
    let seed = seed.derive("spike gradient");
    let mut network = network.clone();
    if let Some(surrogate) = config.surrogate {
        let mut settings = *network.settings();
        settings.neuron.surrogate = surrogate;
        network = network.with_settings(settings)?;
    }
    let target = SpikingTarget::new(&network, config.timesteps, seed.derive("coder"))?;
    ascent::run(&target, &config.ascent, per_class, seed, watch)
}
