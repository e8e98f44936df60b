//! Fréchet distance between sets of features (Heusel et al. 2017), with anchors.
//!
//! ```text
//! d(a, b) = |mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))
//! ```
//!
//! with covariances S divided by N - 1. It is a squared distance, in squared units of the features. On few samples it is
//! biased upwards, so figures compare only at equal sample counts and features: every report states both.

use nalgebra::{DMatrix, SymmetricEigen};
use serde::{Deserialize, Serialize};

use super::Features;
use crate::{Error, Result};

/// A Fréchet distance between its two anchors, all three against the same real images and, unless there are too few
/// real images, with as many samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anchored {
    /// Reconstructions against real images.
    pub fid: f64,
    /// Real images against other real images: what no reconstruction can be expected to undercut.
    pub floor: f64,
    /// Uniform noise against real images.
    pub ceiling: f64,
    /// Number of reconstructions, and of noise images.
    pub samples: usize,
    /// Number of real images on the reconstructions' side of the floor.
    pub floor_samples: usize,
    /// Number of real images on the other side.
    pub reference_samples: usize,
    /// Length of the feature vectors.
    pub dimension: usize,
}

/// Fréchet distance between two sets of features.
///
/// The trace of the root is taken in whichever space is smaller: of the F x F covariances, or of the N x N products
/// between samples, whose non-zero spectrum is the same.
///
/// # Errors
/// Fewer than two samples on a side, features of different lengths.
pub fn frechet_distance(a: &Features, b: &Features) -> Result<f64> {
    let (n, m) = (a.len(), b.len());
    if n < 2 || m < 2 {
        return Err(Error::argument(
            "fid",
            format!("needs at least 2 samples a side, got {n} and {m}"),
        ));
    }
    if a.dimension() != b.dimension() {
        return Err(Error::argument(
            "fid",
            format!(
                "needs features of one length, got {} and {}",
                a.dimension(),
                b.dimension()
            ),
        ));
    }
    let (mean_a, a) = centred(a);
    let (mean_b, b) = centred(b);
    let means: f64 = mean_a
        .iter()
        .zip(&mean_b)
        .map(|(x, y)| (x - y).powi(2))
        .sum();
    let traces = a.norm_squared() + b.norm_squared();
    let root = if n.min(m) <= a.ncols() {
        root_trace_of_samples(&a, &b)?
    } else {
        root_trace_of_covariances(&a, &b)?
    };
    // rounding can leave the distance of a set from itself a trifle below zero
    Ok((means + traces - 2.0 * root).max(0.0))
}

/// Mean, and the centred rows divided by `sqrt(N - 1)`, so that `X^T X` is the covariance.
fn centred(features: &Features) -> (Vec<f64>, DMatrix<f64>) {
    let (n, f) = (features.len(), features.dimension());
    let mut mean = vec![0f64; f];
    for i in 0..n {
        for (m, &v) in mean.iter_mut().zip(features.row(i)) {
            *m += f64::from(v);
        }
    }
    for m in &mut mean {
        *m /= n as f64;
    }
    let scale = 1.0 / ((n - 1) as f64).sqrt();
    let rows = DMatrix::from_fn(n, f, |i, j| {
        (f64::from(features.row(i)[j]) - mean[j]) * scale
    });
    (mean, rows)
}

/// `tr (S_a S_b)^(1/2)`: `S_a S_b = A^T A B^T B` has the non-zero eigenvalues of `(A B^T)(A B^T)^T`.
fn root_trace_of_samples(a: &DMatrix<f64>, b: &DMatrix<f64>) -> Result<f64> {
    let (few, many) = if a.nrows() <= b.nrows() {
        (a, b)
    } else {
        (b, a)
    };
    let cross = few * many.transpose();
    sum_of_roots(&cross * cross.transpose())
}

/// `tr (S_a S_b)^(1/2)` as `tr (R S_b R)^(1/2)` with the symmetric root R of `S_a`.
fn root_trace_of_covariances(a: &DMatrix<f64>, b: &DMatrix<f64>) -> Result<f64> {
    let eigen = eigen(a.transpose() * a)?;
    let scaled = DMatrix::from_fn(a.ncols(), a.ncols(), |i, j| {
        eigen.eigenvectors[(i, j)] * eigen.eigenvalues[j].max(0.0).sqrt().sqrt()
    });
    let root = &scaled * scaled.transpose();
    let half = b * root;
    sum_of_roots(half.transpose() * half)
}

fn sum_of_roots(symmetric: DMatrix<f64>) -> Result<f64> {
    let mut roots: Vec<f64> = eigen(symmetric)?
        .eigenvalues
        .iter()
        .map(|v| v.max(0.0).sqrt())
        .collect();
    roots.sort_unstable_by(f64::total_cmp);
    Ok(roots.iter().sum())
}

fn eigen(symmetric: DMatrix<f64>) -> Result<SymmetricEigen<f64, nalgebra::Dyn>> {
    let steps = 1000 + 100 * symmetric.nrows();
    SymmetricEigen::try_new(symmetric, f64::EPSILON, steps).ok_or_else(|| {
        Error::argument(
            "fid",
            "the eigenvalues of the features' covariance did not converge",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use snn_core::rng::Seed;

    #[test]
    fn both_spaces_agree() -> Result<()> {
        for (n, m, f) in [(5, 7, 6), (9, 4, 6), (20, 30, 8), (3, 40, 12)] {
            let draw = |purpose: &str, n| {
                let rows = Seed::new(8)
                    .derive(purpose)
                    .normal(&[n, f], 0.3, 1.5, &Device::Cpu)?;
                Features::from_tensor(&rows)
            };
            let (_, a) = centred(&draw("a", n)?);
            let (_, b) = centred(&draw("b", m)?);
            let (samples, covariances) = (
                root_trace_of_samples(&a, &b)?,
                root_trace_of_covariances(&a, &b)?,
            );
            // roots of eigenvalues that are zero but for rounding: sqrt(epsilon) of the largest, times their number
            assert!(
                (samples - covariances).abs() < 1e-6,
                "{n} {m} {f}: {samples} {covariances}"
            );
        }
        Ok(())
    }
}
