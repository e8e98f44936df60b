//! What is attacked, as the ascent sees it.

use std::collections::BTreeMap;

use ann::{Ann, Pass};
use candle_core::{Device, Tensor, Var};
use snn_core::network::{Batch, Mode};
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, Topology, bptt};

use crate::{Error, Result};

/// A classifier whose scores can be differentiated in the image.
pub trait Target {
    /// Its layers: image shape and number of classes.
    fn topology(&self) -> &Topology;

    /// Where it runs.
    fn device(&self) -> Device;

    /// Class scores `[N, K]` of `images` `[N, C, H, W]` in [-1, 1]. Noise, if there is any, must be a function of the
    /// image's id and the step alone.
    fn class_scores(&self, images: &Tensor, ids: &[u64], step: usize) -> Result<Tensor>;

    /// Gradient in the images of what `objective` makes of the class scores, a scalar.
    ///
    /// # Errors
    /// Scores that do not depend on the images, or an objective that does not look at them.
    fn gradient(
        &self,
        images: &Tensor,
        ids: &[u64],
        step: usize,
        objective: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let images = Var::from_tensor(images)?;
        let scores = self.class_scores(images.as_tensor(), ids, step)?;
        gradient_of(&objective(&scores)?, &images)
    }
}

/// The gradient of `loss` in `variable`, by the graph.
pub(super) fn gradient_of(loss: &Tensor, variable: &Var) -> Result<Tensor> {
    let gradient = loss.backward()?.remove(variable.as_tensor());
    gradient
        .ok_or_else(|| Error::argument("target", "its class scores do not depend on the images"))
}

impl Target for Ann {
    fn topology(&self) -> &Topology {
        self.topology()
    }

    fn device(&self) -> Device {
        self.parameters().device()
    }

    fn class_scores(&self, images: &Tensor, _ids: &[u64], _step: usize) -> Result<Tensor> {
        Ok(self.forward(images, ann::Mode::Inference)?)
    }

    /// Without a graph but that of the objective.
    fn gradient(
        &self,
        images: &Tensor,
        _ids: &[u64],
        _step: usize,
        objective: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let ann = self.detached();
        let pass = Pass::forward(&ann, &images.detach(), ann::Mode::Inference)?;
        let scores = Var::from_tensor(pass.logits()?)?;
        let of_scores = gradient_of(&objective(scores.as_tensor())?, &scores)?;
        Ok(pass.image_gradient(of_scores, &BTreeMap::new())?)
    }
}

/// A spiking network, its weights constants, run for so many steps, with fresh coder noise at each step of the ascent.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) network: SpikingNetwork,
    pub(super) timesteps: usize,
    seed: Seed,
}

impl Window {
    /// # Errors
    /// No time steps.
    pub(super) fn new(network: &SpikingNetwork, timesteps: usize, seed: Seed) -> Result<Self> {
        if timesteps == 0 {
            return Err(Error::argument("timesteps", "must be at least 1"));
        }
        let constants = network.parameters().detached();
        Ok(Self {
            network: network.clone().with_parameters(constants)?,
            timesteps,
            seed,
        })
    }

    /// What the network is run on at a step of the ascent.
    pub(super) fn batch<'a>(&self, images: &'a Tensor, ids: &'a [u64], step: usize) -> Batch<'a> {
        Batch {
            images,
            ids,
            seed: self.seed.index(step as u64),
        }
    }
}

/// A spiking network run for a fixed window, with fresh coder noise at each step of the ascent, whose gradient goes through
/// each spike by the surrogate of its settings.
#[derive(Debug, Clone)]
pub struct SpikingTarget(Window);

impl SpikingTarget {
    /// Takes the network's weights as constants: the graph goes through the image only.
    ///
    /// # Errors
    /// No time steps.
    pub fn new(network: &SpikingNetwork, timesteps: usize, seed: Seed) -> Result<Self> {
        Ok(Self(Window::new(network, timesteps, seed)?))
    }
}

impl Target for SpikingTarget {
    fn topology(&self) -> &Topology {
        self.0.network.topology()
    }

    fn device(&self) -> Device {
        self.0.network.parameters().device()
    }

    fn class_scores(&self, images: &Tensor, ids: &[u64], step: usize) -> Result<Tensor> {
        let window = &self.0;
        Ok(bptt::logits(
            &window.network,
            window.batch(images, ids, step),
            Mode::Inference,
            window.timesteps,
            &bptt::Options::default(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use ann::{Depth, NetworkConfig};
    use testkit::{Tolerance, assert_close};

    use super::*;

    /// The same network without a way back of its own.
    struct ByGraph<'a>(&'a Ann);

    impl Target for ByGraph<'_> {
        fn topology(&self) -> &Topology {
            self.0.topology()
        }

        fn device(&self) -> Device {
            Target::device(self.0)
        }

        fn class_scores(&self, images: &Tensor, ids: &[u64], step: usize) -> Result<Tensor> {
            self.0.class_scores(images, ids, step)
        }
    }

    #[test]
    fn the_way_back_is_that_of_the_graph() -> Result<()> {
        let seed = Seed::new(3);
        let images = seed.normal(&[4, 3, 8, 8], 0.0, 1.0, &Device::Cpu)?;
        for (levels, batch_norm) in [(0, true), (0, false), (8, true), (8, false)] {
            let plan = NetworkConfig {
                width: 0.1,
                hidden: 7,
                levels,
                batch_norm,
                ..NetworkConfig::paper(Depth::Vgg5)
            };
            let ann = Ann::initialise(plan.topology([3, 8, 8], 4)?, seed, &Device::Cpu)?;
            let objective = |scores: &Tensor| Ok(scores.sqr()?.sum_all()?);
            let ids = [0, 1, 2, 3];
            let found = ann.gradient(&images, &ids, 0, &objective)?;
            let expected = ByGraph(&ann).gradient(&images, &ids, 0, &objective)?;
            let what = format!("{levels} levels, batch norm {batch_norm}");
            assert_close(&found, &expected, Tolerance::Rounding(100.0), &what);
        }
        Ok(())
    }
}
