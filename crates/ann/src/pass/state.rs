//! What is known, and what is wanted, on the way back.

use std::collections::BTreeMap;

use candle_core::Tensor;
use snn_core::ops::batch_norm::fused::StatisticsGradients;

use crate::Result;
use crate::activity::Slope;

/// What the way back is for, and what other parts of the loss bring to it.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// The trained tensors, `first` being the first layer that has any.
    Trained {
        first: usize,
        slopes: &'a BTreeMap<usize, Slope>,
    },
    /// The images.
    Images {
        statistics: &'a BTreeMap<usize, StatisticsGradients>,
    },
}

/// What is known on the way back.
pub(super) struct BackwardState {
    /// Of the output of the layer that comes next.
    pub(super) gradient: Tensor,
    /// Of outputs that shortcuts further on took, by layer.
    pub(super) of_earlier: BTreeMap<usize, Tensor>,
    /// Of trained tensors.
    pub(super) found: BTreeMap<String, Tensor>,
}

impl BackwardState {
    /// Adds to the gradient what comes to the output of layer `index` from elsewhere.
    pub(super) fn arrive(&mut self, index: usize, wanted: Wanted) -> Result<()> {
        if let Some(more) = self.of_earlier.remove(&index) {
            self.gradient = (&self.gradient + more)?;
        }
        if let Wanted::Trained { slopes, .. } = wanted
            && let Some(slope) = slopes.get(&index)
        {
            self.gradient = (&self.gradient + slope.of_activation)?;
            let device = self.gradient.device();
            let of_threshold = Tensor::new(&[slope.of_threshold as f32], device)?;
            self.add(index, "threshold", of_threshold)?;
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, from: usize, gradient: Tensor) -> Result<()> {
        let sum = match self.of_earlier.remove(&from) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        self.of_earlier.insert(from, sum);
        Ok(())
    }

    pub(super) fn put(&mut self, layer: usize, name: &str, gradient: Tensor) {
        self.found.insert(format!("{layer}.{name}"), gradient);
    }

    pub(super) fn add(&mut self, layer: usize, name: &str, gradient: Tensor) -> Result<()> {
        let key = format!("{layer}.{name}");
        let sum = match self.found.remove(&key) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        self.found.insert(key, sum);
        Ok(())
    }
}
