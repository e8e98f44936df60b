//! First weights.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use snn_core::Topology;
use snn_core::rng::Seed;

use crate::Result;

/// A trained threshold at the start: beyond nearly all of what batch norm lets through, so that it comes down to where it
/// is best.
const THRESHOLD: f32 = 4.0;

/// Kaiming-normal weights (He et al. 2015): deviation `sqrt(2 / fan_in)`; zero biases; batch norm and
/// shortcuts at the identity. Each tensor is drawn from its own name, so that adding a layer leaves the others as they were.
pub(crate) fn kaiming_normal(
    topology: &Topology,
    seed: Seed,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for (name, shape) in topology.tensor_shapes() {
        let tensor = if name.ends_with(".weight") {
            let fan_in: usize = shape[1..].iter().product();
            let deviation = (2.0 / fan_in as f64).sqrt() as f32;
            seed.derive(&name).normal(&shape, 0.0, deviation, device)?
        } else if [".gamma", ".running_var", ".scale"]
            .iter()
            .any(|one| name.ends_with(one))
        {
            Tensor::ones(shape, DType::F32, device)?
        } else if name.ends_with(".threshold") {
            Tensor::full(THRESHOLD, shape, device)?
        } else {
            Tensor::zeros(shape, DType::F32, device)?
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}
