//! The way over a graph, for devices without kernels on slices.

use candle_core::{Tensor, Var};

use super::{Gradients, Wanted};
use crate::network::{Batch, Mode, SpikingNetwork};
use crate::{Error, Result};

/// A graph of what is wanted.
#[derive(Debug)]
pub(super) struct Graph {
    logits: Tensor,
    parameters: Vec<(String, Var)>,
    images: Option<Var>,
}

impl Graph {
    /// The logits, outside the graph, and the graph.
    pub(super) fn forward(
        network: &SpikingNetwork,
        batch: Batch,
        mode: Mode,
        timesteps: usize,
        wanted: Wanted,
    ) -> Result<(Tensor, Self)> {
        let (network, parameters) = match wanted.parameters {
            true => network.over_variables()?,
            false => (network.detached(), Vec::new()),
        };
        let images = match wanted.images {
            true => Some(Var::from_tensor(batch.images)?),
            false => None,
        };
        let detached = batch.images.detach();
        let batch = Batch {
            images: images.as_ref().map_or(&detached, Var::as_tensor),
            ..batch
        };
        let logits = network.logits(batch, mode, timesteps)?;
        let graph = Self {
            logits: logits.clone(),
            parameters,
            images,
        };
        Ok((logits.detach(), graph))
    }

    pub(super) fn backward(self, g_logits: &Tensor) -> Result<Gradients> {
        let scalar = (&self.logits * g_logits.detach())?.sum_all()?;
        let mut gradients = scalar.backward()?;
        let mut take = |variable: &Var, name: &str| {
            let missing = || Error::argument("bptt", format!("{name} takes no part in the logits"));
            gradients.remove(variable).ok_or_else(missing)
        };
        let parameters = self
            .parameters
            .iter()
            .map(|(name, variable)| Ok((name.clone(), take(variable, name)?)))
            .collect::<Result<_>>()?;
        let images = self
            .images
            .map(|images| take(&images, "images"))
            .transpose()?;
        Ok(Gradients { parameters, images })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::Device;

    use super::super::{Options, forward};
    use super::*;
    use crate::rng::Seed;
    use crate::{ActivationFunction, Layer, Parameters, SpikingSettings, Topology};

    fn network() -> Result<SpikingNetwork> {
        let layers = vec![
            Layer::Conv2d {
                in_channels: 2,
                out_channels: 3,
                kernel: 3,
                stride: 1,
                padding: 1,
                bias: true,
            },
            Layer::Activation {
                function: ActivationFunction::Relu,
            },
            Layer::Dropout { probability: 0.25 },
            Layer::Flatten,
            Layer::Linear {
                in_features: 48,
                out_features: 2,
                bias: true,
            },
        ];
        let topology = Topology::new("small", [2, 4, 4], layers)?;
        let mut tensors = BTreeMap::new();
        for (name, shape) in topology.tensor_shapes() {
            let numbers = Seed::new(1).derive(&name);
            tensors.insert(name, numbers.normal(&shape, 0.1, 0.3, &Device::Cpu)?);
        }
        let parameters = Parameters::new(&topology, tensors)?;
        let thresholds = BTreeMap::from([(1, Tensor::new(&[0.5f32], &Device::Cpu)?)]);
        SpikingNetwork::new(topology, parameters, thresholds, SpikingSettings::default())
    }

    /// The two ways are twins; on the CPU only this test takes the graph's.
    #[test]
    fn both_ways_give_the_same() -> Result<()> {
        let network = network()?;
        let images = Seed::new(2).uniform(&[3, 2, 4, 4], -1.0, 1.0, &Device::Cpu)?;
        let batch = Batch {
            images: &images,
            ids: &[3, 1, 2],
            seed: Seed::new(7),
        };
        let wanted = Wanted {
            parameters: true,
            images: true,
        };
        let options = Options {
            wanted,
            ..Options::default()
        };
        let kept = forward(&network, batch, Mode::Training, 5, &options)?;
        let (logits, graph) = Graph::forward(&network, batch, Mode::Training, 5, wanted)?;
        assert_eq!(kept.logits().to_vec2::<f32>()?, logits.to_vec2::<f32>()?);
        let g_logits = Seed::new(3).normal(&[3, 2], 0.0, 1.0, &Device::Cpu)?;
        let (kept, graph) = (kept.backward(&g_logits)?, graph.backward(&g_logits)?);
        let close = |a: &Tensor, b: &Tensor| -> Result<bool> {
            let size = b.abs()?.max_all()?.to_scalar::<f32>()?;
            Ok(size > 0.0 && (a - b)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5 * size)
        };
        assert_eq!(kept.parameters.len(), graph.parameters.len());
        for (name, gradient) in &graph.parameters {
            assert!(close(&kept.parameters[name], gradient)?, "{name}");
        }
        let images = kept.images.zip(graph.images);
        assert!(images.is_some_and(|(a, b)| close(&a, &b).is_ok_and(|close| close)));
        Ok(())
    }
}
