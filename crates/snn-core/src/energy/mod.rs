//! Energy estimate from counted spikes, at 45 nm.
//!
//! The source network costs a multiply-accumulate (4.6 pJ, f32) per weight use. The spiking network costs an
//! accumulate (0.9 pJ) per weight use; how often that happens is counted in two ways, which differ by about a factor T,
//! and a third way counts memory too:
//!
//! - **events** (convention a): every spike of the whole window times its exact fan-out, the weights it really meets.
//!   A spike at the border of a zero-padded convolution meets fewer; average pools are passed through (a spike enters
//!   its pooled pixel, which fans out).
//!   Of the source network products with the zeros of the padding are counted, as papers do, of the spiking one by events
//!   they are not: that favours it, by about a tenth in a VGG on 32x32 pixels.
//! - **rate** (convention b, common in papers): a layer's multiply-accumulates times the mean firing rate per step of
//!   the population that feeds it, with no factor T.
//!
//! - **memory** (convention c): events, and for both networks the words that they move between memory and arithmetic at
//!   5 pJ each, on a machine that keeps nothing but a source network's sum in registers. A multiply-accumulate reads a
//!   weight and an activation, and each of the layer's outputs is written once. An accumulate reads a weight, reads a
//!   membrane and writes it; each neuron, those of the last layer too, reads and writes its membrane once more at every
//!   step, to add its bias, fire and reset; and a spike is written once and read once by the layer it enters. With direct
//!   coding the first layer's currents are computed and written once, as in the source network, and read at every step.
//!   That every word lies in a small memory favours both networks: larger ones cost much more.
//!
//!   ```text
//!   source:  MACs 4.6 + 5 (2 MACs + outputs)
//!   spiking: accumulates 0.9 + 5 (3 accumulates + 2 spikes + 2 neurons T), in picojoule;
//!            a layer with analog input as the source's, and 5 (neurons T + 2 neurons T) more
//!   ```
//!
//! A shortcut costs the source network an addition of 0.9 pJ for each number that it adds, which with memory is read for it;
//! a mean before it is pooling. It costs the spiking network, by events, an accumulate for each spike; by rate the additions
//! times the rate; with memory four words for each spike: the scale, the membrane read and written, and the spike itself.
//!
//! With direct coding the first layer has analog input that is the same at every step: its multiply-accumulates are
//! counted once per image at 4.6 pJ (its current is computed once and held). Pooling is counted in neither network, nor,
//! by events and by rate, are biases, membrane updates and memory traffic.
//!
//! Constants: Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014; an 8 KiB cache, 10 pJ for
//! 64 bits. That membranes must be counted is the point of Lemaire et al., "An analytical estimation of spiking neural
//! networks energy efficiency", ICONIP 2022.

mod fan_out;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::evaluate::Evaluation;
use crate::topology::{Layer, Topology};
use crate::{Error, Result};
use fan_out::{Source, fan_out};

/// A 32-bit floating-point multiply and add at 45 nm, in picojoule.
pub const MAC_PICOJOULE: f64 = 4.6;
/// A 32-bit floating-point add at 45 nm, in picojoule.
pub const AC_PICOJOULE: f64 = 0.9;
/// A 32-bit word out of a small memory or into it at 45 nm, in picojoule.
pub const WORD_PICOJOULE: f64 = 5.0;

/// Energy per image of both networks, and what it was counted from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// The source network: multiply-accumulates times 4.6, and the additions of shortcuts times 0.9.
    pub ann_picojoule: f64,
    /// The source network with its memory traffic.
    pub ann_picojoule_memory: f64,
    /// The spiking network by events (convention a).
    pub snn_picojoule_events: f64,
    /// The spiking network by rates (convention b).
    pub snn_picojoule_rate: f64,
    /// The spiking network by events with its memory traffic (convention c).
    pub snn_picojoule_memory: f64,
    /// `ann_picojoule / snn_picojoule_events`; infinite if nothing ever fired, with Poisson coding not even the input.
    pub ratio_events: f64,
    /// `ann_picojoule / snn_picojoule_rate`; infinite if nothing ever fired, with Poisson coding not even the input.
    pub ratio_rate: f64,
    /// `ann_picojoule_memory / snn_picojoule_memory`.
    pub ratio_memory: f64,
    /// What each weighted layer and each shortcut has of these sums, in the network's order.
    pub layers: Vec<LayerEnergy>,
    /// Mean firing rate per neuron and step of each population, as (layer index, rate).
    pub mean_rate_by_layer: Vec<(usize, f64)>,
    /// Spikes per image over the window of each population, as (layer index, spikes).
    pub spikes_by_layer: Vec<(usize, f64)>,
}

