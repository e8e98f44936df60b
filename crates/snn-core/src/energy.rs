//! Energy estimate from counted spikes, at 45 nm.
//!
//! The source network costs a multiply-accumulate (4.6 pJ, f32) per weight use. The spiking network costs an
//! accumulate (0.9 pJ) per weight use; how often that happens is counted in two ways, which differ by about a factor T:
//!
//! - **events** (convention a): every spike of the whole window times its exact fan-out, the weights it really meets.
//!   A spike at the border of a zero-padded convolution meets fewer; average pools are passed through (a spike enters
//!   its pooled pixel, which fans out).
//! - **rate** (convention b, common in papers): a layer's multiply-accumulates times the mean firing rate per step of
//!   the population that feeds it, with no factor T.
//!
//! With direct coding the first layer has analog input that is the same at every step: its multiply-accumulates are
//! counted once per image at 4.6 pJ in both conventions (its current is computed once and held). Biases, membrane
//! updates, pooling and all memory traffic are counted in neither network.
//!
//! Constants: Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014.

use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;
use crate::topology::{Layer, Topology};
use crate::{Error, Result};

/// A 32-bit floating-point multiply and add at 45 nm, in picojoule.
pub const MAC_PICOJOULE: f64 = 4.6;
/// A 32-bit floating-point add at 45 nm, in picojoule.
pub const AC_PICOJOULE: f64 = 0.9;

/// Energy per image of both networks, and what it was counted from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// The source network: multiply-accumulates times 4.6.
    pub ann_picojoule: f64,
    /// The spiking network by events (convention a).
    pub snn_picojoule_events: f64,
    /// The spiking network by rates (convention b).
    pub snn_picojoule_rate: f64,
    /// `ann_picojoule / snn_picojoule_events`; infinite if nothing ever fired.
    pub ratio_events: f64,
    /// `ann_picojoule / snn_picojoule_rate`; infinite if nothing ever fired.
    pub ratio_rate: f64,
    /// Mean firing rate per neuron and step of each population, as (layer index, rate).
    pub mean_rate_by_layer: Vec<(usize, f64)>,
    /// Spikes per image over the window of each population, as (layer index, spikes).
    pub spikes_by_layer: Vec<(usize, f64)>,
    /// Accumulates per image over the window in each weighted layer (convention a), as (layer index, accumulates);
    /// without the first layer if its input is analog.
    pub events_by_layer: Vec<(usize, f64)>,
}

/// What feeds a weighted layer.
enum Source {
    Input,
    Population(usize),
}

/// Energy per image of a spiking network of this topology that did what `evaluation` counted. `direct_input` says
/// whether the images entered as constant currents ([`crate::encode::Encoder::Direct`]).
///
/// # Errors
/// Counts that do not belong to the topology or are missing; Poisson input without input events; a weighted layer that
/// neither the input nor a population feeds (its name is in the message).
pub fn estimate(
    topology: &Topology,
    evaluation: &Evaluation,
    direct_input: bool,
) -> Result<Energy> {
    if evaluation.samples == 0 || evaluation.timesteps == 0 {
        return Err(Error::argument("evaluation", "counts no image or no step"));
    }
    let samples = evaluation.samples as f64;
    let steps = evaluation.timesteps as f64;
    let shapes = topology.shapes();
    let macs = topology.macs_by_layer();
    let mut by_events = 0.0;
    let mut by_rate = 0.0;
    let mut events_by_layer = Vec::new();
    for layer in topology.weighted() {
        let (source, fan_out) = fan_out(topology, &shapes, layer)?;
        let counts = match source {
            Source::Input if direct_input => {
                by_events += macs[layer] as f64 * MAC_PICOJOULE;
                by_rate += macs[layer] as f64 * MAC_PICOJOULE;
                continue;
            }
            Source::Input => evaluation.input_events.as_ref(),
            Source::Population(index) => evaluation.spikes.get(&index),
        };
        let counts = counts
            .filter(|counts| counts.len() == fan_out.len())
            .ok_or_else(|| Error::Layer {
                index: layer,
                kind: topology.layers()[layer].kind(),
                message: format!(
                    "the evaluation does not count the spikes of its {} inputs",
                    fan_out.len()
                ),
            })?;
        let accumulates = counts
            .iter()
            .zip(&fan_out)
            .map(|(count, fan_out)| count * fan_out)
            .sum::<f64>()
            / samples;
        by_events += accumulates * AC_PICOJOULE;
        by_rate += macs[layer] as f64 * mean_rate(counts, samples * steps) * AC_PICOJOULE;
        events_by_layer.push((layer, accumulates));
    }
    let ann_picojoule = topology.macs() as f64 * MAC_PICOJOULE;
    Ok(Energy {
        ann_picojoule,
        snn_picojoule_events: by_events,
        snn_picojoule_rate: by_rate,
        ratio_events: ann_picojoule / by_events,
        ratio_rate: ann_picojoule / by_rate,
        mean_rate_by_layer: evaluation
            .spikes
            .iter()
            .map(|(&index, counts)| (index, mean_rate(counts, samples * steps)))
            .collect(),
        spikes_by_layer: evaluation
            .spikes
            .iter()
            .map(|(&index, counts)| (index, counts.iter().sum::<f64>() / samples))
            .collect(),
        events_by_layer,
    })
}

