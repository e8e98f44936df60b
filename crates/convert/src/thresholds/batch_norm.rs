//! Thresholds from batch-norm statistics, without any image.
//!
//! After batch norm a channel's pre-activation has mean `beta` and deviation `|gamma|` on the training data, so
//! `beta + k |gamma|` is passed only rarely (k = 3: 0.13 % if it is Gaussian).
//!
//! A shortcut adds its activation's mean and, as if independent, its variance; a mean over squares is taken as a pool below.
//!
//! A layer without batch norm of its own (the hidden layer of a classifier, as a rule) gets its mean and deviation from
//! the layer before it:
//!
//! - through ReLU as a rectified Gaussian, in closed form;
//! - through an average pool unchanged (neighbours taken to be fully correlated, which cannot underestimate);
//! - through weights as `mean' = sum W mean + b`, with the units of one channel fully correlated with one another and
//!   different channels independent, or all units independent, whichever gives the larger deviation.
//!
//! That ignores what units of different channels have in common (they follow the class), so the deviation is an
//! estimate from below; to make up for it such a layer has one threshold, the largest of its units'.

use std::collections::BTreeMap;

use snn_core::Layer;

use crate::draft::Unit;
use crate::fold::{Folded, Moments, as_f64};
use crate::thresholds::floored;
use crate::{Error, Result};

