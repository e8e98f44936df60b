//! The batch-norm statistics loss.

use std::collections::BTreeMap;

use ann::Ann;
use candle_core::Tensor;
use snn_core::Layer;
use snn_core::ops::batch_norm::BatchStatistics;

use crate::{Error, Result, SynthConfig};

/// Keeps the square root's gradient finite where a batch meets the running statistics exactly.
const ROOT_FLOOR: f64 = 1e-12;

/// Whether the network has a batch norm to compare with.
fn has_batch_norm(ann: &Ann) -> bool {
    ann.topology()
        .layers()
        .iter()
        .any(|layer| matches!(layer, Layer::BatchNorm { .. }))
}

/// Refuses to compare statistics that the network does not have.
pub(crate) fn check(ann: &Ann, config: &SynthConfig) -> Result<()> {
    if config.batch_norm_statistics > 0.0 && !has_batch_norm(ann) {
        return Err(Error::argument(
            "batch_norm_statistics",
            "the network has no batch norm; set it to 0",
        ));
    }
    Ok(())
}

/// `sum over batch-norm layers of ||mean - running mean|| + ||variance - running variance||`, means and (biased)
/// variances over the batch and the sides of the layer's input (Yin et al., "Dreaming to distill: data-free knowledge
/// transfer via DeepInversion", CVPR 2020). A scalar, differentiable in what was `found`, by layer.
pub(crate) fn distance(ann: &Ann, found: &BTreeMap<usize, BatchStatistics>) -> Result<Tensor> {
    let running = |layer: usize, name: &str| {
        ann.parameters().get(layer, name).ok_or_else(|| {
            Error::argument(
                "batch_norm_statistics",
                format!("layer {layer} has no `{name}`"),
            )
        })
    };
    let mut sum: Option<Tensor> = None;
    for (&layer, found) in found {
        for (found, expected) in [
            (&found.mean, running(layer, "running_mean")?),
            (&found.variance, running(layer, "running_var")?),
        ] {
            let norm = ((found - expected)?.sqr()?.sum_all()? + ROOT_FLOOR)?.sqrt()?;
            sum = Some(match sum {
                Some(so_far) => (so_far + norm)?,
                None => norm,
            });
        }
    }
    sum.ok_or_else(|| {
        Error::argument(
            "batch_norm_statistics",
            "the network has no batch norm; set it to 0",
        )
    })
}