fn mean_rate(counts: &[f64], image_steps: f64) -> f64 {
    counts.iter().sum::<f64>() / (counts.len() as f64 * image_steps)
}

/// The population (or input) that feeds weighted layer `layer`, and for each of its units the number of weights that
/// one of its spikes meets there.
fn fan_out(topology: &Topology, shapes: &[Vec<usize>], layer: usize) -> Result<(Source, Vec<f64>)> {
    let shape_before = |index: usize| match index {
        0 => topology.input().to_vec(),
        _ => shapes[index - 1].clone(),
    };
    let mut fan_out = weight_uses(
        &topology.layers()[layer],
        &shape_before(layer),
        &shapes[layer],
    );
    for index in (0..layer).rev() {
        let between = &topology.layers()[index];
        match between {
            Layer::Activation { .. } => return Ok((Source::Population(index), fan_out)),
            Layer::Flatten | Layer::Dropout { .. } => {}
            Layer::AvgPool2d { kernel } => {
                fan_out = through_pool(&fan_out, &shape_before(index), *kernel)
            }
            _ => {
                return Err(Error::Layer {
                    index: layer,
                    kind: topology.layers()[layer].kind(),
                    message: format!(
                        "is fed by layer {index} ({}), which does not spike: accumulates cannot be counted",
                        between.kind()
                    ),
                });
            }
        }
    }
    Ok((Source::Input, fan_out))
}

/// For each input unit of a weighted layer the number of products it takes part in.
fn weight_uses(layer: &Layer, input: &[usize], output: &[usize]) -> Vec<f64> {
    match (layer, input, output) {
        (
            Layer::Conv2d {
                kernel,
                stride,
                padding,
                ..
            },
            &[channels, height, width],
            &[out_channels, out_height, out_width],
        ) => {
            let along = |side: usize, out_side: usize| -> Vec<f64> {
                (0..side)
                    .map(|at| {
                        let reaches = |i: &usize| {
                            let first = i * stride;
                            (first..first + kernel).contains(&(at + padding))
                        };
                        (0..out_side).filter(reaches).count() as f64
                    })
                    .collect()
            };
            let (rows, columns) = (along(height, out_height), along(width, out_width));
            let plane: Vec<f64> = rows
                .iter()
                .flat_map(|row| {
                    columns
                        .iter()
                        .map(move |column| row * column * out_channels as f64)
                })
                .collect();
            plane.repeat(channels)
        }
        _ => vec![output.iter().product::<usize>() as f64; input.iter().product()],
    }
}

/// From pooled pixels back to the pixels `[C, H, W]` that each of them averages.
fn through_pool(pooled: &[f64], shape: &[usize], kernel: usize) -> Vec<f64> {
    let (height, width) = (shape[1], shape[2]);
    let (out_height, out_width) = (height / kernel, width / kernel);
    (0..shape.iter().product())
        .map(|i| {
            let (channel, y, x) = (i / (height * width), i / width % height, i % width);
            pooled[(channel * out_height + y / kernel) * out_width + x / kernel]
        })
        .collect()
}
