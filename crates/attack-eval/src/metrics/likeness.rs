//! Likeness to the training images: does a synthetic set repeat pictures that the source network was trained on?

use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Features;
use crate::{Error, Result, check};

/// Share of the unseen images that are less like the training images than the limit of [`Likeness::beyond`].
pub const UNSEEN_BELOW: f64 = 0.95;

/// How like the training images are pictures that should owe them nothing, beside real images that nobody trained on. The
/// likeness of an image is its highest Pearson correlation with any training image of whatever class,
///
/// ```text
/// l(x) = max over j of corr(f(x), f(t_j)),
/// ```
///
/// which brightness and contrast do not change. A copy has a likeness of 1.
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
    /// Share of the pictures beyond it: about 0.05 if they are as like the training images as unseen images are, 1 if they are
    /// copies.
    pub beyond: f64,
}

/// Compares `pictures` and `unseen` images with all `training` images. Brute force: (N + M) x K x F.
///
/// # Errors
/// Features of different lengths.
pub fn likeness(pictures: &Features, unseen: &Features, training: &Features) -> Result<Likeness> {
    let lengths = [pictures, unseen, training].map(Features::dimension);
    if lengths.iter().any(|&length| length != lengths[0]) {
        return Err(Error::argument(
            "likeness",
            format!("needs features of one length, got {lengths:?}"),
        ));
    }
    let standard = standardised(training);
    let of = |features: &Features| {
        let mut found: Vec<f64> = standardised(features)
            .par_iter()
            .map(|row| {
                let all = standard.iter().map(|other| dot(row, other));
                all.fold(f64::NEG_INFINITY, f64::max)
            })
            .collect();
        found.sort_unstable_by(f64::total_cmp);
        found
    };
    let (found, unseen) = (of(pictures), of(unseen));
    let limit = unseen[(unseen.len() as f64 * UNSEEN_BELOW).ceil() as usize - 1];
    let beyond = found.iter().filter(|&&likeness| likeness > limit).count();
    Ok(Likeness {
        samples: found.len(),
        unseen_samples: unseen.len(),
        training_samples: training.len(),
        median: median(&found),
        median_unseen: median(&unseen),
        largest: found[found.len() - 1],
        limit,
        beyond: beyond as f64 / found.len() as f64,
    })
}

impl Features {
    /// Means of `images` `[N, C, H, W]` over squares of `side` pixels: what is left of a picture seen from afar.
    ///
    /// # Errors
    /// Images that are not finite or smaller than a square, a side of 0.
    pub fn pixels(images: &Tensor, side: usize) -> Result<Self> {
        check::images("images", images)?;
        let (_, _, h, w) = images.dims4()?;
        if side == 0 || side > h || side > w {
            return Err(Error::argument(
                "side",
                format!("needs 1 to {}, got {side}", h.min(w)),
            ));
        }
        Self::from_tensor(&images.avg_pool2d(side)?.flatten_from(1)?)
    }
}

/// Rows of mean 0 and length 1, whose products are correlations; rows without variance stay 0.
fn standardised(features: &Features) -> Vec<Vec<f64>> {
    let rows = (0..features.len()).into_par_iter().map(|index| {
        let row = features.row(index);
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / row.len() as f64;
        let centred: Vec<f64> = row.iter().map(|&v| f64::from(v) - mean).collect();
        let length = centred.iter().map(|v| v * v).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        centred.into_iter().map(|v| v * scale).collect()
    });
    rows.collect()
}

/// In eight sums, which the compiler makes one vector of.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut a, mut b) = (a.chunks_exact(8), b.chunks_exact(8));
    let mut sums = [0.0; 8];
    for (a, b) in a.by_ref().zip(b.by_ref()) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest = a.remainder().iter().zip(b.remainder());
    sums.iter().sum::<f64>() + rest.map(|(a, b)| a * b).sum::<f64>()
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    0.5 * (sorted[(n - 1) / 2] + sorted[n / 2])
}
