//! What the source network says against images.

use ann::{Ann, Mode};
use candle_core::{D, Tensor};
use candle_nn::ops::log_softmax;

use crate::{Result, SynthConfig, statistics};

/// Loss of each image `[N]`: cross-entropy of `softmax(f(x) / temperature)` with its target, and the distance of the
/// batch-norm statistics with its weight. Differentiable in the images `[N, C, H, W]`.
pub(crate) fn losses(
    ann: &Ann,
    images: &Tensor,
    targets: &Tensor,
    config: &SynthConfig,
) -> Result<Tensor> {
    let trace = match config.batch_norm_statistics {
        0.0 => None,
        _ => Some(ann.trace(images, Mode::Inference)?),
    };
    let logits = match &trace {
        Some(trace) => trace.logits.clone(),
        None => ann.forward(images, Mode::Inference)?,
    };
    let targets = targets.to_device(logits.device())?;
    let log_p = log_softmax(&(logits / config.temperature)?, D::Minus1)?;
    let losses = log_p.mul(&targets)?.sum(D::Minus1)?.neg()?;
    Ok(match trace {
        None => losses,
        Some(trace) => {
            // each image carries the whole distance: its weight against the cross-entropy is free of the batch size
            let distance = (statistics::distance(ann, &trace)? * config.batch_norm_statistics)?;
            losses.broadcast_add(&distance)?
        }
    })
}
