//! Likeness to the training images: does a synthetic set repeat pictures that the source network was trained on?

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Features;
use crate::{Error, Result};

/// Share of the unseen images that are less like the training images than the limit of [`Likeness::beyond`].
///
/// A few of the test images of CIFAR are near-duplicates of training images, 3.3 % in CIFAR-10 and 10 % in CIFAR-100 (Barz and
/// Denzler, 2020); a share above these would make a limit that only copies pass.
pub const UNSEEN_BELOW: f64 = 0.90;

/// The nearest training images, after the first, that the first is compared with.
pub const NEIGHBOURS: usize = 50;

/// Rows that are correlated with all training images at a time.
const BLOCK: usize = 256;

/// How like the training images are pictures that should owe them nothing, beside real images that nobody trained on.
///
/// The likeness of an image is how much nearer one training image is to it, of whatever class, than the next ones, with
/// Pearson's correlation as the nearness,
///
/// ```text
/// c_j(x) = max over views v of corr(f(v(x)), f(t_j)),    c_(1) >= c_(2) >= ...    sorted over the training images,
/// l(x) = 1 - (1 - c_(1)) / mean of (1 - c_(k)) over k = 2 .. NEIGHBOURS + 1,
/// ```
///
/// which brightness and contrast do not change, and what all pictures have in common little. It is 0 if no training image stands
/// out, and 1 of a copy that one of the views undoes. The views are the ways to lay the image over another, mirrored or shifted,
/// by which a network that was trained with augmentation may give a picture back ([`super::windows`]). The ratio is that by
/// which Carlini et al. (2023) tell copies that diffusion models make, there of Euclidean distances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Likeness {
    /// Number of pictures.
    pub samples: usize,
    /// Number of unseen real images.
    pub unseen_samples: usize,
    /// Number of training images.
    pub training_samples: usize,
    /// Median of the pictures' likeness.
    pub median: f64,
    /// Median of that of the unseen images.
    pub median_unseen: f64,
    /// The largest of the pictures.
    pub largest: f64,
    /// The likeness that [`UNSEEN_BELOW`] of the unseen images do not exceed.
    pub limit: f64,
    /// Share of the pictures beyond it: about 0.1 if they are as like the training images as unseen images are. What it is
    /// for copies tells how much the measure sees: measure altered training images, too.
    pub beyond: f64,
}

/// The training images, and how like them unseen images are.
#[derive(Debug, Clone)]
pub struct Gauge {
    /// Rows of mean 0 and length 1, transposed: `[F, K]`.
    training: Tensor,
    training_samples: usize,
    unseen: Vec<f64>,
}

impl Gauge {
    /// Measures the views of the `unseen` images, row i of each of image i, against all `training` images.
    ///
    /// # Errors
    /// Fewer than two training images; no view, views of different numbers of images, features of different lengths.
    pub fn new(training: &Features, unseen: &[Features]) -> Result<Self> {
        if training.len() < 2 {
            return Err(Error::argument(
                "training",
                format!("needs at least 2 images, got {}", training.len()),
            ));
        }
        let mut gauge = Self {
            training: standardised(training)?.t()?.contiguous()?,
            training_samples: training.len(),
            unseen: Vec::new(),
        };
        gauge.unseen = gauge.likenesses(unseen)?;
        Ok(gauge)
    }

    /// Measures the views of `pictures`. Brute force: views x N x K x F.
    ///
    /// # Errors
    /// As of [`Gauge::new`].
    pub fn measure(&self, pictures: &[Features]) -> Result<Likeness> {
        let found = self.likenesses(pictures)?;
        let limit = self.unseen[(self.unseen.len() as f64 * UNSEEN_BELOW).ceil() as usize - 1];
        let beyond = found.iter().filter(|&&likeness| likeness > limit).count();
        Ok(Likeness {
            samples: found.len(),
            unseen_samples: self.unseen.len(),
            training_samples: self.training_samples,
            median: median(&found),
            median_unseen: median(&self.unseen),
            largest: found[found.len() - 1],
            limit,
            beyond: beyond as f64 / found.len() as f64,
        })
    }

    /// Of each image, ascending.
    fn likenesses(&self, views: &[Features]) -> Result<Vec<f64>> {
        let dimension = self.training.dim(0)?;
        let count = views.first().map_or(0, Features::len);
        if count == 0
            || views
                .iter()
                .any(|view| view.len() != count || view.dimension() != dimension)
        {
            return Err(Error::argument(
                "views",
                format!(
                    "needs at least one, and all of as many images and with {dimension} features each"
                ),
            ));
        }
        let views: Vec<Tensor> = views.iter().map(standardised).collect::<Result<_>>()?;
        let mut found = Vec::with_capacity(count);
        for first in (0..count).step_by(BLOCK) {
            let rows = BLOCK.min(count - first);
            let mut best = vec![f32::NEG_INFINITY; rows * self.training_samples];
            for view in &views {
                let products = view.narrow(0, first, rows)?.matmul(&self.training)?;
                let correlations: Vec<f32> = products.flatten_all()?.to_vec1()?;
                let pairs = best.par_iter_mut().zip(&correlations);
                pairs.for_each(|(best, &next)| *best = best.max(next));
            }
            found.par_extend(best.par_chunks_mut(self.training_samples).map(standing_out));
        }
        found.sort_unstable_by(f64::total_cmp);
        Ok(found)
    }
}

/// By how much the highest of the correlations stands out from the next; of two at least, which lose their order.
fn standing_out(correlations: &mut [f32]) -> f64 {
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    let last = NEIGHBOURS.min(correlations.len() - 1);
    correlations.select_nth_unstable_by(last, descending);
    let nearest = &mut correlations[..=last];
    nearest.sort_unstable_by(descending);
    let apart = |&correlation: &f32| (1.0 - f64::from(correlation)).max(0.0);
    let others = nearest[1..].iter().map(apart).sum::<f64>() / last as f64;
    // all of them copies: none stands out
    if others > 0.0 {
        1.0 - apart(&nearest[0]) / others
    } else {
        0.0
    }
}

/// Rows `[N, F]` of mean 0 and length 1, whose products are correlations; rows without variance stay 0.
fn standardised(features: &Features) -> Result<Tensor> {
    let rows = (0..features.len()).into_par_iter().flat_map_iter(|index| {
        let row = features.row(index);
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / row.len() as f64;
        let centred: Vec<f64> = row.iter().map(|&v| f64::from(v) - mean).collect();
        let length = centred.iter().map(|v| v * v).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        centred.into_iter().map(move |v| (v * scale) as f32)
    });
    let rows: Vec<f32> = rows.collect();
    let shape = (features.len(), features.dimension());
    Ok(Tensor::from_vec(rows, shape, &Device::Cpu)?)
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    0.5 * (sorted[(n - 1) / 2] + sorted[n / 2])
}
