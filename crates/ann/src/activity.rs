//! What the spiking network will spend, while the source network is trained.

use std::collections::BTreeMap;

use candle_core::Tensor;
use snn_core::ops::mean;
use snn_core::{ActivationFunction, Layer, Parameters, Topology, energy};

use crate::{Error, Result};

/// The firing rate that a network's products will meet once it spikes:
///
/// ```text
/// activity = sum over l of s_l mean(y_l) / theta_l
/// ```
///
/// over the activation layers l. `y_l` is the activation, whose ratio to the threshold `theta_l` is the firing rate of the
/// neuron that stands for it, and `s_l` the share of l in the multiply-accumulates that activations feed. By the convention
/// of rates ([`snn_core::energy`]) the spiking network spends `0.9 activity` where the source spends 4.6 pJ; the layers
/// that the image feeds are not counted. In [0, 1] and without a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    shares: BTreeMap<usize, f64>,
}

impl Activity {
    /// Of networks of this topology.
    ///
    /// # Errors
    /// An activation without a threshold, by layer: only a staircase has one in training. No activation that feeds a weight.
    pub fn of(topology: &Topology) -> Result<Self> {
        let fed = energy::macs_by_population(topology)?;
        for &layer in fed.keys() {
            if !has_threshold(&topology.layers()[layer]) {
                let message = format!(
                    "layer {layer} has no threshold that its activation could be measured by; give the network `levels`, or \
                     leave the penalty at 0"
                );
                return Err(Error::argument("activity_penalty", message));
            }
        }
        let total: u64 = fed.values().sum();
        if total == 0 {
            let message = "no activation of the network feeds a weight";
            return Err(Error::argument("activity_penalty", message));
        }
        let share = |(layer, macs): (usize, u64)| (layer, macs as f64 / total as f64);
        Ok(Self {
            shares: fed.into_iter().map(share).collect(),
        })
    }

    /// The activity of a pass in which layer l gave `output(l)`, and its slopes by layer.
    ///
    /// # Errors
    /// An output or a threshold that is not there.
    pub fn measure<'a>(
        &self,
        output: impl Fn(usize) -> Result<&'a Tensor>,
        parameters: &Parameters,
    ) -> Result<(f64, BTreeMap<usize, Slope>)> {
        let (mut activity, mut slopes) = (0.0, BTreeMap::new());
        for (&layer, &share) in &self.shares {
            let output = output(layer)?;
            let mean = mean::mean(output)?;
            let threshold = parameters.threshold(layer)?.detach().to_vec1::<f32>()?;
            let threshold = threshold.first().copied().map_or(f64::NAN, f64::from);
            activity += share * mean / threshold;
            slopes.insert(
                layer,
                Slope {
                    of_activation: share / (threshold * output.elem_count() as f64),
                    of_threshold: -share * mean / (threshold * threshold),
                },
            );
        }
        Ok((activity, slopes))
    }
}

/// How the activity changes with a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// With each number of its output.
    pub of_activation: f64,
    /// With its threshold, the output as it is.
    pub of_threshold: f64,
}

impl Slope {
    /// The slope of so many times the activity.
    pub fn times(self, factor: f64) -> Self {
        Self {
            of_activation: self.of_activation * factor,
            of_threshold: self.of_threshold * factor,
        }
    }
}

fn has_threshold(layer: &Layer) -> bool {
    let staircase =
        |function: &ActivationFunction| matches!(function, ActivationFunction::Qcfs { .. });
    matches!(layer, Layer::Activation { function } if staircase(function))
}
