//! Runs without gradients, on the faster of the two engines that can.

use crate::Result;
use crate::event::EventNetwork;
use crate::network::{Batch, Run, SpikingNetwork};

/// A network with the engine that runs it: the result is the same, bit for bit.
#[derive(Debug)]
pub enum Engine<'a> {
    /// By events.
    Events(EventNetwork<'a>),
    /// By dense tensors, where [`EventNetwork`] cannot express the network or it is not on the CPU.
    Dense(&'a SpikingNetwork),
}

impl<'a> Engine<'a> {
    /// The engine of a network.
    pub fn of(network: &'a SpikingNetwork) -> Self {
        EventNetwork::new(network).map_or(Self::Dense(network), Self::Events)
    }

    /// As [`SpikingNetwork::run`]; by events `chunk` is of no importance.
    ///
    /// # Errors
    /// Those of [`SpikingNetwork::advance`].
    pub fn run(&self, batch: Batch, timesteps: usize, chunk: usize) -> Result<Run> {
        match self {
            Self::Events(events) => Ok(events.run(batch, timesteps)?.run),
            Self::Dense(network) => network.run(batch, timesteps, chunk),
        }
    }
}
