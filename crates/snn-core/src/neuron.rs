//! Integrate-and-fire neurons as pure functions of their input currents.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::surrogate::Surrogate;
use crate::{Error, Result, ops};

/// What a spike does to the membrane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// `v -= threshold`: what exceeds the threshold is kept.
    #[default]
    Soft,
    /// `v = 0`.
    Hard,
}

/// When a neuron fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firing {
    /// `v > threshold` (the paper's).
    #[default]
    Above,
    /// `v >= threshold` (SpikingJelly's).
    AtOrAbove,
}

/// The dynamics of a population, one step being
///
/// ```text
/// u[t] = leak * v[t-1] + I[t]
/// s[t] = 1 if u[t] > threshold else 0            (or >=, see Firing)
/// v[t] = u[t] - threshold * s[t]                 (soft reset)   or   u[t] * (1 - s[t])   (hard reset)
/// ```
///
/// The gradient of `s` with respect to `u` is `surrogate'(u / threshold - 1) / threshold`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeuronSettings {
    /// Share of the membrane kept per step: 1 is integrate-and-fire, less is leaky.
    pub leak: f32,
    /// What a spike does to the membrane.
    pub reset: Reset,
    /// When a neuron fires.
    pub firing: Firing,
    /// Stand-in for the gradient of the spike.
    pub surrogate: Surrogate,
    /// Whether the gradient ignores the spike inside the reset (the paper's).
    pub detach_reset: bool,
}

impl Default for NeuronSettings {
    fn default() -> Self {
        Self {
            leak: 1.0,
            reset: Reset::Soft,
            firing: Firing::Above,
            surrogate: Surrogate::default(),
            detach_reset: true,
        }
    }
}

impl NeuronSettings {
    /// Refuses values outside their domains.
    ///
    /// # Errors
    /// A leak outside `(0, 1]`, a parameter of the surrogate that is not positive and finite, by name.
    pub fn check(&self) -> Result<()> {
        if !(self.leak > 0.0 && self.leak <= 1.0) {
            return Err(Error::argument(
                "neuron.leak",
                format!("must be in (0, 1], got {}", self.leak),
            ));
        }
        self.surrogate.check()
    }
}

/// What a population did over a window.
#[derive(Debug, Clone)]
pub struct Scan {
    /// 0 or 1, `[T, N, C, ...]`.
    pub spikes: Tensor,
    /// Membrane after the last step, `[N, C, ...]`.
    pub membrane: Tensor,
}

/// Runs a population over all T steps as one operation.
///
/// `currents` `[T, N, C, ...]`, `threshold` `[1]` or `[C]` (no gradient), `membrane` `[N, C, ...]` before the first
/// step. Differentiable in `currents` and `membrane`.
///
/// # Errors
/// Shapes that do not fit, no steps, an empty batch or another empty axis, settings out of range. Thresholds are taken as
/// they are: see [`crate::SpikingNetwork::new`] for their check.
pub fn scan(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
) -> Result<Scan> {
    check(currents, threshold, membrane, settings)?;
    ops::neuron::scan(currents, threshold, membrane, settings)
}

/// Gradients of a scan's currents `[T, N, C, ...]` and of the membrane `[N, C, ...]` before its first step, from the
/// gradient `g_spikes` `[T, N, C, ...]` of its spikes: what the graph of [`scan`] gives, for f32 on the CPU without one. The
/// membranes are computed again from the currents.
///
/// # Errors
/// Those of [`scan`]; a `g_spikes` of another shape, type or device than the currents'.
pub fn backward(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
    g_spikes: &Tensor,
) -> Result<(Tensor, Tensor)> {
    check(currents, threshold, membrane, settings)?;
    if g_spikes.dims() != currents.dims() {
        return Err(Error::argument(
            "g_spikes",
            format!(
                "needs {:?} like the currents, got {:?}",
                currents.dims(),
                g_spikes.dims()
            ),
        ));
    }
    let alike =
        g_spikes.dtype() == currents.dtype() && g_spikes.device().same_device(currents.device());
    if !alike {
        return Err(Error::argument(
            "g_spikes",
            format!(
                "needs {:?} on {:?} like the currents, got {:?} on {:?}",
                currents.dtype(),
                currents.device().location(),
                g_spikes.dtype(),
                g_spikes.device().location()
            ),
        ));
    }
    ops::neuron::backward(currents, threshold, membrane, settings, g_spikes)
}

fn check(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
) -> Result<()> {
    settings.check()?;
    let dims = currents.dims();
    if dims.len() < 3 || dims.contains(&0) {
        return Err(Error::argument(
            "currents",
            format!("needs [T, N, C, ...] with T at least 1 and no empty axis, got {dims:?}"),
        ));
    }
    if membrane.dims() != &dims[1..] {
        return Err(Error::argument(
            "membrane",
            format!(
                "needs {:?} to go with currents {dims:?}, got {:?}",
                &dims[1..],
                membrane.dims()
            ),
        ));
    }
    if threshold.dims() != [1] && threshold.dims() != [dims[2]] {
        return Err(Error::argument(
            "threshold",
            format!("needs [1] or [{}], got {:?}", dims[2], threshold.dims()),
        ));
    }
    Ok(())
}