/// Energy per image in one weighted layer, its neurons included, or in a shortcut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerEnergy {
    /// The layer's index in the topology.
    pub layer: usize,
    /// Accumulates over the window (convention a); 0 in a first layer whose input is analog.
    pub accumulates: f64,
    /// Share of [`Energy::ann_picojoule`].
    pub ann_picojoule: f64,
    /// Share of [`Energy::ann_picojoule_memory`].
    pub ann_picojoule_memory: f64,
    /// Share of [`Energy::snn_picojoule_events`].
    pub snn_picojoule_events: f64,
    /// Share of [`Energy::snn_picojoule_rate`].
    pub snn_picojoule_rate: f64,
    /// Share of [`Energy::snn_picojoule_memory`].
    pub snn_picojoule_memory: f64,
}

/// Energy per image of a spiking network of this topology that did what `evaluation` counted. `direct_input` says
/// whether the images entered as constant currents ([`crate::encode::Encoder::Direct`]).
///
/// # Errors
/// Counts of a layer that is no population, of more or fewer units than the topology has, or missing ones; Poisson input
/// without input events; a weighted layer that neither the input nor a population feeds (its name is in the message).
pub fn estimate(
    topology: &Topology,
    evaluation: &Evaluation,
    direct_input: bool,
) -> Result<Energy> {
    if evaluation.samples == 0 || evaluation.timesteps == 0 {
        return Err(Error::argument("evaluation", "counts no image or no step"));
    }
    check_counts(topology, evaluation)?;
    let layers: Vec<LayerEnergy> = topology
        .layers()
        .iter()
        .enumerate()
        .filter_map(|(index, layer)| match *layer {
            Layer::Shortcut { from, kernel, .. } => {
                Some(of_shortcut(topology, evaluation, index, (from, kernel)))
            }
            ref layer if layer.is_weighted() => {
                Some(of_layer(topology, evaluation, direct_input, index))
            }
            _ => None,
        })
        .collect::<Result<_>>()?;
    let total = |of: fn(&LayerEnergy) -> f64| layers.iter().map(of).sum::<f64>();
    let ann_picojoule = total(|layer| layer.ann_picojoule);
    let ann_picojoule_memory = total(|layer| layer.ann_picojoule_memory);
    let snn_picojoule_events = total(|layer| layer.snn_picojoule_events);
    let snn_picojoule_rate = total(|layer| layer.snn_picojoule_rate);
    let snn_picojoule_memory = total(|layer| layer.snn_picojoule_memory);
    let samples = evaluation.samples as f64;
    let image_steps = samples * evaluation.timesteps as f64;
    Ok(Energy {
        ann_picojoule,
        ann_picojoule_memory,
        snn_picojoule_events,
        snn_picojoule_rate,
        snn_picojoule_memory,
        ratio_events: ann_picojoule / snn_picojoule_events,
        ratio_rate: ann_picojoule / snn_picojoule_rate,
        ratio_memory: ann_picojoule_memory / snn_picojoule_memory,
        layers,
        mean_rate_by_layer: evaluation
            .spikes
            .iter()
            .map(|(&index, counts)| (index, mean_rate(counts, image_steps)))
            .collect(),
        spikes_by_layer: evaluation
            .spikes
            .iter()
            .map(|(&index, counts)| (index, counts.iter().sum::<f64>() / samples))
            .collect(),
    })
}

/// Whether there are counts of all populations of the topology and of nothing else.
fn check_counts(topology: &Topology, evaluation: &Evaluation) -> Result<()> {
    let fail = |message: String| Err(Error::argument("evaluation", message));
    let (shapes, populations) = (topology.shapes(), topology.activations());
    if let Some(layer) = evaluation
        .spikes
        .keys()
        .find(|layer| !populations.contains(layer))
    {
        return fail(format!(
            "counts spikes of layer {layer}, which is no population of the network"
        ));
    }
    for layer in populations {
        let neurons = shapes[layer].iter().product::<usize>();
        let counted = evaluation.spikes.get(&layer).map_or(0, Vec::len);
        if counted != neurons {
            return fail(format!(
                "counts spikes of {counted} neurons of layer {layer}, which has {neurons}"
            ));
        }
    }
    let pixels = topology.input().iter().product::<usize>();
    match &evaluation.input_events {
        Some(counts) if counts.len() != pixels => fail(format!(
            "counts events of {} numbers of the input, which has {pixels}",
            counts.len()
        )),
        _ => Ok(()),
    }
}

/// The multiply-accumulates per image of the weighted layers that each population feeds, by its layer index: what a rate of
/// 1 would cost in accumulates per step. Layers that the image feeds are left out, and so are shortcuts.
///
/// # Errors
/// A weighted layer that neither the input nor a population feeds (its name is in the message).
pub fn macs_by_population(topology: &Topology) -> Result<BTreeMap<usize, u64>> {
    let (shapes, macs) = (topology.shapes(), topology.macs_by_layer());
    let mut fed = BTreeMap::new();
    for layer in topology.weighted() {
        if let (Source::Population(index), _) = fan_out(topology, &shapes, layer)? {
            *fed.entry(index).or_insert(0) += macs[layer];
        }
    }
    Ok(fed)
}

