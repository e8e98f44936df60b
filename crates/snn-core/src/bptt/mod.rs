//! Backpropagation through time without a graph.
//!
//! [`forward`] gives the logits of [`SpikingNetwork::logits`], bit for bit if its sums are to be ordered
//! ([`Options::sums`]), and keeps a bit for each neuron and step, and its current unless told to compute it again
//! ([`Keep`]); [`Pass::backward`] takes the gradient of the logits to that of the weights, of the images, or of both,
//! computing again whatever else it needs. The weights must stay as they are in between: the pass shares them with the
//! network. Layer after layer from the top: the currents `I` of a population from the spikes below it, its membranes from
//! the currents, then for t from T down to 1
//!
//! ```text
//! dL/du[t] = dL/dv[t] * dv[t]/du[t] + (dL/ds[t] + dL/dv[t] * dv[t]/ds[t]) * surrogate'(u[t] / threshold - 1) / threshold
//! dL/dI[t] = dL/du[t]         dL/dv[t-1] = leak * dL/du[t]
//! ```
//!
//! (no `dv[t]/ds[t]` with a detached reset), and from `dL/dI` over all steps at once the gradients of the weights and of
//! the spikes below. The gradients are those of the graph of `logits` up to the rounding of sums in another order; they do
//! not depend on the number of threads.
//!
//! ```
//! # use snn_core::{bptt, network::{Batch, Mode}, Result, SpikingNetwork};
//! # use candle_core::Tensor;
//! # fn step(network: &SpikingNetwork, batch: Batch, g_logits: fn(&Tensor) -> Result<Tensor>) -> Result<()> {
//! let pass = bptt::forward(network, batch, Mode::Training, 8, &bptt::Options::default())?;
//! let g_logits = g_logits(pass.logits())?;
//! let gradients = pass.backward(&g_logits)?;
//! let of_first_weight = &gradients.parameters["0.weight"];
//! # let _ = of_first_weight;
//! # Ok(())
//! # }
//! ```

mod between;
mod convolution;
mod events;
mod graph;
mod node;
mod pass;
mod plan;
mod sums;
mod weighted;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

pub use self::node::logits;
use crate::network::{Batch, Mode, SpikingNetwork};
use crate::ops::conv2d::Sums;
use crate::{Error, Result, ops};

/// What the backward pass is to compute; the rest it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Gradients of weights and biases.
    pub parameters: bool,
    /// The gradient of the images; through Poisson coding by the straight-through estimator, as the sum over time.
    pub images: bool,
}

impl Wanted {
    /// For training.
    pub const PARAMETERS: Self = Self {
        parameters: true,
        images: false,
    };
    /// For ascent on the input.
    pub const IMAGES: Self = Self {
        parameters: false,
        images: true,
    };
}

/// What the forward pass keeps of each population.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Its spikes, a bit for each neuron and step. The backward pass runs the weighted layers forward once more.
    Spikes,
    /// Its input currents too, 32 bits more.
    #[default]
    Currents,
}

/// How a pass trades time for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What the backward pass is to compute.
    pub wanted: Wanted,
    /// What the forward pass keeps.
    pub keep: Keep,
    /// Steps of a chunk of time, at least 1. The forward pass then keeps the membranes at the chunks' borders, and of
    /// [`Options::keep`] only the last chunk; the backward pass runs each other chunk again. With about the square root
    /// of T steps memory grows with the square root of T; the gradients are the same up to the rounding of their sum over
    /// the chunks. None for one chunk, which is not run again.
    pub chunk: Option<usize>,
    /// How the convolutions of the forward pass add. What [`SpikingNetwork::logits`] and the event-driven engine compute are
    /// ordered sums; with the fastest ones, the default, a neuron whose membrane is at its threshold but for their rounding
    /// may fire at a step at which it does not there, or the other way round.
    pub sums: Sums,
}

impl Options {
    fn check(&self) -> Result<()> {
        match self.chunk {
            Some(0) => Err(Error::argument("chunk", "must be at least 1 step")),
            _ => Ok(()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wanted: Wanted::PARAMETERS,
            keep: Keep::default(),
            chunk: None,
            sums: Sums::Fastest,
        }
    }
}

/// A forward pass that waits for the gradient of its logits.
#[derive(Debug)]
pub struct Pass {
    logits: Tensor,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Kept(Box<pass::Kept>),
    Graph(graph::Graph),
}

/// What a backward pass gave.
#[derive(Debug)]
pub struct Gradients {
    /// By name, such as `"0.weight"`, each of its parameter's shape; empty if not wanted.
    pub parameters: BTreeMap<String, Tensor>,
    /// `[N, C, H, W]`; none if not wanted.
    pub images: Option<Tensor>,
}

/// Runs `timesteps` steps; see [`SpikingNetwork::logits`] for what is computed.
///
/// On the CPU no graph is built. On other devices a graph is, of what is wanted, and the other options change nothing.
///
/// # Errors
/// Those of [`SpikingNetwork::advance`]; chunks of no steps.
pub fn forward(
    network: &SpikingNetwork,
    batch: Batch,
    mode: Mode,
    timesteps: usize,
    options: &Options,
) -> Result<Pass> {
    network.check(batch, timesteps)?;
    options.check()?;
    let mut tensors: Vec<&Tensor> = network.parameters().tensors().values().collect();
    tensors.push(batch.images);
    if !ops::cpu::takes(&tensors) {
        let (logits, graph) =
            graph::Graph::forward(network, batch, mode, timesteps, options.wanted)?;
        return Ok(Pass {
            logits,
            way: Way::Graph(graph),
        });
    }
    let (logits, kept) = pass::Kept::forward(network, batch, mode, timesteps, *options)?;
    Ok(Pass {
        logits,
        way: Way::Kept(Box::new(kept)),
    })
}

impl Pass {
    /// `[N, K]`, outside any graph.
    pub fn logits(&self) -> &Tensor {
        &self.logits
    }

    /// Bytes that the pass keeps for its backward pass besides the network and the images: spikes, membranes at the
    /// borders of chunks, and currents. None where it keeps a graph.
    pub fn bytes_kept(&self) -> Option<usize> {
        match &self.way {
            Way::Kept(kept) => Some(kept.bytes()),
            Way::Graph(_) => None,
        }
    }

    /// Gradients of a scalar whose gradient in the logits is `g_logits` `[N, K]`.
    ///
    /// # Errors
    /// A `g_logits` of another shape or type than the logits'.
    pub fn backward(self, g_logits: &Tensor) -> Result<Gradients> {
        if g_logits.dims() != self.logits.dims() || g_logits.dtype() != DType::F32 {
            return Err(Error::argument(
                "g_logits",
                format!(
                    "needs f32 {:?} like the logits, got {:?} {:?}",
                    self.logits.dims(),
                    g_logits.dtype(),
                    g_logits.dims()
                ),
            ));
        }
        match self.way {
            Way::Kept(kept) => kept.backward(g_logits),
            Way::Graph(graph) => graph.backward(g_logits),
        }
    }
}
