//! A released spiking network read as a plain ReLU network: what an attacker sees who ignores time.

use std::collections::BTreeMap;

use ann::Ann;
use candle_core::{Device, Tensor};
use snn_core::{Layer, Parameters, SpikingNetwork};

use crate::Result;

/// The ReLU network that a spiking network tends to as T grows, clipping of rates left aside.
///
/// A soft-reset neuron with constant input current `I` and threshold `theta` fires at rate `ReLU(I) / theta`. So the
/// rates of layer l are `r_l = ReLU(W_l r_{l-1} + b_l) / theta_l`, and the logits `readout_scale * (W_L r_{L-1} + b_L)`.
///
/// Only products of scales matter to a ReLU network. They are placed such that an ordinary conversion is undone: with
/// `theta_l = m_l d_l`, `m_l` the geometric mean over channels and `G_l = m_1 ... m_l`, the reading's activations are
/// `a_l = G_l d_l r_l` and its layers
///
/// ```text
/// a_l = ReLU(W_l diag(1 / d_{l-1}) a_{l-1} + G_{l-1} b_l)
/// logits = readout_scale / G_{L-1} * (W_L diag(1 / d_{L-1}) a_{L-1} + G_{L-1} b_L)
/// ```
///
/// A shortcut from population f to population l has the scale `G_{l-1} S / (G_f d_f)`.
///
/// With one threshold per layer `d_l` is 1 and every weight but the last layer's is kept bit for bit; the last factor is
/// left out too where it is 1 to rounding, as after a conversion. So the attacks on the reading of a bias-free network without
/// shortcuts, converted with one threshold per layer, are those on its source; scales of shortcuts come back to rounding.
///
/// Leak and the initial membrane are ignored, dropout layers are kept.
///
/// # Errors
/// A tensor that is missing from the network or cannot be read.
pub fn relu_reading(network: &SpikingNetwork) -> Result<Ann> {
    let topology = network.topology();
    let device = network.parameters().device();
    let shapes = topology.shapes();
    let last = topology.layers().len() - 1;
    let mut tensors = BTreeMap::new();
    // what is still to be divided out of the input channels of the next weights; none means 1
    let mut deviation: Option<Vec<f64>> = None;
    let mut scale = 1f64;
    let mut populations = 0;
    // G_f d_f of the populations so far
    let mut units: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (index, layer) in topology.layers().iter().enumerate() {
        match layer {
            Layer::Activation { .. } => {
                let threshold: Vec<f32> = network.thresholds()[&index].to_vec1()?;
                let logarithms = threshold.iter().map(|&v| f64::from(v).ln());
                let mean = match threshold.as_slice() {
                    [one] => f64::from(*one),
                    many => (logarithms.sum::<f64>() / many.len() as f64).exp(),
                };
                if threshold.len() > 1 {
                    let own = threshold.iter().map(|&v| f64::from(v) / mean);
                    deviation = Some(match deviation.take() {
                        Some(pending) => pending.iter().zip(own).map(|(a, b)| a * b).collect(),
                        None => own.collect(),
                    });
                }
                scale *= mean;
                populations += 1;
                let of_channels = |d: &Vec<f64>| d.iter().map(|d| scale * d).collect();
                let unit = deviation.as_ref().map_or(vec![scale], of_channels);
                units.insert(index, unit);
            }
            Layer::Shortcut { from, .. } => {
                let factors: Vec<f32> = network.parameters().scale(index)?.to_vec1()?;
                let of_channels = factors.into_iter().zip(units[from].iter().cycle());
                let read: Vec<f32> = of_channels
                    .map(|(factor, unit)| (f64::from(factor) * scale / unit) as f32)
                    .collect();
                tensors.insert(format!("{index}.scale"), Tensor::new(read, &device)?);
            }
            Layer::Flatten => {
                let count = shapes[index][0];
                deviation = deviation.map(|d| {
                    let positions = count / d.len();
                    d.iter()
                        .flat_map(|&v| std::iter::repeat_n(v, positions))
                        .collect()
                });
            }
            Layer::Conv2d { .. } | Layer::Linear { .. } => {
                let mut weight = network.parameters().weight(index)?.detach();
                if let Some(d) = deviation.take() {
                    weight = divide_inputs(&weight, &d, &device)?;
                }
                let mut bias_factor = scale;
                if index == last {
                    bias_factor = network.settings().readout_scale;
                    let factor = bias_factor / scale;
                    // thresholds are f32: their product is known to that many roundings
                    if (factor - 1.0).abs() > f64::from(f32::EPSILON) * f64::from(populations + 1) {
                        weight = (weight * factor)?;
                    }
                }
                tensors.insert(format!("{index}.weight"), weight);
                if let Some(bias) = network.parameters().bias(index) {
                    tensors.insert(format!("{index}.bias"), (bias.detach() * bias_factor)?);
                }
            }
            _ => {}
        }
    }
    let parameters = Parameters::new(topology, tensors)?;
    Ok(Ann::new(topology.clone(), parameters))
}

/// `weight` `[O, C, ...]` divided by one number per C.
fn divide_inputs(weight: &Tensor, divisors: &[f64], device: &Device) -> Result<Tensor> {
    let factors: Vec<f32> = divisors.iter().map(|v| (1.0 / v) as f32).collect();
    let mut shape = vec![1; weight.rank()];
    shape[1] = factors.len();
    Ok(weight.broadcast_mul(&Tensor::from_vec(factors, shape, device)?)?)
}