fn of_layer(
    topology: &Topology,
    evaluation: &Evaluation,
    direct_input: bool,
    layer: usize,
) -> Result<LayerEnergy> {
    let samples = evaluation.samples as f64;
    let steps = evaluation.timesteps as f64;
    let shapes = topology.shapes();
    let macs = topology.macs_by_layer()[layer] as f64;
    let units = |layer: usize| shapes[layer].iter().product::<usize>() as f64;
    let (outputs, neurons) = (units(layer), units(membranes_of(topology, layer)));
    let ann_picojoule = macs * MAC_PICOJOULE;
    let ann_picojoule_memory = ann_picojoule + (2.0 * macs + outputs) * WORD_PICOJOULE;
    let updates = 2.0 * neurons * steps * WORD_PICOJOULE;
    let (source, fan_out) = fan_out(topology, &shapes, layer)?;
    let counts = match source {
        Source::Input if direct_input => {
            let held = neurons * steps * WORD_PICOJOULE;
            return Ok(LayerEnergy {
                layer,
                accumulates: 0.0,
                ann_picojoule,
                ann_picojoule_memory,
                snn_picojoule_events: ann_picojoule,
                snn_picojoule_rate: ann_picojoule,
                snn_picojoule_memory: ann_picojoule_memory + held + updates,
            });
        }
        Source::Input => evaluation.input_events.as_ref(),
        Source::Population(index) => evaluation.spikes.get(&index),
    };
    let counts = counted(topology, layer, counts)?;
    let products = counts
        .iter()
        .zip(&fan_out)
        .map(|(spikes, uses)| spikes * uses);
    let accumulates = products.sum::<f64>() / samples;
    let spikes = counts.iter().sum::<f64>() / samples;
    let words = 3.0 * accumulates + 2.0 * spikes;
    let snn_picojoule_events = accumulates * AC_PICOJOULE;
    Ok(LayerEnergy {
        layer,
        accumulates,
        ann_picojoule,
        ann_picojoule_memory,
        snn_picojoule_events,
        snn_picojoule_rate: macs * mean_rate(counts, samples * steps) * AC_PICOJOULE,
        snn_picojoule_memory: snn_picojoule_events + words * WORD_PICOJOULE + updates,
    })
}

/// The layer whose units have the membranes of weighted layer `layer`: the population that it feeds, perhaps through a
/// pool, or itself if it is the last.
fn membranes_of(topology: &Topology, layer: usize) -> usize {
    let mut behind = topology.layers().iter().enumerate().skip(layer + 1);
    behind
        .find(|(_, layer)| matches!(layer, Layer::Activation { .. }))
        .map_or(layer, |(index, _)| index)
}

/// A shortcut from population `from` over squares of side `kernel`.
fn of_shortcut(
    topology: &Topology,
    evaluation: &Evaluation,
    layer: usize,
    (from, kernel): (usize, usize),
) -> Result<LayerEnergy> {
    let (samples, steps) = (evaluation.samples as f64, evaluation.timesteps as f64);
    let neurons = topology.shapes()[from].iter().product::<usize>();
    let counts = counted(topology, layer, evaluation.spikes.get(&from))?;
    let additions = (neurons / (kernel * kernel)) as f64;
    let accumulates = counts.iter().sum::<f64>() / samples;
    let ann_picojoule = additions * AC_PICOJOULE;
    let snn_picojoule_events = accumulates * AC_PICOJOULE;
    Ok(LayerEnergy {
        layer,
        accumulates,
        ann_picojoule,
        ann_picojoule_memory: ann_picojoule + additions * WORD_PICOJOULE,
        snn_picojoule_events,
        snn_picojoule_rate: additions * mean_rate(counts, samples * steps) * AC_PICOJOULE,
        snn_picojoule_memory: snn_picojoule_events + 4.0 * accumulates * WORD_PICOJOULE,
    })
}

/// The counts of a layer's inputs.
fn counted<'a>(
    topology: &Topology,
    layer: usize,
    counts: Option<&'a Vec<f64>>,
) -> Result<&'a Vec<f64>> {
    counts.ok_or_else(|| Error::Layer {
        index: layer,
        kind: topology.layers()[layer].kind(),
        message: "the evaluation does not count the spikes of its inputs".into(),
    })
}

fn mean_rate(counts: &[f64], image_steps: f64) -> f64 {
    counts.iter().sum::<f64>() / (counts.len() as f64 * image_steps)
}
