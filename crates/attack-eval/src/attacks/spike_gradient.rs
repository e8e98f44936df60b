//! A2: the class score of the running network raised, by a gradient through its spikes or through its rates.

use serde::{Deserialize, Serialize};
use snn_core::SpikingNetwork;
use snn_core::progress::Watch;
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;

use super::ascent::{self, AscentConfig};
use super::{RateTarget, Reconstruction, SpikingTarget};
use crate::{Error, Result};

/// What the gradient goes back through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Through {
    /// Each spike, with a surrogate's derivative, summed over time: [`SpikingTarget`].
    #[default]
    Surrogate,
    /// The firing rates of the window: [`RateTarget`].
    Rates,
}

impl Through {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of A2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpikeGradientConfig {
    /// Window of one forward pass, in steps. Through spikes, memory grows with it times [`AscentConfig::batch`].
    pub timesteps: usize,
    /// What the gradient goes back through.
    // left out where it is what it always was, so that what was computed then is known again
    #[serde(skip_serializing_if = "Through::is_default")]
    pub through: Through,
    /// The attacker's surrogate; none takes the one that the network was trained with. Rates have none.
    pub surrogate: Option<Surrogate>,
    /// Whether the gradient leaves out the way through the reset; none does as in the network's training. Without that way a
    /// membrane that does not leak hands a spike's gradient on to every later step, as if the spike had not taken its threshold
    /// away. Rates have no reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detach_reset: Option<bool>,
    /// The ascent.
    pub ascent: AscentConfig,
}

impl Default for SpikeGradientConfig {
    fn default() -> Self {
        Self {
            timesteps: 32,
            through: Through::default(),
            surrogate: None,
            detach_reset: None,
            ascent: AscentConfig::default(),
        }
    }
}

impl SpikeGradientConfig {
    /// Refuses settings outside their domain, or that do not go together.
    ///
    /// # Errors
    /// The first field at fault, by name.
    pub fn check(&self) -> Result<()> {
        if self.through == Through::Rates && self.surrogate.is_some() {
            return Err(Error::argument(
                "surrogate",
                "has no part in a gradient through rates; leave it out, or set through = \"surrogate\"",
            ));
        }
        if self.through == Through::Rates && self.detach_reset.is_some() {
            return Err(Error::argument(
                "detach_reset",
                "has no part in a gradient through rates; leave it out, or set through = \"surrogate\"",
            ));
        }
        if self.timesteps == 0 {
            return Err(Error::argument("timesteps", "must be at least 1"));
        }
        if let Some(surrogate) = self.surrogate {
            surrogate.check()?;
        }
        self.ascent.check()
    }
}

/// Rebuilds `per_class` images of each class from a spiking network, backpropagating the class score of `timesteps` steps
/// through them or through the rates. Through the spikes, Poisson coding lets the gradient pass as the identity at each
/// step, so that the image's gradient is the sum over time. Its noise is drawn afresh at each step of the ascent.
///
/// # Errors
/// Settings out of range or that do not go together, no images, no steps, scores that overflow, the watcher's wish to stop.
pub fn run(
    network: &SpikingNetwork,
    config: &SpikeGradientConfig,
    per_class: usize,
    seed: Seed,
    watch: &mut Watch,
) -> Result<Reconstruction> {
    config.check()?;
    let (seed, timesteps) = (seed.derive("spike gradient"), config.timesteps);
    let coder = seed.derive("coder");
    if config.through == Through::Rates {
        let target = RateTarget::new(network, timesteps, coder)?;
        return ascent::run(&target, &config.ascent, per_class, seed, watch);
    }
    let mut settings = *network.settings();
    let neuron = &mut settings.neuron;
    neuron.surrogate = config.surrogate.unwrap_or(neuron.surrogate);
    neuron.detach_reset = config.detach_reset.unwrap_or(neuron.detach_reset);
    let network = network.clone().with_settings(settings)?;
    let target = SpikingTarget::new(&network, timesteps, coder)?;
    ascent::run(&target, &config.ascent, per_class, seed, watch)
}
