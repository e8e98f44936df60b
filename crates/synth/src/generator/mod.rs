//! Images by a generator that learns as it goes.

mod network;

use std::collections::BTreeMap;
use std::path::Path;

use ann::{Ann, Mode, Optimiser, OptimiserConfig, SyntheticSet};
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use snn_core::progress::{Watch, report};
use snn_core::rng::Seed;
use snn_core::{Topology, checkpoint, digest};

use self::network::Network;
use crate::loss::loss_gradient;
use crate::similarity::class_similarity;
use crate::synthesise::constants;
use crate::targets::{asked_for, targets};
use crate::{Error, GeneratorConfig, Result, SynthConfig, statistics};

const FORMAT: &str = "generator/2";

/// Makes a synthetic set batch by batch. Of each batch the latent vectors and the generator's weights follow
///
/// ```text
/// loss(z, w) = mean over images of CE(softmax(f(G_w(z)) / temperature), target) + batch_norm_statistics * distance
/// ```
///
/// with Adam, whose moments begin anew with each batch; the vectors are then done with, the weights go on to the next
/// batch, which therefore needs few iterations. Targets are those of [`crate::synthesise`]. A batch depends on all before
/// it, so that a set cannot be made in parts apart; what it starts from is in [`Generator::save`], the classifier's topology and the
/// fingerprint of its weights among it.
///
/// One generator for all images and vectors optimised together with it are from Fang et al., "Up to 100x faster
/// data-free knowledge distillation", AAAI 2022; its meta-learning and its adversarial student are left out.
#[derive(Debug)]
pub struct Generator {
    config: SynthConfig,
    own: GeneratorConfig,
    network: Network,
    seed: Seed,
    made: usize,
    /// The classifier's layers, and the fingerprint of its weights.
    source: Source,
}

/// What tells one classifier from another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    topology: Topology,
    sha256: String,
}