/// A threshold per population (index of the activation layer), in the network's activation units.
pub(crate) fn find(folded: &Folded, deviations: f64) -> Result<BTreeMap<usize, Unit>> {
    let topology = folded.ann.topology();
    let shapes = topology.shapes();
    let last = topology.activations().last().copied().unwrap_or(0);
    let mut found = BTreeMap::new();
    let mut signal: Option<Moments> = None;
    let mut own = false;
    let mut rectified_by_population: BTreeMap<usize, Moments> = BTreeMap::new();
    // units per entry of `signal`: the positions of a channel, or 1 once a linear layer has mixed them
    let mut positions = 1;
    for (index, layer) in topology.layers().iter().enumerate().take(last + 1) {
        match layer {
            Layer::Conv2d { .. } | Layer::Linear { .. } => {
                own = folded.moments.contains_key(&index);
                let moments = match (folded.moments.get(&index), &signal) {
                    (Some(moments), _) => moments.clone(),
                    (None, Some(signal)) => through_weights(folded, index, signal, positions)?,
                    (None, None) => {
                        return Err(Error::layer(
                            topology,
                            index,
                            "has no batch norm after it and none before it: its threshold cannot come from batch-norm \
                             statistics; train with batch norm, or use another threshold rule",
                        ));
                    }
                };
                signal = Some(moments);
                positions = 1;
            }
            Layer::Activation { .. } => {
                let moments = signal.take().ok_or_else(|| {
                    Error::layer(topology, index, "has no weighted layer before it")
                })?;
                let values: Vec<f64> = moments
                    .mean
                    .iter()
                    .zip(&moments.deviation)
                    .map(|(mean, deviation)| mean + deviations * deviation)
                    .collect();
                let unit = match floored(values) {
                    Some(unit) if own => unit,
                    Some(unit) => Unit::Layer(unit.values().iter().copied().fold(0.0, f64::max)),
                    None => {
                        return Err(Error::threshold(
                            index,
                            "its batch-norm statistics keep every channel at or below zero: no threshold can be set",
                        ));
                    }
                };
                found.insert(index, unit);
                let moments = rectified(&moments);
                rectified_by_population.insert(index, moments.clone());
                signal = Some(moments);
            }
            Layer::Shortcut { from, .. } => {
                let moments = signal.as_mut().expect("a convolution before it");
                let scale = as_f64(folded.ann.parameters().scale(index)?)?;
                add_shortcut(moments, &rectified_by_population[from], &scale);
            }
            Layer::Flatten => {
                let before = match index {
                    0 => topology.input().to_vec(),
                    _ => shapes[index - 1].clone(),
                };
                positions *= before[1..].iter().product::<usize>();
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Mean and deviation of `max(0, x)` for Gaussian x.
fn rectified(moments: &Moments) -> Moments {
    let pairs = moments
        .mean
        .iter()
        .zip(&moments.deviation)
        .map(|(&mean, &deviation)| {
            if deviation <= 0.0 {
                return (mean.max(0.0), 0.0);
            }
            let z = mean / deviation;
            let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let above = normal_cdf(z);
            let first = mean * above + deviation * density;
            let second = (mean * mean + deviation * deviation) * above + mean * deviation * density;
            (first, (second - first * first).max(0.0).sqrt())
        });
    let (mean, deviation) = pairs.unzip();
    Moments { mean, deviation }
}

/// Moments of a sum with scaled activations in the first channels.
fn add_shortcut(moments: &mut Moments, earlier: &Moments, scale: &[f64]) {
    for (channel, scale) in scale.iter().enumerate() {
        moments.mean[channel] += scale * earlier.mean[channel];
        let deviation = &mut moments.deviation[channel];
        *deviation = deviation.hypot(scale * earlier.deviation[channel]);
    }
}

/// Distribution function of the standard normal (Abramowitz and Stegun 26.2.17, error below 7.5e-8).
fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let polynomial = t
        * (0.319_381_530
            + t * (-0.356_563_782
                + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let upper = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt() * polynomial;
    if z >= 0.0 { 1.0 - upper } else { upper }
}

/// Mean and deviation of a weighted layer's output, see the top of the file. `signal` is per channel; each channel
/// stands for `positions` inputs of a linear layer, or for a plane of a convolution.
fn through_weights(
    folded: &Folded,
    index: usize,
    signal: &Moments,
    positions: usize,
) -> Result<Moments> {
    let parameters = folded.ann.parameters();
    let weight = parameters.weight(index)?;
    let outputs = weight.dim(0)?;
    let group = match folded.ann.topology().layers()[index] {
        Layer::Conv2d { kernel, .. } => kernel * kernel,
        _ => positions,
    };
    let values = as_f64(weight)?;
    let bias = match parameters.bias(index) {
        Some(bias) => as_f64(bias)?,
        None => vec![0.0; outputs],
    };
    let row = values.len() / outputs;
    if row != group * signal.mean.len() {
        let message = format!(
            "{row} inputs do not belong to {} channels",
            signal.mean.len()
        );
        return Err(Error::layer(folded.ann.topology(), index, message));
    }
    let pairs = values.chunks_exact(row).zip(&bias).map(|(row, &bias)| {
        let (mut mean, mut correlated, mut independent) = (bias, 0.0, 0.0);
        for (channel, weights) in row.chunks_exact(group).enumerate() {
            let sum: f64 = weights.iter().sum();
            let squares: f64 = weights.iter().map(|w| w * w).sum();
            let variance = signal.deviation[channel].powi(2);
            mean += sum * signal.mean[channel];
            correlated += sum * sum * variance;
            independent += squares * variance;
        }
        (mean, correlated.max(independent).sqrt())
    });
    let (mean, deviation) = pairs.unzip();
    Ok(Moments { mean, deviation })
}

#[cfg(test)]
mod tests {
    use snn_core::rng::Seed;

    use super::*;

    #[test]
    fn rectified_moments_equal_sampling() {
        let moments = Moments {
            mean: vec![0.3, -1.0, 2.0, -0.5],
            deviation: vec![1.0, 0.7, 0.0, 0.0],
        };
        let rectified = rectified(&moments);
        let mut stream = Seed::new(1).stream();
        for c in 0..2 {
            let n = 200_000;
            let samples: Vec<f64> = (0..n)
                .map(|_| (moments.mean[c] + moments.deviation[c] * stream.normal()).max(0.0))
                .collect();
            let mean = samples.iter().sum::<f64>() / f64::from(n);
            let variance = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
            let tolerance = 5.0 / f64::from(n).sqrt();
            assert!((mean - rectified.mean[c]).abs() < tolerance, "{c}: {mean}");
            assert!(
                (variance.sqrt() - rectified.deviation[c]).abs() < tolerance,
                "{c}: {variance}"
            );
        }
        assert_eq!((rectified.mean[2], rectified.deviation[2]), (2.0, 0.0));
        assert_eq!((rectified.mean[3], rectified.deviation[3]), (0.0, 0.0));
    }

    #[test]
    fn normal_distribution_at_known_points() {
        for (z, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746),
            (-1.959_963_985, 0.025),
            (4.0, 0.999_968_329),
        ] {
            assert!((normal_cdf(z) - expected).abs() < 1e-7, "{z}");
        }
    }
}
