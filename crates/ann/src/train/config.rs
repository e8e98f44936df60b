//! Settings of a training.

use serde::{Deserialize, Serialize};

use crate::{Augment, Error, OptimiserConfig, Result, Schedule, loss};

/// How a network is trained. The default is the authors' setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the images. Default 90.
    pub epochs: usize,
    /// Images per step. Default 256.
    pub batch: usize,
    /// Learning rate before the schedule. Default 0.01.
    pub learning_rate: f64,
    /// Update rule. Default SGD with momentum 0.9 and weight decay 5e-4.
    pub optimiser: OptimiserConfig,
    /// Learning rate over the training. Default: divided by 10 at 40, 60 and 80 %.
    pub schedule: Schedule,
    /// What is done to the images. Default: crop with padding 4, flip.
    pub augment: Augment,
    /// Label smoothing, below 1; negative values are allowed, see [`loss::cross_entropy`]. Default 0.
    pub label_smoothing: f64,
    /// Limit on the norm of the gradient of all tensors together; gradients above it are scaled down. Default none.
    pub gradient_clip: Option<f64>,
    /// Weight in the loss of the firing rate that the spiking network's products will meet ([`Activity`]): a network
    /// trained so spends less energy once it is converted. For staircase activations only. Default 0.
    ///
    /// [`Activity`]: crate::Activity
    #[serde(skip_serializing_if = "is_zero")]
    pub activity_penalty: f64,
    /// Share of the batch's statistics in the update of batch norm's running statistics. Default 0.1.
    pub batch_norm_momentum: f64,
}

// so that a training without the penalty is described as it was before there was one
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 90,
            batch: 256,
            learning_rate: 1e-2,
            optimiser: OptimiserConfig::sgd(),
            schedule: Schedule::paper(),
            augment: Augment::paper(),
            label_smoothing: 0.0,
            gradient_clip: None,
            activity_penalty: 0.0,
            batch_norm_momentum: 0.1,
        }
    }
}

impl TrainConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// The first setting outside its domain, by name.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("epochs", self.epochs), ("batch", self.batch)] {
            if value == 0 {
                return Err(Error::argument(name, "must be at least 1"));
            }
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(Error::argument(
                "learning_rate",
                format!("must be positive, got {}", self.learning_rate),
            ));
        }
        self.optimiser.check()?;
        self.schedule.check()?;
        loss::check_smoothing(self.label_smoothing)?;
        if let Some(limit) = self.gradient_clip
            && !(limit.is_finite() && limit > 0.0)
        {
            return Err(Error::argument(
                "gradient_clip",
                format!("must be positive, got {limit}"),
            ));
        }
        if !(self.activity_penalty.is_finite() && self.activity_penalty >= 0.0) {
            return Err(Error::argument(
                "activity_penalty",
                format!("must be 0 or positive, got {}", self.activity_penalty),
            ));
        }
        if !(self.batch_norm_momentum > 0.0 && self.batch_norm_momentum <= 1.0) {
            let message = format!("must be in (0, 1], got {}", self.batch_norm_momentum);
            return Err(Error::argument("batch_norm_momentum", message));
        }
        Ok(())
    }
}
