//! Likeness to the training images: does a synthetic set repeat pictures that the source network was trained on?

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Features;
use crate::{Error, Result};

/// Share of the unseen images that are less like the training images than the limit of [`Likeness::beyond`].
pub const UNSEEN_BELOW: f64 = 0.95;

/// Rows that are correlated with all training images at a time.
const BLOCK: usize = 256;

/// How like the training images are pictures that should owe them nothing, beside real images that nobody trained on.
///
/// The likeness of an image is the highest Pearson correlation of any of its views with any training image of whatever class,
///
/// ```text
/// l(x) = max over views v, training images j of corr(f(v(x)), f(t_j)),
/// ```
///
/// which brightness and contrast do not change. The views are the ways to lay the image over another, mirrored or shifted, by
/// which a network that was trained with augmentation may give a picture back ([`super::windows`]). A copy that one of them
/// undoes has a likeness of 1.
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
    /// Share of the pictures beyond it: about 0.05 if they are as like the training images as unseen images are. What it is
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
    /// No view, views of different numbers of images, features of different lengths.
    pub fn new(training: &Features, unseen: &[Features]) -> Result<Self> {
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
        let mut found = vec![f64::NEG_INFINITY; count];
        for view in views {
            let rows = standardised(view)?;
            for (block, found) in found.chunks_mut(BLOCK).enumerate() {
                let rows = rows.narrow(0, block * BLOCK, found.len())?;
                let correlations: Vec<f32> =
                    rows.matmul(&self.training)?.flatten_all()?.to_vec1()?;
                let rows = correlations.par_chunks(self.training_samples);
                found.par_iter_mut().zip(rows).for_each(|(found, row)| {
                    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    *found = found.max(f64::from(largest));
                });
            }
        }
        found.sort_unstable_by(f64::total_cmp);
        Ok(found)
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
