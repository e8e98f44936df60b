//! The experiment that runs.

use std::ops::Deref;

use ann::NetworkConfig;
use anyhow::{Context, Result, bail};
use convert::ThresholdRule;
use datasets::Kind;
use snn_core::Topology;

use super::config::{ClassifierConfig, EvaluateConfig, ExperimentConfig, VariantConfig};

/// An experiment whose settings fit together. It can only be had through [`Experiment::new`].
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment(ExperimentConfig);

impl Deref for Experiment {
    type Target = ExperimentConfig;

    fn deref(&self) -> &ExperimentConfig {
        &self.0
    }
}

impl Experiment {
    /// Checks what no single number's range can say.
    ///
    /// # Errors
    /// The first key at fault.
    pub fn new(config: ExperimentConfig) -> Result<Self> {
        safe_name("name", &config.name)?;
        if !config.variants.contains_key(&config.headline) {
            bail!(
                "headline = {:?}: there is no such variant; there are: {}",
                config.headline,
                config
                    .variants
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
        if config.dataset == Kind::Glyphs {
            if config.data.validation != 0 {
                bail!(
                    "data.validation: glyphs have validation images of their own; set data.glyphs.validation"
                );
            }
            if config.data.glyphs.train == 0 || config.data.glyphs.test == 0 {
                bail!("data.glyphs.train and data.glyphs.test must be at least 1");
            }
        }
        let topology =
            |key: String, network: &NetworkConfig| topology(config.dataset, network).context(key);
        let judge = topology("judge.network".into(), &config.judge.network)?;
        trainable("judge", &config.judge, &judge)?;
        for (name, variant) in &config.variants {
            safe_name("variants", name)?;
            let at = |key: &str| format!("variants.{name}.{key}");
            let source = topology(at("ann.network"), &variant.ann.network)?;
            if source.layers() == judge.layers() {
                bail!(
                    "judge.network: has the same layers as {}; an independent judge needs another network",
                    at("ann.network")
                );
            }
            trainable(&at("ann"), &variant.ann, &source)?;
            variant.synth.check().with_context(|| at("synth"))?;
            variant.convert.check().with_context(|| at("convert"))?;
            if variant.convert.thresholds == (ThresholdRule::Trained {})
                && variant.ann.network.levels == 0
            {
                bail!(
                    "{}: rule = \"trained\" needs a network trained with thresholds; set {} to 4, 8 or 16",
                    at("convert.thresholds"),
                    at("ann.network.levels")
                );
            }
            let of_batch_norm = [
                (
                    "convert.thresholds",
                    matches!(variant.convert.thresholds, ThresholdRule::BatchNorm { .. }),
                ),
                (
                    "synth.batch_norm_statistics",
                    variant.synth.batch_norm_statistics > 0.0,
                ),
            ];
            for (key, asked) in of_batch_norm {
                if asked && !variant.ann.network.batch_norm {
                    bail!(
                        "{}: takes the statistics of the batch norm, which {} leaves out",
                        at(key),
                        at("ann.network.batch_norm")
                    );
                }
            }
            variant.encrypt.check().with_context(|| at("encrypt"))?;
            variant.attack.check().with_context(|| at("attack"))?;
            variant.evaluate.check().with_context(|| at("evaluate"))?;
            let delay = variant.convert.readout_delay;
            for (key, timesteps) in [
                ("evaluate.timesteps", variant.evaluate.timesteps),
                ("encrypt.timesteps", variant.encrypt.timesteps),
                (
                    "evaluate.encrypted_timesteps",
                    variant.encrypted_timesteps(),
                ),
                (
                    "attack.spike_gradient.timesteps",
                    variant.attack.spike_gradient.timesteps,
                ),
            ] {
                if delay > 0 && delay >= timesteps {
                    bail!(
                        "{} = {delay}: must be less than {} = {timesteps}, of which nothing would be counted",
                        at("convert.readout_delay"),
                        at(key)
                    );
                }
            }
            let (images, classes) = (variant.attack.real_images, config.dataset.classes());
            if images > 0 && images < 2 * classes {
                bail!(
                    "{} = {images}: must be 0 (all training images) or at least {}, two of each of the {classes} classes",
                    at("attack.real_images"),
                    2 * classes
                );
            }
        }
        Ok(Self(config))
    }

    /// The variants, that of the headline first.
    pub fn variants(&self) -> impl Iterator<Item = (&str, &VariantConfig)> {
        let rest = self
            .0
            .variants
            .iter()
            .filter(|(name, _)| **name != self.0.headline);
        self.0
            .variants
            .get_key_value(&self.0.headline)
            .into_iter()
            .chain(rest)
            .map(|(name, variant)| (name.as_str(), variant))
    }

    /// The variant of the headline and its name.
    pub fn headline_variant(&self) -> (&str, &VariantConfig) {
        // there is one: `new` has looked
        (&self.0.headline, &self.0.variants[&self.0.headline])
    }

    /// The layer list of a network of this experiment.
    ///
    /// # Errors
    /// A network that does not fit the images.
    pub fn topology(&self, network: &NetworkConfig) -> Result<Topology> {
        topology(self.0.dataset, network)
    }
}

impl EvaluateConfig {
    fn check(&self) -> Result<()> {
        for (key, windows) in [
            ("windows", &self.windows),
            ("long_windows", &self.long_windows),
        ] {
            if windows.windows(2).any(|pair| pair[0] >= pair[1]) {
                bail!("{key} = {windows:?}: must ascend");
            }
        }
        if self.long_windows.is_empty() != (self.long_images == 0) {
            bail!("long_windows and long_images: give both or neither");
        }
        Ok(())
    }

    /// The windows below `timesteps`, and `timesteps`.
    pub fn windows_to(&self, timesteps: usize) -> Vec<usize> {
        self.windows
            .iter()
            .copied()
            .filter(|&window| window < timesteps)
            .chain([timesteps])
            .collect()
    }
}

impl VariantConfig {
    /// T at which the encrypted network and its reference are quoted.
    pub fn encrypted_timesteps(&self) -> usize {
        let own = self.evaluate.encrypted_timesteps;
        own.unwrap_or(self.encrypt.timesteps)
    }
}

/// Checks the training of a classifier against its network, before hours of another stage; `key` is where it is set.
fn trainable(key: &str, classifier: &ClassifierConfig, topology: &Topology) -> Result<()> {
    let training = &classifier.training;
    let at = |field: &str| format!("{key}.training.{field}");
    training
        .check()
        .with_context(|| format!("{key}.training"))?;
    let [_, height, width] = topology.input();
    if training.augment.crop_padding > height.min(width) {
        bail!(
            "{} = {}: must be at most the {} pixels of an image's side",
            at("augment.crop_padding"),
            training.augment.crop_padding,
            height.min(width)
        );
    }
    if training.batch < 2 && classifier.network.batch_norm {
        bail!(
            "{} = {}: batch norm needs at least 2 images",
            at("batch"),
            training.batch
        );
    }
    if training.activity_penalty > 0.0 && classifier.network.levels == 0 {
        bail!(
            "{}: needs activations with thresholds; set {key}.network.levels, or leave it at 0",
            at("activity_penalty")
        );
    }
    Ok(())
}

fn topology(dataset: Kind, network: &NetworkConfig) -> Result<Topology> {
    Ok(network.topology(dataset.image(), dataset.classes())?)
}

/// Checks a name that becomes a folder.
///
/// # Errors
/// A name that is empty or holds more than letters, digits, - and _.
pub fn safe_name(key: &str, name: &str) -> Result<()> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(safe) {
        bail!("{key}: `{name}` must be letters, digits, - and _ only");
    }
    Ok(())
}
