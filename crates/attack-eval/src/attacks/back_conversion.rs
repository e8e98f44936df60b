//! A1: the network's weights read as an ANN, and the class score raised by gradient ascent on the input.
//!
//! Against a spiking network, attack the [`Reading`] that the settings name; against a source network, the network
//! itself.

use ann::Ann;
use serde::{Deserialize, Serialize};
use snn_core::SpikingNetwork;
use snn_core::progress::Watch;
use snn_core::rng::Seed;

use super::Reconstruction;
use super::ascent::{self, AscentConfig};
use crate::{Result, rate_reading, relu_reading};

/// How the weights of a spiking network are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// As a plain ReLU network, the paper's: [`crate::relu_reading()`].
    #[default]
    Relu,
    /// As a network of rates, which are clipped at the thresholds: [`crate::rate_reading()`].
    Rates,
}

impl Reading {
    /// The reading of a network.
    ///
    /// # Errors
    /// A tensor that is missing from the network or cannot be read.
    pub fn of(self, network: &SpikingNetwork) -> Result<Ann> {
        match self {
            Self::Relu => relu_reading(network),
            Self::Rates => rate_reading(network),
        }
    }
}

/// Settings of A1. The default is the paper's generator as its authors adapted it ([`AscentConfig::classic`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackConversionConfig {
    /// How the weights are read.
    pub reading: Reading,
    /// The ascent.
    pub ascent: AscentConfig,
}

/// Rebuilds `per_class` images of each class from a source network or from a reading.
///
/// # Errors
/// Settings out of range, no images, scores that overflow, the watcher's wish to stop.
pub fn run(
    network: &Ann,
    config: &BackConversionConfig,
    per_class: usize,
    seed: Seed,
    watch: &mut Watch,
) -> Result<Reconstruction> {
    ascent::run(
        &constants(network),
        &config.ascent,
        per_class,
        seed.derive("back conversion"),
        watch,
    )
}

/// The network with weights as constants: no gradient of a weight is ever needed.
fn constants(network: &Ann) -> Ann {
    network.detached()
}

#[cfg(test)]
mod tests {
    use ann::{Depth, NetworkConfig};
    use candle_core::{Device, Var};

    use super::super::Target;
    use super::*;

    /// Of a network in training nothing but the images gets a gradient.
    #[test]
    fn the_graph_goes_through_the_images_alone() -> Result<()> {
        let plan = NetworkConfig {
            width: 0.1,
            hidden: 0,
            ..NetworkConfig::paper(Depth::Vgg5)
        };
        let network = Ann::initialise(plan.topology([2, 4, 4], 3)?, Seed::new(2), &Device::Cpu)?;
        let (network, variables) = network.trainable()?;
        let images = Seed::new(1).uniform(&[2, 2, 4, 4], -1.0, 1.0, &Device::Cpu)?;
        let images = Var::from_tensor(&images)?;
        let gradients = |network: &Ann| -> Result<_> {
            let scores = network.class_scores(images.as_tensor(), &[0, 1], 0)?;
            Ok(scores.sum_all()?.backward()?)
        };
        assert!(gradients(&network)?.get(&variables[0].1).is_some());
        let of_attack = gradients(&constants(&network))?;
        assert_eq!(of_attack.get_ids().count(), 1);
        assert!(of_attack.get(&images).is_some());
        Ok(())
    }
}
