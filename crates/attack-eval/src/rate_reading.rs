//! A released spiking network read as a network of its neurons' rates: what an attacker sees who knows the thresholds.

use std::collections::BTreeMap;

use ann::Ann;
use candle_core::{Device, Tensor};
use snn_core::ops::qcfs::MAX_LEVELS;
use snn_core::{ActivationFunction, Layer, Parameters, SpikingNetwork, Topology};

use crate::{Error, Result};

/// The network of the rates that a spiking network tends to as T grows, clipping included.
///
/// A soft-reset neuron with constant input current `I` and threshold `theta` fires at rate `clip(I / theta, 0, 1)`, so
///
/// ```text
/// r_l = clip((W_l r_{l-1} + b_l) / theta_l, 0, 1)        logits = readout_scale * (W_L r_{L-1} + b_L)
/// ```
///
/// The division by the thresholds, of a layer or per channel, is in the weights and biases of the layer before, and in the
/// scales of shortcuts; the clip is a staircase of so many levels ([`snn_core::ops::qcfs`]) that its steps are below the
/// rounding of most rates. Where activations were trained to be clipped, the [`crate::relu_reading()`] is another function
/// than the network, and this one is the attacker's.
///
/// Leak and the initial membrane are ignored, dropout layers are kept.
///
/// # Errors
/// A population that no weighted layer of its own feeds, so that there is no weight to hold its thresholds; a
/// tensor that is missing from the network or cannot be read.
pub fn rate_reading(network: &SpikingNetwork) -> Result<Ann> {
    let topology = network.topology();
    let device = network.parameters().device();
    let mut tensors = BTreeMap::new();
    let mut layers = topology.layers().to_vec();
    let fed: Vec<usize> = topology
        .weighted()
        .into_iter()
        .filter_map(|index| population_after(topology, index))
        .collect();
    if let Some(unfed) = topology
        .activations()
        .into_iter()
        .find(|i| !fed.contains(i))
    {
        return Err(Error::argument(
            "network",
            format!(
                "layer {unfed} spikes, but no layer of weights feeds it alone: its rates have no reading in weights"
            ),
        ));
    }
    for index in topology.weighted() {
        let weight = network.parameters().weight(index)?.detach();
        let bias = network.parameters().bias(index).map(Tensor::detach);
        let population = population_after(topology, index);
        let scales: Vec<f64> = match population {
            Some(population) => inverse_thresholds(network, population)?,
            // of two weighted layers in a row the first has no population, and is not the readout either
            None if topology.weighted().last() == Some(&index) => {
                vec![network.settings().readout_scale]
            }
            None => vec![1.0],
        };
        tensors.insert(
            format!("{index}.weight"),
            scale_outputs(&weight, &scales, &device)?,
        );
        if let Some(bias) = bias {
            tensors.insert(
                format!("{index}.bias"),
                scale_outputs(&bias, &scales, &device)?,
            );
        }
        if let Some(population) = population {
            layers[population] = Layer::Activation {
                function: ActivationFunction::Qcfs { levels: MAX_LEVELS },
            };
            let one = Tensor::new(&[1f32], &device)?;
            tensors.insert(format!("{population}.threshold"), one);
        }
    }
    for index in topology.shortcuts() {
        let scale = network.parameters().scale(index)?;
        let population = population_after(topology, index);
        let population = population.expect("an activation follows, by Topology::new");
        let mut scales = inverse_thresholds(network, population)?;
        // of the first channels alone, where it has fewer than its population
        scales.truncate(scale.elem_count());
        tensors.insert(
            format!("{index}.scale"),
            scale_outputs(scale, &scales, &device)?,
        );
    }
    let topology = Topology::new(topology.name(), topology.input(), layers)?;
    let parameters = Parameters::new(&topology, tensors)?;
    Ok(Ann::new(topology, parameters))
}

/// `1 / theta` of each channel of a population, or of all.
fn inverse_thresholds(network: &SpikingNetwork, population: usize) -> Result<Vec<f64>> {
    let thresholds: Vec<f32> = network.thresholds()[&population].to_vec1()?;
    Ok(thresholds.iter().map(|&v| 1.0 / f64::from(v)).collect())
}

/// The population that a weighted layer or a shortcut feeds; none after the last.
fn population_after(topology: &Topology, layer: usize) -> Option<usize> {
    let rest = topology.layers().iter().enumerate().skip(layer + 1);
    rest.take_while(|(_, layer)| !layer.is_weighted())
        .find(|(_, layer)| matches!(layer, Layer::Activation { .. }))
        .map(|(index, _)| index)
}

/// `[O, ...]` times one number, or one per O.
fn scale_outputs(tensor: &Tensor, factors: &[f64], device: &Device) -> Result<Tensor> {
    let factors: Vec<f32> = factors.iter().map(|&v| v as f32).collect();
    let mut shape = vec![1; tensor.rank()];
    shape[0] = factors.len();
    Ok(tensor.broadcast_mul(&Tensor::from_vec(factors, shape, device)?)?)
}
