//! A pass as one node of somebody else's graph.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::{Options, Pass, Wanted, forward};
use crate::Result;
use crate::network::{Batch, Mode, SpikingNetwork};
use crate::ops::cpu::{takes, with_values};

/// [`SpikingNetwork::logits`] as one node over the images, its convolutions added as [`Options::sums`] says; its backward
/// pass is [`Pass::backward`] for the images alone; weights are constants. Without a graph over the images, and on other
/// devices than the CPU, it is the network's own logits. The backward pass can be run once.
///
/// # Errors
/// Those of [`forward`].
pub fn logits(
    network: &SpikingNetwork,
    batch: Batch,
    mode: Mode,
    timesteps: usize,
    options: &Options,
) -> Result<Tensor> {
    options.check()?;
    if !batch.images.track_op() || !takes(&[batch.images]) {
        return network.detached().logits(batch, mode, timesteps);
    }
    let options = Options {
        wanted: Wanted::IMAGES,
        ..*options
    };
    let pass = forward(network, batch, mode, timesteps, &options)?;
    let node = Node(Mutex::new(Some(pass)));
    Ok(batch.images.contiguous()?.apply_op1(node)?)
}

/// A pass until its backward pass takes it.
struct Node(Mutex<Option<Pass>>);

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        "spiking-network"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        match &*self.0.lock().unwrap_or_else(|e| e.into_inner()) {
            Some(pass) => {
                let logits = with_values(pass.logits(), <[f32]>::to_vec)?;
                Ok((CpuStorage::F32(logits), pass.logits().shape().clone()))
            }
            None => candle_core::bail!("a pass through time was taken before its logits"),
        }
    }

    fn bwd(
        &self,
        _images: &Tensor,
        _logits: &Tensor,
        g_logits: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let pass = self.0.lock().unwrap_or_else(|e| e.into_inner()).take();
        let Some(pass) = pass else {
            candle_core::bail!("the backward pass through time can be run once");
        };
        let gradients = pass.backward(g_logits).map_err(candle_core::Error::wrap)?;
        Ok(gradients.images)
    }
}
