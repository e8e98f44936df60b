//! What is attacked, as the ascent sees it.

use ann::Ann;
use candle_core::{Device, Tensor};
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
}

/// A spiking network run for a fixed window, with fresh coder noise at each step of the ascent.
#[derive(Debug, Clone)]
pub struct SpikingTarget {
    network: SpikingNetwork,
    timesteps: usize,
    seed: Seed,
}

impl SpikingTarget {
    /// Takes the network's weights as constants: the graph goes through the image only.
    ///
    /// # Errors
    /// No time steps.
    pub fn new(network: &SpikingNetwork, timesteps: usize, seed: Seed) -> Result<Self> {
        if timesteps == 0 {
            return Err(Error::argument("timesteps", "must be at least 1"));
        }
        Ok(Self {
            network: network
                .clone()
                .with_parameters(network.parameters().detached())?,
            timesteps,
            seed,
        })
    }
}

impl Target for SpikingTarget {
    fn topology(&self) -> &Topology {
        self.network.topology()
    }

    fn device(&self) -> Device {
        self.network.parameters().device()
    }

    fn class_scores(&self, images: &Tensor, ids: &[u64], step: usize) -> Result<Tensor> {
        let batch = Batch {
            images,
            ids,
            seed: self.seed.index(step as u64),
        };
        Ok(bptt::logits(
            &self.network,
            batch,
            Mode::Inference,
            self.timesteps,
            &bptt::Options::default(),
        )?)
    }
}
