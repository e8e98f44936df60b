//! A1: the network's weights read as an ANN, and the class score raised by gradient ascent on the input.
//!
//! Against a spiking network, attack its [`crate::relu_reading()`]; against a source network, the network itself.

use ann::Ann;
use serde::{Deserialize, Serialize};
use snn_core::progress::Watch;
use snn_core::rng::Seed;

use super::Reconstruction;
use super::ascent::{self, AscentConfig};
use crate::Result;

/// Settings of A1. The default is the paper's generator as its authors adapted it ([`AscentConfig::classic`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackConversionConfig {
    /// The ascent.
    pub ascent: AscentConfig,
}

/// Rebuilds `per_class` images of each class from a ReLU network.
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
    use ann::{Depth, VggConfig};
    use candle_core::{Device, Var};

    use super::super::Target;
    use super::*;

    /// Of a network in training nothing but the images gets a gradient.
    #[test]
    fn the_graph_goes_through_the_images_alone() -> Result<()> {
        let plan = VggConfig {
            width: 0.1,
            hidden: 0,
            ..VggConfig::paper(Depth::Vgg5)
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
