//! The shape of an experiment file.

use std::collections::BTreeMap;

use ann::NetworkConfig;
use ann::train::TrainConfig;
use anyhow::{Result, bail};
use convert::ConvertConfig;
use datasets::Kind;
use datasets::glyphs::GlyphsConfig;
use encrypt::EncryptConfig;
use serde::{Deserialize, Serialize};
use synth::SynthConfig;
use toml::Value;

use crate::stages::attack::AttackConfig;

/// An experiment with its profile and `--set` laid on, as written; not yet checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExperimentConfig {
    /// Name; that of the file.
    pub name: String,
    /// One line for the report.
    pub title: String,
    /// The data set.
    pub dataset: Kind,
    /// The variant at the top of the report.
    pub headline: String,
    /// Whether results are copied to `results/`.
    #[serde(default = "yes")]
    pub evidence: bool,
    /// Which part of the data set is used.
    #[serde(default)]
    pub data: DataConfig,
    /// The independent judge of the attacks.
    pub judge: ClassifierConfig,
    /// The settings compared.
    pub variants: BTreeMap<String, VariantConfig>,
}

impl ExperimentConfig {
    /// The same with one variant only.
    ///
    /// # Errors
    /// No such variant, with those there are.
    pub fn only(mut self, variant: &str) -> Result<Self> {
        let Some(kept) = self.variants.remove(variant) else {
            let there: Vec<&str> = self.variants.keys().map(String::as_str).collect();
            bail!(
                "variant = {variant:?}: experiment {} has no such variant; there are: {}",
                self.name,
                there.join(", ")
            );
        };
        self.headline = variant.to_string();
        self.variants = BTreeMap::from([(variant.to_string(), kept)]);
        Ok(self)
    }

    /// The value at a dotted key, which may be one of the headline variant; none if it is not there.
    pub fn setting(&self, key: &str) -> Option<Value> {
        let tree = Value::try_from(self).ok()?;
        let find = |key: &str| {
            let mut parts = key.split('.');
            parts.try_fold(&tree, |at, part| at.get(part)).cloned()
        };
        find(key).or_else(|| find(&format!("variants.{}.{key}", self.headline)))
    }
}

fn yes() -> bool {
    true
}

/// Which part of the data set is used. The first images of a class-balanced order are taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Images split off the training set to watch training on and to choose settings by; not for glyphs, which have their own.
    pub validation: usize,
    /// Training images used; 0 for all.
    pub train_limit: usize,
    /// Test images used; 0 for all.
    pub test_limit: usize,
    /// How many glyphs are drawn, and from which seed; for the dataset glyphs only.
    pub glyphs: GlyphsConfig,
}

/// A classifier and its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The layers.
    pub network: NetworkConfig,
    /// How it is trained.
    #[serde(default)]
    pub training: TrainConfig,
}

/// One set of settings, from the source network to the attacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantConfig {
    /// One line for the report.
    pub title: String,
    /// The source network.
    pub ann: ClassifierConfig,
    /// Stage 1.
    #[serde(default)]
    pub synth: SynthConfig,
    /// Stage 2.
    pub convert: ConvertConfig,
    /// Images that thresholds are taken from: synthetic ones, and as many real training images for the control; 0 for
    /// all.
    #[serde(default)]
    pub calibration_images: usize,
    /// Stage 3.
    #[serde(default)]
    pub encrypt: EncryptConfig,
    /// Stage 4.
    #[serde(default)]
    pub attack: AttackConfig,
    /// Accuracy and energy.
    pub evaluate: EvaluateConfig,
}

/// How the spiking networks are judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// T at which the converted network is quoted.
    pub timesteps: usize,
    /// T at which the encrypted network is quoted and its reference; not set: that of their training,
    /// `encrypt.timesteps`.
    // left out where it is not set, so that what was computed before it could be is known again
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_timesteps: Option<usize>,
    /// Windows of the curve of accuracy against T, as far as they are below the quoted T.
    pub windows: Vec<usize>,
    /// Test images; 0 for all.
    pub images: usize,
    /// Longer windows, on the first `long_images` test images.
    pub long_windows: Vec<usize>,
    /// Test images of the longer windows; 0 for none.
    pub long_images: usize,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        Self {
            timesteps: 16,
            encrypted_timesteps: None,
            windows: vec![1, 2, 4, 8, 16, 32, 64, 128],
            images: 0,
            long_windows: Vec::new(),
            long_images: 0,
        }
    }
}
