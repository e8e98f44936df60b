//! Thresholds from a percentile of the source network's activations.

use std::collections::BTreeMap;

use ann::{Ann, Mode};
use candle_core::Tensor;
use rayon::prelude::*;
use snn_core::progress::{self, Watch};
use snn_core::rng::Seed;

use crate::config::{ConvertConfig, Granularity};
use crate::draft::Unit;
use crate::thresholds::floored;
use crate::{Error, Result};

/// Bound on the activations that are kept to find the percentile: 256 MiB.
const VALUES_KEPT: usize = 1 << 26;

/// A threshold per population (index of the activation layer), in the network's activation units.
///
/// Exact: of each layer or channel the values at and above the percentile are kept. If those of all images would not
/// fit in memory (low percentiles of large sets), a k-th of the images is drawn from `seed`, and that is logged.
pub(crate) fn find(
    source: &Ann,
    images: &Tensor,
    percentile: f64,
    granularity: Granularity,
    config: &ConvertConfig,
    seed: Seed,
    watch: &mut Watch,
) -> Result<BTreeMap<usize, Unit>> {
    let topology = source.topology();
    let share = 1.0 - percentile / 100.0;
    let kept_per_image = (topology.neuron_count() as f64 * share).ceil().max(1.0) as usize;
    let all = images.dim(0)?;
    // a collector holds up to twice what it keeps
    let parts = (2 * all * kept_per_image).div_ceil(VALUES_KEPT).max(1);
    let chosen = choose(all, parts, seed);
    if parts > 1 {
        tracing::warn!(
            "percentile {percentile}: {} of {all} calibration images are used, drawn at random, to bound memory",
            chosen.len()
        );
    }
    let shapes = topology.shapes();
    let mut collectors: BTreeMap<usize, Vec<Largest>> = topology
        .activations()
        .into_iter()
        .map(|index| {
            let units: usize = shapes[index].iter().product();
            let groups = match granularity {
                Granularity::Layer => 1,
                Granularity::Channel => shapes[index][0],
            };
            let count = chosen.len() * units / groups;
            (
                index,
                (0..groups)
                    .map(|_| Largest::new(count, percentile))
                    .collect(),
            )
        })
        .collect();

    let device = source.parameters().device();
    let mut done = 0;
    for ids in chosen.chunks(config.batch) {
        let ids = Tensor::new(ids, images.device())?;
        let batch = images.index_select(&ids, 0)?.to_device(&device)?;
        let trace = source.trace(&batch, Mode::Inference)?;
        let count = batch.dim(0)?;
        for (index, activation) in trace.activations {
            let values: Vec<f32> = activation.flatten_all()?.to_vec1()?;
            if values.iter().any(|v| !v.is_finite()) {
                return Err(Error::threshold(
                    index,
                    "the source network's activations on the calibration images are not finite",
                ));
            }
            let groups = collectors
                .get_mut(&index)
                .expect("one entry per activation layer");
            let per_group = values.len() / count / groups.len();
            let number = groups.len();
            groups
                .par_iter_mut()
                .enumerate()
                .for_each(|(group, largest)| {
                    for image in 0..count {
                        largest.add(&values[(image * number + group) * per_group..][..per_group]);
                    }
                });
        }
        done += count;
        progress::report(
            watch,
            "percentile, image",
            done as u64,
            chosen.len() as u64,
            "",
        )?;
    }

    collectors
        .into_iter()
        .map(|(index, groups)| {
            let values: Vec<f64> = groups.into_iter().map(Largest::quantile).collect();
            let unit = match (granularity, values.as_slice()) {
                (Granularity::Layer, &[value]) => (value > 0.0).then_some(Unit::Layer(value)),
                _ => floored(values),
            };
            let unit = unit.ok_or_else(|| {
                Error::threshold(index,
                    format!(
                        "percentile {percentile} of its activations on the calibration images is 0: no threshold can be \
                         set; use a higher percentile or other images"
                    ),
                )
            })?;
            Ok((index, unit))
        })
        .collect()
}

