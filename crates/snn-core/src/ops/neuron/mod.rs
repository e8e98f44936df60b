//! The neuron scan over all time steps.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub mod reference;

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor, Var};

use self::cpu::{Currents, Population, Upstream, Window};
use super::cpu::{Unwritten, takes, with_values};
use super::memory::zeros;
use crate::Result;
use crate::neuron::{NeuronSettings, Scan};

/// [`crate::neuron::scan`] on checked arguments.
///
/// A custom operation has one result, and a scan has two: the spikes are one node of the graph, the membrane another.
/// Both are filled by one pass forward; each has its own pass backward, so that training, where the loss depends on the
/// spikes alone, makes one.
pub(crate) fn scan(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
) -> Result<Scan> {
    #[cfg(feature = "cuda")]
    if super::cuda::takes(&[currents, threshold, membrane]) {
        return cuda::scan(currents, threshold, membrane, settings);
    }
    if !takes(&[currents, threshold, membrane]) {
        return reference::scan(currents, threshold, membrane, settings);
    }
    let currents = currents.contiguous()?;
    let threshold = threshold.detach().contiguous()?;
    let membrane = membrane.contiguous()?;
    let population = Population::new(currents.dims(), with_values(&threshold, <[f32]>::to_vec)?);
    let (spikes, last) = with_values(&currents, |currents| {
        with_values(&membrane, |membrane| {
            cpu::forward(&population, settings, currents, membrane)
        })
    })??;
    if !currents.track_op() && !membrane.track_op() {
        return Ok(Scan {
            spikes: Tensor::from_vec(spikes, currents.shape(), currents.device())?,
            membrane: Tensor::from_vec(last, membrane.shape(), membrane.device())?,
        });
    }
    let node = |values: Vec<f32>, output: Output| {
        let node = Node {
            settings: *settings,
            output,
            values: Mutex::new(values),
        };
        currents.apply_op3(&threshold, &membrane, node)
    };
    Ok(Scan {
        spikes: node(spikes, Output::Spikes)?,
        membrane: node(last, Output::Membrane)?,
    })
}

/// [`crate::neuron::backward`] on checked arguments.
pub(crate) fn backward(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
    g_spikes: &Tensor,
) -> Result<(Tensor, Tensor)> {
    if takes(&[currents, threshold, membrane, g_spikes]) {
        let g_spikes = Some(g_spikes);
        return Ok(gradients(
            currents, threshold, membrane, settings, g_spikes, None,
        )?);
    }
    let currents = Var::from_tensor(&currents.detach())?;
    let membrane = Var::from_tensor(&membrane.detach())?;
    let scan = scan(&currents, threshold, &membrane, settings)?;
    let mut gradients = (scan.spikes * g_spikes.detach())?.sum_all()?.backward()?;
    let mut of = |variable: &Var| match gradients.remove(variable) {
        Some(gradient) => Ok(gradient),
        None => variable.zeros_like(),
    };
    Ok((of(&currents)?, of(&membrane)?))
}

/// Gradients of the currents and of the membrane before the first step, from those of the spikes and of the membrane
/// after the last one; one that is absent is zero.
fn gradients(
    currents: &Tensor,
    threshold: &Tensor,
    membrane: &Tensor,
    settings: &NeuronSettings,
    g_spikes: Option<&Tensor>,
    g_last: Option<&Tensor>,
) -> candle_core::Result<(Tensor, Tensor)> {
    let threshold = with_values(threshold, <[f32]>::to_vec)?;
    let population = Population::new(currents.dims(), threshold);
    // the larger buffer first: it takes the place of the one that an earlier call has freed
    let apart = g_spikes.map(|_| Unwritten::new(currents.elem_count()));
    let mut g_membrane = match g_last {
        Some(g_last) => with_values(g_last, <[f32]>::to_vec)?,
        None => zeros(membrane.elem_count()),
    };
    let g_currents = with_values(currents, |currents| {
        with_values(membrane, |membrane| {
            let window = Window {
                population: &population,
                settings,
                currents: Currents::Steps(currents),
                membrane,
            };
            let Some((g_spikes, mut gradient)) = g_spikes.zip(apart) else {
                let mut gradient = zeros(currents.len());
                window.backward(Upstream::InPlace(&mut gradient), &mut g_membrane);
                return Ok(gradient);
            };
            with_values(g_spikes, |g_spikes| {
                window.backward(Upstream::Apart(g_spikes, &mut gradient), &mut g_membrane);
                // SAFETY: the pass wrote the gradients of all neurons at all steps.
                unsafe { gradient.written() }
            })
        })
    })???;
    Ok((
        Tensor::from_vec(g_currents, currents.shape(), currents.device())?,
        Tensor::from_vec(g_membrane, membrane.shape(), membrane.device())?,
    ))
}

/// Which of a scan's two results a node of the graph is.
#[derive(Debug, Clone, Copy)]
enum Output {
    Spikes,
    Membrane,
}

/// A result of a scan as a node of the graph over (currents, threshold, membrane before the first step).
struct Node {
    settings: NeuronSettings,
    output: Output,
    /// The result, until the node takes it.
    values: Mutex<Vec<f32>>,
}

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        "neuron-scan"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        currents: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        membrane: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let shape = match self.output {
            Output::Spikes => currents.shape(),
            Output::Membrane => membrane.shape(),
        };
        let values = std::mem::take(&mut *self.values.lock().unwrap_or_else(|e| e.into_inner()));
        if values.len() != shape.elem_count() {
            candle_core::bail!("the result of a neuron scan was taken twice");
        }
        Ok((CpuStorage::F32(values), shape.clone()))
    }

    fn bwd(
        &self,
        currents: &Tensor,
        threshold: &Tensor,
        membrane: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (g_spikes, g_last) = match self.output {
            Output::Spikes => (Some(gradient), None),
            Output::Membrane => (None, Some(gradient)),
        };
        let settings = &self.settings;
        let (g_currents, g_membrane) =
            gradients(currents, threshold, membrane, settings, g_spikes, g_last)?;
        Ok((
            currents.track_op().then_some(g_currents),
            None,
            membrane.track_op().then_some(g_membrane),
        ))
    }
}
