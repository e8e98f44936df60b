//! What the source network says against images.

use std::collections::BTreeMap;

use ann::{Ann, Mode, Pass};
use candle_core::{D, Tensor, Var};
use candle_nn::ops::log_softmax;
use snn_core::ops::batch_norm::BatchStatistics;
use snn_core::ops::batch_norm::fused::StatisticsGradients;

use crate::{Error, Result, SynthConfig, statistics};

/// What the network says of a batch of images `[N, C, H, W]`.
pub(crate) struct LossGradient {
    /// Loss of each image `[N]`: cross-entropy of `softmax(f(x) / temperature)` with its target, and the distance of the
    /// batch-norm statistics with its weight. Each image carries the whole distance: its weight against the cross-entropy
    /// is free of the batch size.
    pub(crate) losses: Tensor,
    /// Gradient of their sum, `[N, C, H, W]`.
    pub(crate) gradient: Tensor,
}

/// Asks the network, which no graph refers to.
pub(crate) fn loss_gradient(
    ann: &Ann,
    images: &Tensor,
    targets: &Tensor,
    config: &SynthConfig,
) -> Result<LossGradient> {
    let pass = Pass::forward(ann, &images.detach(), Mode::Inference)?;
    let logits = Var::from_tensor(pass.logits()?)?;
    let targets = targets.to_device(logits.device())?;
    let log_p = log_softmax(&(logits.as_tensor() / config.temperature)?, D::Minus1)?;
    let mut losses = log_p.mul(&targets)?.sum(D::Minus1)?.neg()?;
    let of_logits = gradient(&losses.sum_all()?, &logits)?;
    let mut of_statistics = BTreeMap::new();
    if config.batch_norm_statistics != 0.0 {
        let found = pass.batch_statistics()?;
        let variables: BTreeMap<usize, [Var; 2]> = found
            .iter()
            .map(|(&layer, of)| {
                let variables = [Var::from_tensor(&of.mean)?, Var::from_tensor(&of.variance)?];
                Ok((layer, variables))
            })
            .collect::<Result<_>>()?;
        let followed = variables.iter().map(|(&layer, [mean, variance])| {
            let statistics = BatchStatistics {
                mean: mean.as_tensor().clone(),
                variance: variance.as_tensor().clone(),
            };
            (layer, statistics)
        });
        let distance = statistics::distance(ann, &followed.collect())?;
        let distance = (distance * config.batch_norm_statistics)?;
        losses = losses.broadcast_add(&distance)?;
        let gradients = (distance * images.dim(0)? as f64)?.backward()?;
        for (layer, statistics) in found {
            let [mean, variance] = variables[&layer].each_ref().map(|variable| {
                let gradient = gradients.get(variable.as_tensor()).cloned();
                gradient.ok_or_else(|| {
                    let message = format!("the distance does not depend on layer {layer}");
                    Error::argument("batch_norm_statistics", message)
                })
            });
            let of = StatisticsGradients {
                statistics,
                mean: mean?,
                variance: variance?,
            };
            of_statistics.insert(layer, of);
        }
    }
    Ok(LossGradient {
        losses: losses.detach(),
        gradient: pass.image_gradient(of_logits, &of_statistics)?,
    })
}

fn gradient(loss: &Tensor, variable: &Var) -> Result<Tensor> {
    let gradient = loss.backward()?.remove(variable.as_tensor());
    gradient.ok_or_else(|| Error::argument("network", "its logits take no part in the loss"))
}
