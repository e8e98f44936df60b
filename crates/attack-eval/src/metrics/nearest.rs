//! Distance to the nearest real image: does a reconstruction show a training image?

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Features;
use crate::{Error, Result};

/// Nearest real image of each reconstruction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// Mean of `distances`.
    pub mean: f64,
    /// Median of `distances`; of an even number, the mean of the middle two.
    pub median: f64,
    /// Euclidean distance between features.
    pub distances: Vec<f64>,
    /// Position of the nearest image in the real set, the first of equals.
    pub indices: Vec<usize>,
}

/// For each reconstruction, the real image of its class that is nearest in feature space. Brute force: N x M x F.
///
/// # Errors
/// As many classes as features on each side; features of different lengths; a class without a real image.
pub fn nearest(
    features: &Features,
    classes: &[u32],
    real: &Features,
    real_classes: &[u32],
) -> Result<Nearest> {
    if features.dimension() != real.dimension() {
        return Err(Error::argument(
            "nearest",
            format!(
                "needs features of one length, got {} and {}",
                features.dimension(),
                real.dimension()
            ),
        ));
    }
    if features.len() != classes.len() || real.len() != real_classes.len() {
        return Err(Error::argument(
            "nearest",
            format!(
                "{} classes for {} reconstructions, {} for {} real images",
                classes.len(),
                features.len(),
                real_classes.len(),
                real.len()
            ),
        ));
    }
    let found = (0..features.len())
        .into_par_iter()
        .map(|i| {
            let candidates = (0..real.len()).filter(|&j| real_classes[j] == classes[i]);
            candidates
                .map(|j| (squared_distance(features.row(i), real.row(j)), j))
                .reduce(|best, next| if next.0 < best.0 { next } else { best })
                .ok_or_else(|| {
                    Error::argument(
                        "nearest",
                        format!("there is no real image of class {}", classes[i]),
                    )
                })
        })
        .collect::<Result<Vec<_>>>()?;
    let distances: Vec<f64> = found.iter().map(|(d, _)| d.sqrt()).collect();
    let mut sorted = distances.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    Ok(Nearest {
        mean: distances.iter().sum::<f64>() / n as f64,
        median: 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]),
        distances,
        indices: found.into_iter().map(|(_, j)| j).collect(),
    })
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2))
        .sum()
}
