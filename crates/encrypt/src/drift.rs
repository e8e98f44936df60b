//! How far the weights have moved.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use snn_core::{Parameters, Topology};

use crate::Result;

/// How far one layer's weight is from where it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerDrift {
    /// Index of the layer in the topology.
    pub layer: usize,
    /// `||W - W_start|| / ||W_start||`, Frobenius norms, bias left out. If the start is all zero, `||W||`.
    pub relative: f64,
}

/// One entry per weighted layer, from the input on.
pub(crate) fn by_layer(
    topology: &Topology,
    start: &Parameters,
    now: &Parameters,
) -> Result<Vec<LayerDrift>> {
    topology
        .weighted()
        .into_iter()
        .map(|layer| {
            let before = values(start.weight(layer)?)?;
            let after = values(now.weight(layer)?)?;
            let squares =
                |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
            let size = squares(&mut before.iter().map(|&w| f64::from(w))).sqrt();
            let moved = squares(
                &mut before
                    .iter()
                    .zip(&after)
                    .map(|(&b, &a)| f64::from(a) - f64::from(b)),
            )
            .sqrt();
            Ok(LayerDrift {
                layer,
                relative: if size > 0.0 { moved / size } else { moved },
            })
        })
        .collect()
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.detach().flatten_all()?.to_vec1()?)
}
