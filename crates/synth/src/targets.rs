//! What images are made for.

use std::ops::Range;

use candle_core::{Device, Tensor};
use snn_core::rng::Seed;

use crate::dirichlet::{CONCENTRATION_FLOOR, dirichlet};
use crate::{Result, SynthConfig};

/// The soft targets `[N, K]` of images `range`, each drawn from its own seed.
pub(crate) fn targets(
    similarity: &[Vec<f64>],
    config: &SynthConfig,
    range: Range<usize>,
    seeds: &[Seed],
) -> Result<Tensor> {
    let classes = similarity.len();
    let count = range.len();
    let mut targets = Vec::with_capacity(count * classes);
    for (i, seed) in range.zip(seeds) {
        let beta = config.dirichlet[i / classes % config.dirichlet.len()];
        let concentrations: Vec<f64> = similarity[i % classes]
            .iter()
            .map(|s| beta * s + CONCENTRATION_FLOOR)
            .collect();
        let target = dirichlet(&concentrations, &mut seed.derive("target").stream())?;
        targets.extend(target.into_iter().map(|y| y as f32));
    }
    Ok(Tensor::from_vec(targets, (count, classes), &Device::Cpu)?)
}

/// The class that each of images `range` is asked for.
pub(crate) fn asked_for(range: Range<usize>, classes: usize) -> Result<Tensor> {
    let count = range.len();
    let of_images: Vec<u32> = range.map(|i| (i % classes) as u32).collect();
    Ok(Tensor::from_vec(of_images, count, &Device::Cpu)?)
}
