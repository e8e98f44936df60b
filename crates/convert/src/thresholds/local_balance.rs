//! Local threshold balancing: thresholds that grow by what they clip.
//!
//! Every channel's threshold starts at zero. Batch by batch, from the first layer on and with the activations of earlier
//! layers already clipped at their thresholds, it takes a step down the gradient of its mean square clipping error:
//!
//! ```text
//! theta_c += 2 rate mean over n, h, w of max(0, x_c - theta_c)
//! ```
//!
//! The number of steps bounds how far rare large values draw it up. At a rate of at most 1/2 no threshold passes its
//! channel's largest activation; at the authors' rate of 1 one of a channel that hardly varies may.
//!
//! Bu, Li, Yu: Inference-scale complexity in ANN-SNN conversion for high-performance and low-power applications, CVPR
//! 2025.

use std::collections::BTreeMap;

use ann::Ann;
use candle_core::{Device, Tensor};
use snn_core::Layer;
use snn_core::progress::{self, Watch};
use snn_core::rng::Seed;

use crate::config::ConvertConfig;
use crate::draft::Unit;
use crate::thresholds::floored;
use crate::{Error, Result};

/// A threshold per population (index of the activation layer), in the network's activation units. Batches are drawn from
/// `seed`, since images may be in the order of their classes, or take turns.
pub(crate) fn find(
    source: &Ann,
    images: &Tensor,
    rate: f64,
    passes: usize,
    config: &ConvertConfig,
    seed: Seed,
    watch: &mut Watch,
) -> Result<BTreeMap<usize, Unit>> {
    let topology = source.topology();
    let shapes = topology.shapes();
    let device = source.parameters().device();
    let mut thresholds: BTreeMap<usize, Vec<f64>> = topology
        .activations()
        .into_iter()
        .map(|index| (index, vec![0.0; shapes[index][0]]))
        .collect();
    let Some(&last) = topology.activations().last() else {
        return Ok(BTreeMap::new());
    };
    let count = images.dim(0)?;
    let batches = count.div_ceil(config.batch);
    let steps = batches.saturating_mul(passes);
    let order = seed.derive("local balance").stream().permutation(count);
    for step in 0..steps {
        let ids = (step % batches..count).step_by(batches);
        let ids: Vec<u32> = ids.map(|at| order[at]).collect();
        let ids = Tensor::new(ids, images.device())?;
        let mut x = images.index_select(&ids, 0)?.to_device(&device)?;
        // clipped, for the shortcuts that take them
        let mut earlier = BTreeMap::new();
        for (index, layer) in topology.layers().iter().enumerate().take(last + 1) {
            x = source.layer(index, &x, &earlier)?;
            if let (Layer::Activation { .. }, Some(of_channels)) =
                (layer, thresholds.get_mut(&index))
            {
                x = grow(&x, of_channels, rate)?.ok_or_else(|| {
                    Error::threshold(
                        index,
                        "the source network's activations on the calibration images are not finite",
                    )
                })?;
                earlier.insert(index, x.clone());
            }
            earlier.retain(|&from, _| topology.last_shortcut_from(from) > Some(index));
        }
        progress::report(
            watch,
            "local balance, step",
            step as u64 + 1,
            steps as u64,
            "",
        )?;
    }
    thresholds
        .into_iter()
        .map(|(index, values)| {
            let unit = floored(values).ok_or_else(|| {
                Error::threshold(index,
                    "is silent on the calibration images, or its thresholds grew beyond the numbers: use other images, \
                     or a lower thresholds.rate",
                )
            })?;
            Ok((index, unit))
        })
        .collect()
}

/// Takes the thresholds one step further and gives the activations `[N, C, ...]`, clipped at them; nothing if one of
/// these is not finite.
fn grow(x: &Tensor, thresholds: &mut [f64], rate: f64) -> Result<Option<Tensor>> {
    let images = x.dim(0)?;
    let mut values: Vec<f32> = x.flatten_all()?.to_device(&Device::Cpu)?.to_vec1()?;
    if values.iter().any(|value| !value.is_finite()) {
        return Ok(None);
    }
    let channels = thresholds.len();
    let plane = values.len() / (images * channels);
    for (channel, threshold) in thresholds.iter_mut().enumerate() {
        let of_image = |image: usize| (image * channels + channel) * plane;
        let beyond = (0..images).map(|image| {
            let of_plane = values[of_image(image)..][..plane].iter();
            let beyond = of_plane.map(|&value| (f64::from(value) - *threshold).max(0.0));
            beyond.sum::<f64>()
        });
        *threshold += 2.0 * rate * beyond.sum::<f64>() / (images * plane) as f64;
        for image in 0..images {
            for value in &mut values[of_image(image)..][..plane] {
                *value = value.min(*threshold as f32);
            }
        }
    }
    Ok(Some(Tensor::from_vec(values, x.shape(), x.device())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels of two positions: what lies beyond 1 and 0.5 is 1 and 2 on one position each, then half of it.
    #[test]
    fn thresholds_grow_by_what_they_clip() {
        let x = Tensor::new(&[[[2f32, 0.5], [0.0, 2.5]]], &Device::Cpu).unwrap();
        let mut thresholds = [1.0, 0.5];
        let clipped = grow(&x, &mut thresholds, 0.5).unwrap().unwrap();
        assert_eq!(thresholds, [1.5, 1.5]);
        let clipped: Vec<Vec<Vec<f32>>> = clipped.to_vec3().unwrap();
        assert_eq!(clipped, [[[1.5, 0.5], [0.0, 1.5]]]);
        grow(&x, &mut thresholds, 0.5).unwrap();
        assert_eq!(thresholds, [1.75, 2.0]);
        let x = Tensor::new(&[[[f32::NAN], [0.0]]], &Device::Cpu).unwrap();
        assert!(grow(&x, &mut thresholds, 0.5).unwrap().is_none());
    }
}