/// One of so many parts of all positions, in order. At random: images may be in the order of their classes, or take turns.
fn choose(all: usize, parts: usize, seed: Seed) -> Vec<u32> {
    let mut chosen: Vec<u32> = (0..all as u32).collect();
    if parts > 1 {
        chosen = seed.derive("percentile").stream().permutation(all);
        chosen.truncate(all.div_ceil(parts));
        chosen.sort_unstable();
    }
    chosen
}

/// The largest of `count` values that are needed for a percentile; the order in which they come does not matter.
struct Largest {
    kept: Vec<f32>,
    needed: usize,
    /// Position of the percentile between the two lowest of the needed ones.
    fraction: f64,
    cutoff: f32,
}

impl Largest {
    fn new(count: usize, percentile: f64) -> Self {
        let position = percentile / 100.0 * (count.max(1) - 1) as f64;
        let below = position.floor();
        Self {
            kept: Vec::new(),
            needed: count.max(1) - below as usize,
            fraction: position - below,
            cutoff: f32::NEG_INFINITY,
        }
    }

    fn add(&mut self, values: &[f32]) {
        for &value in values {
            if value >= self.cutoff {
                self.kept.push(value);
                if self.kept.len() >= 2 * self.needed + 64 {
                    self.shrink();
                }
            }
        }
    }

    fn shrink(&mut self) {
        if self.kept.len() > self.needed {
            let last = self.needed - 1;
            let (_, cutoff, _) = self
                .kept
                .select_nth_unstable_by(last, |a, b| b.total_cmp(a));
            self.cutoff = *cutoff;
            self.kept.truncate(self.needed);
        }
    }

    fn quantile(mut self) -> f64 {
        self.shrink();
        self.kept.sort_unstable_by(f32::total_cmp);
        let Some(&low) = self.kept.first() else {
            return 0.0;
        };
        let high = self.kept.get(1).copied().unwrap_or(low);
        f64::from(low) + self.fraction * (f64::from(high) - f64::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// numpy.quantile(values, q, method="linear") on the sorted whole.
    fn reference(values: &[f32], percentile: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let position = percentile / 100.0 * (sorted.len() - 1) as f64;
        let below = position.floor() as usize;
        let above = (below + 1).min(sorted.len() - 1);
        let (low, high) = (f64::from(sorted[below]), f64::from(sorted[above]));
        low + (position - below as f64) * (high - low)
    }

    #[test]
    fn a_part_of_the_images_has_every_class() {
        assert_eq!(choose(5, 1, Seed::new(1)), [0, 1, 2, 3, 4]);
        let chosen = choose(500, 5, Seed::new(1));
        assert_eq!(chosen.len(), 100);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        // classes take turns, or come one after another
        for class in [|i: u32| i % 10, |i: u32| i / 50] {
            let classes: std::collections::BTreeSet<u32> =
                chosen.iter().copied().map(class).collect();
            assert_eq!(classes.len(), 10);
        }
    }

    #[test]
    fn quantile_equals_sorting_everything() {
        let mut stream = Seed::new(2).stream();
        for count in [1usize, 2, 5, 100, 1000, 7777] {
            // ties and zeros, as after a ReLU
            let values: Vec<f32> = (0..count)
                .map(|_| ((stream.normal() * 20.0).round() as f32 / 10.0).max(0.0))
                .collect();
            for percentile in [50.0, 75.3, 99.0, 99.9, 100.0] {
                let mut largest = Largest::new(count, percentile);
                for part in values.chunks(37) {
                    largest.add(part);
                }
                assert_eq!(
                    largest.quantile(),
                    reference(&values, percentile),
                    "{count} {percentile}"
                );
            }
        }
    }

    /// Values from `numpy.percentile([0, 0, 0.5, 1, 4, 2, 3, 8, 0, 1], [50, 90, 99])`.
    #[test]
    fn quantile_by_numpy() {
        let values = [0.0, 0.0, 0.5, 1.0, 4.0, 2.0, 3.0, 8.0, 0.0, 1.0];
        for (percentile, expected) in [(50.0, 1.0), (90.0, 4.4), (99.0, 7.64)] {
            let mut largest = Largest::new(10, percentile);
            largest.add(&values);
            assert!((largest.quantile() - expected).abs() < 1e-12);
        }
    }
}
