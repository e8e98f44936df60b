//! Biases moved by one step, so that mean rates come nearer to mean activations, one population after another.
//!
//! What a short window loses to rounding, clipping and late spikes has a mean per channel. A constant current makes up
//! for it as far as rates follow currents in proportion: with `a` the source network's activation, `r` the firing rate,
//! both averaged over images and positions, `lambda` what a spike per step stands for and `theta` the threshold,
//!
//! ```text
//! b += theta (mean a / lambda - mean r)
//! ```
//!
//! in order of depth, each population seeing the corrected ones before it (Li et al., "A free lunch from ANN: towards
//! efficient, accurate spiking neural networks calibration", ICML 2021).

use std::collections::BTreeMap;

use ann::{Ann, Mode};
use candle_core::Tensor;
use snn_core::engine::Engine;
use snn_core::network::Batch;
use snn_core::progress::{self, Watch};
use snn_core::rng::Seed;
use snn_core::{Parameters, SpikingNetwork};

use crate::config::ConvertConfig;
use crate::report::{at_once, spike_values};
use crate::{Error, Result};

/// `network`, converted from the batch-norm-free `source`, with its biases corrected on `images` over
/// `config.calibration_timesteps` steps.
///
/// # Errors
/// A population whose weighted layer has no bias.
pub(crate) fn correct(
    mut network: SpikingNetwork,
    source: &Ann,
    images: &Tensor,
    config: &ConvertConfig,
    seed: Seed,
    watch: &mut Watch,
) -> Result<SpikingNetwork> {
    let populations = network.topology().activations();
    let wanted = mean_activations(source, images, config.batch)?;
    let lambdas = spike_values(&network)?;
    for (done, &population) in populations.iter().enumerate() {
        let total = populations.len() as u64;
        progress::report(watch, "bias correction, layer", done as u64, total, "")?;
        let layer = biased_layer(&network, population)?;
        let rates = mean_rates(&network, population, images, config, seed)?;
        let thresholds: Vec<f32> = network.thresholds()[&population].to_vec1()?;
        let lambda = lambdas[&population].values();
        let bias = &network.parameters().tensors()[&format!("{layer}.bias")];
        let corrected: Vec<f32> = bias
            .to_vec1::<f32>()?
            .into_iter()
            .enumerate()
            .map(|(c, bias)| {
                let of_channel = |count: usize| if count == 1 { 0 } else { c };
                let threshold = f64::from(thresholds[of_channel(thresholds.len())]);
                let rate = wanted[&population][c] / lambda[of_channel(lambda.len())];
                (f64::from(bias) + threshold * (rate - rates[c])) as f32
            })
            .collect();
        let mut tensors = network.parameters().tensors().clone();
        let corrected = Tensor::new(corrected, bias.device())?;
        tensors.insert(format!("{layer}.bias"), corrected);
        let parameters = Parameters::new(network.topology(), tensors)?;
        network = network.with_parameters(parameters)?;
    }
    Ok(network)
}

/// The weighted layer that feeds a population; it must have a bias.
fn biased_layer(network: &SpikingNetwork, population: usize) -> Result<usize> {
    let topology = network.topology();
    let weighted = topology.weighted();
    let layer = weighted.into_iter().rfind(|&layer| layer < population);
    layer
        .filter(|&layer| network.parameters().bias(layer).is_some())
        .ok_or_else(|| {
            let message = "has no bias before it to correct; train with bias or batch norm, or convert without correction";
            Error::layer(topology, population, message)
        })
}

/// Mean activation of each channel of each population of the source network.
fn mean_activations(
    source: &Ann,
    images: &Tensor,
    batch: usize,
) -> Result<BTreeMap<usize, Vec<f64>>> {
    let device = source.parameters().device();
    let mut means = BTreeMap::new();
    for (start, count) in batches(images, batch)? {
        let batch = images.narrow(0, start, count)?.force_contiguous()?;
        let trace = source.trace(&batch.to_device(&device)?, Mode::Inference)?;
        for (population, activations) in &trace.activations {
            add_means(
                means.entry(*population).or_default(),
                activations,
                images.dim(0)?,
            )?;
        }
    }
    Ok(means)
}

/// Mean rate of each channel of one population.
fn mean_rates(
    network: &SpikingNetwork,
    population: usize,
    images: &Tensor,
    config: &ConvertConfig,
    seed: Seed,
) -> Result<Vec<f64>> {
    let timesteps = config.calibration_timesteps;
    let device = network.parameters().device();
    let (batch, chunk) = at_once(network.topology(), timesteps);
    let engine = Engine::of(network);
    let mut means = Vec::new();
    for (start, count) in batches(images, batch)? {
        let pixels = images.narrow(0, start, count)?.force_contiguous()?;
        let ids: Vec<u64> = (start..start + count).map(|i| i as u64).collect();
        let batch = Batch {
            images: &pixels.to_device(&device)?,
            ids: &ids,
            seed,
        };
        let run = engine.run(batch, timesteps, chunk)?;
        add_means(
            &mut means,
            &run.spikes[&population],
            images.dim(0)? * timesteps,
        )?;
    }
    Ok(means)
}

/// Starts and lengths of the batches that make up `images`.
fn batches(images: &Tensor, batch: usize) -> Result<impl Iterator<Item = (usize, usize)>> {
    let total = images.dim(0)?;
    Ok((0..total)
        .step_by(batch)
        .map(move |start| (start, batch.min(total - start))))
}

/// Adds the channel sums of `values` `[N, C, ...]`, each divided by its number of positions and by `count`.
fn add_means(means: &mut Vec<f64>, values: &Tensor, count: usize) -> Result<()> {
    let channels = values.dim(1)?;
    let positions: usize = values.dims()[2..].iter().product();
    means.resize(channels, 0.0);
    let values: Vec<f32> = values.flatten_all()?.to_vec1()?;
    for (i, plane) in values.chunks_exact(positions).enumerate() {
        let sum: f64 = plane.iter().map(|&value| f64::from(value)).sum();
        means[i % channels] += sum / (positions * count) as f64;
    }
    Ok(())
}
