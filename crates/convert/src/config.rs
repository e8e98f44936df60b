//! How a conversion is asked for.

use serde::{Deserialize, Serialize};
use snn_core::encode::Encoder;
use snn_core::neuron::NeuronSettings;

use crate::{Error, Result};

/// Where thresholds come from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum ThresholdRule {
    /// The paper's: per layer, `scale` times the largest weighted input current (bias included) over the calibration
    /// images and all calibration steps, with the thresholds of the earlier layers already set.
    MaxCurrent {
        /// Factor on the largest current; the paper's is 1.
        #[serde(default = "one")]
        scale: f64,
    },
    /// A percentile of the source network's activations on the calibration images, over all values after the ReLU,
    /// zeros included, interpolated linearly between ranks (as numpy does).
    Percentile {
        /// In [50, 100]; 100 is the maximum.
        percentile: f64,
        /// One threshold per layer or per channel.
        granularity: Granularity,
    },
    /// From batch-norm statistics, without any image: `beta + deviations * |gamma|` per channel.
    BatchNorm {
        /// Number of standard deviations above the mean; about 3.
        deviations: f64,
    },
    /// Local threshold balancing: per channel, from zero, by steps of `2 rate` times the mean of what the threshold clips on
    /// a batch of calibration images.
    LocalBalance {
        /// Length of a step; that of the authors' code is 1.
        #[serde(default = "one")]
        rate: f64,
        /// Passes over the calibration images; each takes a step per batch.
        passes: usize,
    },
    /// Those that the source network was trained with ([`snn_core::ActivationFunction::Qcfs`]), without any image.
    // braces: serde would accept unknown keys beside the tag of a unit variant
    Trained {},
}

impl ThresholdRule {
    /// Whether it looks at calibration images.
    pub fn needs_images(&self) -> bool {
        match self {
            Self::MaxCurrent { .. } | Self::Percentile { .. } | Self::LocalBalance { .. } => true,
            Self::BatchNorm { .. } | Self::Trained {} => false,
        }
    }
}

/// How many thresholds a layer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// One for the whole layer.
    Layer,
    /// One per channel (per neuron after a linear layer).
    Channel,
}

/// A conversion. The default is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvertConfig {
    /// Where thresholds come from.
    pub thresholds: ThresholdRule,
    /// How images enter the spiking network.
    pub encoder: Encoder,
    /// Membrane before the first step as a share of the threshold, in [0, 1): 0 is the paper's, 0.5 makes rates round
    /// instead of floor.
    pub initial_membrane: f64,
    /// Steps at the start that the readout does not count; see [`snn_core::SpikingSettings::readout_delay`]. The paper's
    /// is 0.
    pub readout_delay: usize,
    /// Whether each bias is moved, once, by what its channel's mean rate on the calibration images falls short of the
    /// mean activation in the source network: a step towards equal means. Needs images, and biases (batch norm gives
    /// them). The paper's is no.
    pub bias_correction: bool,
    /// Dynamics of the populations.
    pub neuron: NeuronSettings,
    /// Steps per image in [`ThresholdRule::MaxCurrent`], in the bias correction and of the report.
    pub calibration_timesteps: usize,
    /// Images at a time.
    pub batch: usize,
    /// How many of the calibration images the report is measured on, from the first on; 0 leaves thresholds alone in
    /// the report.
    pub report_images: usize,
}

impl Default for ConvertConfig {
    fn default() -> Self {
        Self {
            thresholds: ThresholdRule::MaxCurrent { scale: one() },
            encoder: Encoder::Poisson,
            initial_membrane: 0.0,
            readout_delay: 0,
            bias_correction: false,
            neuron: NeuronSettings::default(),
            calibration_timesteps: 100,
            batch: 32,
            report_images: 64,
        }
    }
}

fn one() -> f64 {
    1.0
}

impl ConvertConfig {
    /// Whether the conversion needs calibration images.
    pub fn needs_images(&self) -> bool {
        self.bias_correction || self.thresholds.needs_images()
    }

    /// Refuses values outside their domains.
    ///
    /// # Errors
    /// The first setting outside its domain, by name.
    pub fn check(&self) -> Result<()> {
        match self.thresholds {
            ThresholdRule::MaxCurrent { scale } if !(scale.is_finite() && scale > 0.0) => {
                return Err(Error::argument(
                    "thresholds.scale",
                    format!("must be positive, got {scale}"),
                ));
            }
            ThresholdRule::Percentile { percentile, .. }
                if !(50.0..=100.0).contains(&percentile) =>
            {
                return Err(Error::argument(
                    "thresholds.percentile",
                    format!("must be in [50, 100], got {percentile}"),
                ));
            }
            ThresholdRule::BatchNorm { deviations }
                if !(deviations.is_finite() && deviations > 0.0) =>
            {
                return Err(Error::argument(
                    "thresholds.deviations",
                    format!("must be positive, got {deviations}"),
                ));
            }
            ThresholdRule::LocalBalance { rate, .. } if !(rate.is_finite() && rate > 0.0) => {
                return Err(Error::argument(
                    "thresholds.rate",
                    format!("must be positive, got {rate}"),
                ));
            }
            ThresholdRule::LocalBalance { passes: 0, .. } => {
                return Err(Error::argument("thresholds.passes", "must be at least 1"));
            }
            _ => {}
        }
        if !(0.0..1.0).contains(&self.initial_membrane) {
            return Err(Error::argument(
                "initial_membrane",
                format!(
                    "must be in [0, 1) thresholds, got {}",
                    self.initial_membrane
                ),
            ));
        }
        for (name, value) in [
            ("calibration_timesteps", self.calibration_timesteps),
            ("batch", self.batch),
        ] {
            if value == 0 {
                return Err(Error::argument(name, "must be at least 1"));
            }
        }
        Ok(self.neuron.check()?)
    }
}
