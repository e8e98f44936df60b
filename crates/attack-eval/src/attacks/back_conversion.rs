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
    // constants: no gradient of a weight is ever needed
    let network = network.detached();
    ascent::run(
        &network,
        &config.ascent,
        per_class,
        seed.derive("back conversion"),
        watch,
    )
}
