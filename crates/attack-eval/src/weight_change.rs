//! How far the released weights are from the source's.

use ann::Ann;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Change of one layer's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerChange {
    /// Index in the topology.
    pub layer: usize,
    /// `conv1`, `conv2`, ..., `linear1`, ...
    pub name: String,
    /// `|after - before| / |before|` in the Frobenius norm, biases left aside.
    pub relative: f64,
    /// Cosine of the angle between the two, which a mere rescaling leaves at 1.
    pub cosine: f64,
}

/// Relative change of each layer's weights from `before` to `after`, in layer order.
///
/// Compare networks on the same scale: the folded source with the [`crate::relu_reading()`] of a released network.
///
/// # Errors
/// Networks of different layers; a layer of `before` whose weights are all zero.
pub fn weight_change_by_layer(before: &Ann, after: &Ann) -> Result<Vec<LayerChange>> {
    if before.topology().spiking().layers() != after.topology().spiking().layers() {
        return Err(Error::argument(
            "weight change",
            format!(
                "`{}` and `{}` do not have the same layers",
                before.topology().name(),
                after.topology().name()
            ),
        ));
    }
    let mut changes = Vec::new();
    for layer in before.topology().weighted() {
        let name = before.topology().layer_name(layer);
        let a = values(before.parameters().weight(layer)?)?;
        let b = values(after.parameters().weight(layer)?)?;
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let (aa, bb, ab) = (dot(&a, &a), dot(&b, &b), dot(&a, &b));
        if aa == 0.0 {
            return Err(Error::argument(
                "weight change",
                format!("layer {layer} ({name}) of the source is all zero"),
            ));
        }
        let difference: f64 = a.iter().zip(&b).map(|(x, y)| (x - y).powi(2)).sum();
        let cosine = if bb == 0.0 {
            0.0
        } else {
            ab / (aa * bb).sqrt()
        };
        changes.push(LayerChange {
            layer,
            name,
            relative: (difference / aa).sqrt(),
            cosine,
        });
    }
    Ok(changes)
}

fn values(weight: &Tensor) -> Result<Vec<f64>> {
    let values: Vec<f32> = weight.flatten_all()?.to_vec1()?;
    Ok(values.into_iter().map(f64::from).collect())
}