impl Source {
    fn of(ann: &Ann) -> Result<Self> {
        let tensors = ann.parameters().tensors().iter();
        Ok(Self {
            topology: ann.topology().clone(),
            sha256: digest::of(tensors.map(|(name, tensor)| (name.as_str(), tensor)))?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    config: SynthConfig,
    seed: u64,
    made: usize,
    // none in files of the format before
    #[serde(default)]
    source: Option<Source>,
}

impl Generator {
    /// A generator that has learned nothing, for the images of `ann`.
    ///
    /// # Errors
    /// Settings out of their domains or without a generator; images whose sides are no multiples of 4; batch-norm
    /// statistics asked of a network that has none.
    pub fn new(ann: &Ann, config: &SynthConfig, seed: Seed) -> Result<Self> {
        config.check()?;
        statistics::check(ann, config)?;
        let own = config.generator.clone().ok_or_else(|| {
            Error::argument("generator", "the settings have none; use synthesise")
        })?;
        let start = seed.derive("synth").derive("generator");
        let device = ann.parameters().device();
        Ok(Self {
            network: Network::new(&own, ann.topology().input(), start, &device)?,
            config: config.clone(),
            own,
            seed,
            made: 0,
            source: Source::of(ann)?,
        })
    }

    /// Images made so far.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Makes the next images, N being `config.batch` or what is left: images `[N, C, H, W]`, targets and logits `[N, K]`.
    /// `watch` hears of every iteration.
    ///
    /// # Errors
    /// No image left to make; another classifier than it began with; a loss that is not finite; the watcher's wish to stop, after which the weights are no
    /// longer those that the batch began with: go on from what was saved before.
    pub fn next_batch(&mut self, ann: &Ann, watch: &mut Watch) -> Result<SyntheticSet> {
        let config = &self.config;
        let range = self.made..config.count.min(self.made.saturating_add(config.batch));
        if range.is_empty() {
            return Err(Error::argument("generator", "has made all images"));
        }
        if Source::of(ann)? != self.source {
            let message = "is another network than the one that the generator began with";
            return Err(Error::argument("ann", message));
        }
        let ann = constants(ann)?;
        let similarity = class_similarity(&ann)?;
        let seeds = self.seed.derive("synth");
        let seeds: Vec<Seed> = range.clone().map(|i| seeds.index(i as u64)).collect();
        let targets = targets(&similarity, config, range.clone(), &seeds)?;
        let latent = self.latent(&seeds, &ann.parameters().device())?;
        let mut of_latent = Optimiser::new(adam(0.9), vec![("latent".into(), latent.clone())])?;
        let mut of_weights = Optimiser::new(adam(0.5), self.network.variables().to_vec())?;
        let warm_up = match self.made {
            0 => self.own.warm_up,
            _ => 0,
        };
        let iterations = self.own.iterations.saturating_add(warm_up);
        let unit = format!("images {}..{}, iteration", range.start, range.end);
        for iteration in 0..iterations {
            let images = self.network.forward(&latent)?;
            let said = loss_gradient(&ann, &images, &targets, config)?;
            let value = said.losses.mean_all()?.to_scalar::<f32>()?;
            if !value.is_finite() {
                return Err(Error::NotFinite {
                    image: range.start,
                    iteration,
                    loss: value,
                });
            }
            // of the mean loss, through the images to what made them
            let of_images = (said.gradient / images.dim(0)? as f64)?;
            let gradients = (images * of_images)?.sum_all()?.backward()?;
            of_latent.step(&gradients, self.own.latent_learning_rate)?;
            of_weights.step(&gradients, self.own.learning_rate)?;
            report(
                watch,
                unit.as_str(),
                iteration as u64 + 1,
                iterations as u64,
                format!("loss {value:.4}"),
            )?;
        }
        let images = self.network.forward(&latent)?.detach();
        let logits = ann.forward(&images, Mode::Inference)?;
        self.made = range.end;
        Ok(SyntheticSet {
            images: images.to_device(&Device::Cpu)?,
            soft_targets: targets,
            logits: logits.to_device(&Device::Cpu)?,
            classes: asked_for(range, similarity.len())?,
            seed: self.seed.value(),
        })
    }

    /// A normal vector per image, from the image's own seed.
    fn latent(&self, seeds: &[Seed], device: &Device) -> Result<Var> {
        let size = self.own.latent;
        let mut values = Vec::with_capacity(seeds.len() * size);
        for seed in seeds {
            let mut stream = seed.derive("latent").stream();
            values.extend((0..size).map(|_| stream.normal() as f32));
        }
        let latent = Tensor::from_vec(values, (seeds.len(), size), device)?;
        Ok(Var::from_tensor(&latent)?)
    }

    /// Writes all that the next batch depends on.
    ///
    /// # Errors
    /// Whatever the file system answers, with the path.
    pub fn save(&self, path: &Path) -> Result<()> {
        let variables = self.network.variables().iter();
        let tensors: BTreeMap<String, Tensor> = variables
            .map(|(name, variable)| (name.clone(), variable.as_detached_tensor()))
            .collect();
        let description = Description {
            format: FORMAT.into(),
            config: self.config.clone(),
            seed: self.seed.value(),
            made: self.made,
            source: Some(self.source.clone()),
        };
        Ok(checkpoint::save(path, &tensors, &description)?)
    }

    /// Goes on from what [`Generator::save`] wrote.
    ///
    /// # Errors
    /// Those of [`Generator::new`]; a file that cannot be read, of other settings, another seed or another network, or
    /// whose weights do not fit, with its name.
    pub fn resume(path: &Path, ann: &Ann, config: &SynthConfig, seed: Seed) -> Result<Self> {
        let mut generator = Self::new(ann, config, seed)?;
        let device = ann.parameters().device();
        let (tensors, description): (_, Description) = checkpoint::load(path, &device)?;
        let fault = |message: String| checkpoint::fault(path, message);
        if description.format != FORMAT {
            let message = format!(
                "holds a `{}`, not a `{FORMAT}`; delete it to have it made again",
                description.format
            );
            return Err(fault(message).into());
        }
        if description.config != *config || description.seed != seed.value() {
            return Err(fault("is of other settings or of another seed".into()).into());
        }
        if description.source.as_ref() != Some(&generator.source) {
            return Err(fault("was made for another network".into()).into());
        }
        for (name, variable) in generator.network.variables() {
            let fits = |tensor: &&Tensor| {
                tensor.dims() == variable.dims() && tensor.dtype() == variable.dtype()
            };
            let tensor = tensors.get(name).filter(fits).ok_or_else(|| {
                fault(format!(
                    "has no `{name}` {:?}; delete it and the shards beside it to have them made again",
                    variable.dims()
                ))
            })?;
            let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
            if values.iter().any(|value| !value.is_finite()) {
                let message = format!(
                    "`{name}` holds a value that is not finite; delete it and the shards beside it to have them made again"
                );
                return Err(fault(message).into());
            }
            variable.set(tensor)?;
        }
        generator.made = description.made;
        Ok(generator)
    }
}

/// Adam without weight decay.
fn adam(beta1: f64) -> OptimiserConfig {
    OptimiserConfig::Adam {
        beta1,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        amsgrad: false,
    }
}
