//! The neuron scan over all time steps.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub mod reference;

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

use self::cpu::{Currents, Population, Window};
use super::cpu::{takes, with_values};
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
        let population = Population::new(currents.dims(), with_values(threshold, <[f32]>::to_vec)?);
        let (g_currents, g_membrane) = with_values(currents, |i| {
            with_values(membrane, |v| {
                with_values(gradient, |g| {
                    let (mut g_currents, mut g_membrane) = (zeros(i.len()), zeros(v.len()));
                    let g_spikes = match self.output {
                        Output::Spikes => Some(g),
                        Output::Membrane => {
                            g_membrane.copy_from_slice(g);
                            None
                        }
                    };
                    let window = Window {
                        population: &population,
                        settings: &self.settings,
                        currents: Currents::Steps(i),
                        membrane: v,
                    };
                    window.backward(g_spikes, &mut g_currents, &mut g_membrane);
                    (g_currents, g_membrane)
                })
            })
        })???;
        let g_currents = Tensor::from_vec(g_currents, currents.shape(), currents.device())?;
        let g_membrane = Tensor::from_vec(g_membrane, membrane.shape(), membrane.device())?;
        Ok((
            currents.track_op().then_some(g_currents),
            None,
            membrane.track_op().then_some(g_membrane),
        ))
    }
}
