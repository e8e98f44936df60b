//! Batch norm folded into the weights before it, and the layers that have no spiking counterpart refused.

use std::collections::BTreeMap;

use ann::Ann;
use candle_core::Tensor;
use snn_core::{ActivationFunction, Layer, Parameters, Topology};

use crate::{Error, Result};

/// What batch norm says of a layer's output on the training data: per channel, mean `beta` and deviation `|gamma|`.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    pub mean: Vec<f64>,
    pub deviation: Vec<f64>,
}

/// A network without batch norm, and what the folded ones said, by index of the weighted layer.
pub(crate) struct Folded {
    pub ann: Ann,
    pub moments: BTreeMap<usize, Moments>,
}

/// The same function without batch-norm layers: each is merged into the convolution or linear layer that it follows,
///
/// ```text
/// W'[o] = W[o] gamma[o] / sqrt(variance[o] + epsilon)
/// b'[o] = (b[o] - mean[o]) gamma[o] / sqrt(variance[o] + epsilon) + beta[o]
/// ```
///
/// Layers keep their order; their indices move up where a batch norm is gone. Equal to the unfolded network in
/// inference to rounding. A network without batch norm comes back as it is.
///
/// # Errors
/// A batch norm that does not directly follow a convolution or linear layer, or whose statistics are impossible.
pub fn fold_batch_norm(ann: &Ann) -> Result<Ann> {
    Ok(fold(ann)?.ann)
}

pub(crate) fn fold(ann: &Ann) -> Result<Folded> {
    let topology = ann.topology();
    let mut layers: Vec<Layer> = Vec::new();
    let mut tensors = BTreeMap::new();
    let mut moments = BTreeMap::new();
    // where the layers before went
    let mut places = Vec::new();
    for (index, layer) in topology.layers().iter().enumerate() {
        if let Layer::BatchNorm { epsilon, .. } = *layer {
            let at = layers.len().wrapping_sub(1);
            let follows = index > 0 && topology.layers()[index - 1].is_weighted();
            match layers.last_mut() {
                Some(Layer::Conv2d { bias, .. } | Layer::Linear { bias, .. }) if follows => {
                    *bias = true;
                }
                _ => {
                    return Err(Error::layer(
                        topology,
                        index,
                        "does not directly follow a convolution or linear layer, so it cannot be folded into one",
                    ));
                }
            }
            let said = merge(ann, index, epsilon, at, &mut tensors)?;
            moments.insert(at, said);
        } else {
            for (name, _) in layer.tensors() {
                let tensor = ann.parameters().get(index, name).ok_or_else(|| {
                    Error::layer(topology, index, format!("has no tensor `{name}`"))
                })?;
                tensors.insert(format!("{}.{name}", layers.len()), tensor.detach());
            }
            layers.push(match *layer {
                Layer::Shortcut {
                    from,
                    channels,
                    kernel,
                } => Layer::Shortcut {
                    from: places[from],
                    channels,
                    kernel,
                },
                ref layer => layer.clone(),
            });
        }
        places.push(layers.len() - 1);
    }
    let topology = Topology::new(topology.name(), topology.input(), layers)?;
    let parameters = Parameters::new(&topology, tensors)?;
    Ok(Folded {
        ann: Ann::new(topology, parameters),
        moments,
    })
}

/// Merges batch norm `index` of `ann` into the tensors of layer `at`.
fn merge(
    ann: &Ann,
    index: usize,
    epsilon: f64,
    at: usize,
    tensors: &mut BTreeMap<String, Tensor>,
) -> Result<Moments> {
    let values = |name: &str| -> Result<Vec<f64>> {
        let tensor = ann.parameters().get(index, name).ok_or_else(|| {
            Error::layer(ann.topology(), index, format!("has no tensor `{name}`"))
        })?;
        Ok(as_f64(tensor)?)
    };
    let (gamma, beta) = (values("gamma")?, values("beta")?);
    let (mean, variance) = (values("running_mean")?, values("running_var")?);
    if let Some(c) = variance.iter().position(|v| v + epsilon <= 0.0) {
        return Err(Error::layer(
            ann.topology(),
            index,
            format!(
                "running variance of channel {c} is {}, which is impossible",
                variance[c]
            ),
        ));
    }
    let scale: Vec<f64> = gamma
        .iter()
        .zip(&variance)
        .map(|(gamma, variance)| gamma / (variance + epsilon).sqrt())
        .collect();

    let (weight_name, bias_name) = (format!("{at}.weight"), format!("{at}.bias"));
    let weight = &tensors[&weight_name];
    let (shape, device) = (weight.dims().to_vec(), weight.device().clone());
    let per_channel = weight.elem_count() / scale.len().max(1);
    let folded: Vec<f32> = as_f64(weight)?
        .iter()
        .enumerate()
        .map(|(i, w)| (w * scale[i / per_channel]) as f32)
        .collect();
    let bias = match tensors.get(&bias_name) {
        Some(bias) => as_f64(bias)?,
        None => vec![0.0; scale.len()],
    };
    let bias: Vec<f32> = (0..scale.len())
        .map(|o| ((bias[o] - mean[o]) * scale[o] + beta[o]) as f32)
        .collect();
    tensors.insert(bias_name, Tensor::new(bias, &device)?);
    tensors.insert(weight_name, Tensor::from_vec(folded, shape, &device)?);
    Ok(Moments {
        mean: beta,
        deviation: gamma.iter().map(|gamma| gamma.abs()).collect(),
    })
}

/// Refuses what has no spiking counterpart, so that nothing is converted silently into something else: max pools,
/// activations other than ReLU and the trained staircase, and an activation that no weighted layer feeds.
pub(crate) fn check_convertible(topology: &Topology) -> Result<()> {
    let mut weighted = false;
    for (index, layer) in topology.layers().iter().enumerate() {
        match layer {
            Layer::Conv2d { .. } | Layer::Linear { .. } => weighted = true,
            Layer::Activation {
                function: ActivationFunction::Relu | ActivationFunction::Qcfs { .. },
            } => {
                if !weighted {
                    return Err(Error::layer(
                        topology,
                        index,
                        "has no convolution or linear layer between it and the previous activation or the input",
                    ));
                }
                weighted = false;
            }
            Layer::Activation { function } => {
                return Err(Error::layer(
                    topology,
                    index,
                    format!("{function:?} has no spiking counterpart; train the network with ReLU"),
                ));
            }
            Layer::MaxPool2d { .. } => {
                return Err(Error::layer(
                    topology,
                    index,
                    "has no spiking counterpart; train the network with average pooling",
                ));
            }
            Layer::BatchNorm { .. }
            | Layer::AvgPool2d { .. }
            | Layer::Shortcut { .. }
            | Layer::Flatten
            | Layer::Dropout { .. } => {}
            _ => {
                return Err(Error::layer(topology, index, "is not known to conversion"));
            }
        }
    }
    Ok(())
}

pub(crate) fn as_f64(tensor: &Tensor) -> candle_core::Result<Vec<f64>> {
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    Ok(values.into_iter().map(f64::from).collect())
}
