//! Settings of the synthesis.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How images are made. The default is the paper's recipe for CIFAR-10; everything beyond it is off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// Images in the whole set; image i is of class `i mod K`.
    pub count: usize,
    /// Adam steps per image.
    pub iterations: usize,
    /// Adam's step size, in units of the pixels' range [-1, 1].
    pub learning_rate: f64,
    /// Divides the logits before the softmax.
    pub temperature: f64,
    /// Factors on the class similarities that make Dirichlet concentrations. The images of a class take them in turn.
    pub dirichlet: Vec<f64>,
    /// Weight of the total variation: the sum of absolute differences of vertical and of horizontal neighbours, per
    /// image, divided by the number of its values C * H * W. Attacks weigh another one, isotropic and not divided.
    pub total_variation: f64,
    /// Largest shift, in pixels, of the image before each pass: circular, per image and iteration. 0 for none.
    pub jitter: usize,
    /// Weight of the distance between the batch's statistics and the running ones at each batch norm (DeepInversion).
    /// It makes the images of a batch depend on one another.
    pub batch_norm_statistics: f64,
    /// Images optimised at once. Without `batch_norm_statistics` it changes speed and memory, not the images.
    pub batch: usize,
    /// Makes the images by a generator that learns as it goes ([`crate::Generator`]) instead of pixel by pixel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<GeneratorConfig>,
}

/// A generator, which does not heed `iterations` and `learning_rate` of the synthesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Numbers in the latent vector of an image.
    pub latent: usize,
    /// Channels of its last hidden layer; the layers before have twice as many.
    pub channels: usize,
    /// Adam steps per batch.
    pub iterations: usize,
    /// Iterations more for the first batch, before which it has learned nothing.
    pub warm_up: usize,
    /// Adam's step size for the weights.
    pub learning_rate: f64,
    /// Adam's step size for the latent vectors of a batch.
    pub latent_learning_rate: f64,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            latent: 128,
            channels: 32,
            iterations: 40,
            warm_up: 200,
            learning_rate: 5e-3,
            latent_learning_rate: 0.02,
        }
    }
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            count: 5_000,
            iterations: 2_500,
            learning_rate: 1e-3,
            temperature: 20.0,
            dirichlet: vec![1.0],
            total_variation: 0.0,
            jitter: 0,
            batch_norm_statistics: 0.0,
            batch: 100,
            generator: None,
        }
    }
}

impl SynthConfig {
    /// Refuses values outside their domains.
    ///
    /// # Errors
    /// [`Error::Argument`] with the field's name.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("count", self.count),
            ("iterations", self.iterations),
            ("batch", self.batch),
        ] {
            if value == 0 {
                return Err(Error::argument(name, "must be at least 1, got 0"));
            }
        }
        for (name, value) in [
            ("learning_rate", self.learning_rate),
            ("temperature", self.temperature),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::argument(
                    name,
                    format!("must be positive, got {value}"),
                ));
            }
        }
        for (name, value) in [
            ("total_variation", self.total_variation),
            ("batch_norm_statistics", self.batch_norm_statistics),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::argument(
                    name,
                    format!("must be 0 (off) or positive, got {value}"),
                ));
            }
        }
        if let Some(generator) = &self.generator {
            generator.check(self)?;
        }
        if self.dirichlet.is_empty() {
            return Err(Error::argument("dirichlet", "needs at least one factor"));
        }
        if let Some(bad) = self
            .dirichlet
            .iter()
            .find(|b| !(b.is_finite() && **b > 0.0))
        {
            return Err(Error::argument(
                "dirichlet",
                format!("factors must be positive, got {bad}"),
            ));
        }
        Ok(())
    }
}

impl GeneratorConfig {
    fn check(&self, synthesis: &SynthConfig) -> Result<()> {
        for (name, value) in [
            ("generator.latent", self.latent),
            ("generator.channels", self.channels),
            ("generator.iterations", self.iterations),
        ] {
            if value == 0 {
                return Err(Error::argument(name, "must be at least 1, got 0"));
            }
        }
        for (name, rate) in [
            ("generator.learning_rate", self.learning_rate),
            ("generator.latent_learning_rate", self.latent_learning_rate),
        ] {
            if !(rate.is_finite() && rate > 0.0) {
                return Err(Error::argument(
                    name,
                    format!("must be positive, got {rate}"),
                ));
            }
        }
        for (name, is_set) in [
            ("total_variation", synthesis.total_variation > 0.0),
            ("jitter", synthesis.jitter > 0),
        ] {
            if is_set {
                return Err(Error::argument(
                    name,
                    "is for images that are made pixel by pixel; set it to 0 with a generator",
                ));
            }
        }
        Ok(())
    }
}
