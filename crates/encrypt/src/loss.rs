//! The loss of the encryption.

use ann::loss::{distillation, soft_cross_entropy};
use candle_core::Tensor;

use crate::{EncryptConfig, Result};

/// The loss and its parts, scalars averaged over images.
#[derive(Debug, Clone)]
pub struct Loss {
    /// `(1 - m) ce + m t^2 kl`.
    pub total: Tensor,
    /// Cross-entropy with the targets.
    pub cross_entropy: Tensor,
    /// `KL(softmax(z_ann / t) || softmax(z_snn / t))`, without the factor `t^2`.
    pub divergence: Tensor,
}

/// `(1 - m) CE(softmax(z_snn), y) + m t^2 KL(softmax(z_ann / t) || softmax(z_snn / t))`, m and t being
/// `distillation_weight` and `distillation_temperature`.
///
/// `logits` of the spiking network, `targets` y and `teacher` logits of the source network are `[N, K]`. The
/// gradient goes to `logits` alone.
///
/// # Errors
/// Shapes that differ; a distillation weight or temperature outside its domain, by name.
pub fn encryption_loss(
    logits: &Tensor,
    targets: &Tensor,
    teacher: &Tensor,
    config: &EncryptConfig,
) -> Result<Loss> {
    config.check_loss()?;
    let (m, t) = (config.distillation_weight, config.distillation_temperature);
    let cross_entropy = soft_cross_entropy(logits, targets)?;
    let divergence = distillation(logits, teacher, t)?;
    let total = ((&cross_entropy * (1.0 - m))? + (&divergence * (m * t * t))?)?;
    Ok(Loss {
        total,
        cross_entropy: cross_entropy.detach(),
        divergence: divergence.detach(),
    })
}
