//! Settings of the encryption.

use ann::{OptimiserConfig, Schedule};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How a converted network is trained on in spikes. The paper gives the loss and the optimiser; weight and
/// temperature of the distillation, learning rate, epochs and batch are not known, so the defaults are ours.
///
/// `learning_rate` and `epochs` decide how far the weights move, and with that what an attacker finds in them: they are
/// privacy settings, to be swept against accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncryptConfig {
    /// Steps T of the window that is trained. Memory grows with it. Default 16.
    pub timesteps: usize,
    /// Passes over the synthetic set. Default 20.
    pub epochs: usize,
    /// Images per step of the optimiser. Default 32.
    pub batch: usize,
    /// Images per pass through the network, where that is fewer than `batch`: gradients are summed over the pieces of a batch,
    /// which saves memory and changes the result by rounding alone. Default none: the whole batch.
    pub micro_batch: Option<usize>,
    /// Learning rate before the schedule. Default 1e-4.
    pub learning_rate: f64,
    /// What the cross-entropy compares with. Default the soft targets.
    pub targets: Targets,
    /// Share m of the distillation in the loss, in [0, 1]; the rest is cross-entropy with the targets. Default 0.7.
    pub distillation_weight: f64,
    /// Temperature t of the distillation. Default 2.
    pub distillation_temperature: f64,
    /// Update rule. Default Adam.
    pub optimiser: OptimiserConfig,
    /// Learning rate over the training. Default constant.
    pub schedule: Schedule,
}

/// What the cross-entropy of the loss compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Targets {
    /// The soft target that each image was made for.
    Soft,
    /// The class that each image was asked for, as if it were a label: what folder names make of a synthetic set in the
    /// authors' code. At Dirichlet concentration 1 most images are not of that class; here for comparison.
    Class,
}

impl Default for EncryptConfig {
    fn default() -> Self {
        Self {
            timesteps: 16,
            epochs: 20,
            batch: 32,
            micro_batch: None,
            learning_rate: 1e-4,
            targets: Targets::Soft,
            distillation_weight: 0.7,
            distillation_temperature: 2.0,
            optimiser: OptimiserConfig::adam(),
            schedule: Schedule::Constant {},
        }
    }
}

impl EncryptConfig {
    /// Refuses values outside their domains.
    ///
    /// # Errors
    /// The first setting outside its domain, by name.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("timesteps", self.timesteps),
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("micro_batch", self.micro_batch.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::argument(name, "must be at least 1, got 0"));
            }
        }
        positive("learning_rate", self.learning_rate)?;
        self.check_loss()?;
        self.optimiser.check()?;
        self.schedule.check()?;
        Ok(())
    }

    /// The part of [`EncryptConfig::check`] that the loss depends on.
    pub(crate) fn check_loss(&self) -> Result<()> {
        positive("distillation_temperature", self.distillation_temperature)?;
        if !(0.0..=1.0).contains(&self.distillation_weight) {
            let message = format!("must be in [0, 1], got {}", self.distillation_weight);
            return Err(Error::argument("distillation_weight", message));
        }
        Ok(())
    }
}

fn positive(name: &'static str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    let message = format!("must be positive, got {value}");
    Err(Error::argument(name, message))
}
