//! The neuron scan over all time steps.

pub mod reference;

use candle_core::Tensor;

use crate::Result;
use crate::neuron::{NeuronSettings, Scan};

pub(crate) fn scan(currents: &Tensor, threshold: &Tensor, membrane: &Tensor, settings: &NeuronSettings) -> Result<Scan> {
    reference::scan(currents, threshold, membrane, settings)
}
