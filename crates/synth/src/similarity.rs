//! How alike the network finds its classes.

use ann::Ann;
use snn_core::Layer;

use crate::{Error, Result};

/// Class similarity `[K][K]`: `S[i][j] = cos(w_i, w_j)` over the rows of the last linear layer's weight, each row of S
/// scaled to [0, 1] by its smallest and largest entry (Nayak et al. 2019, "Zero-shot knowledge distillation in deep
/// networks"). The diagonal is 1. A row whose entries are all equal (one class, for example) becomes all ones.
///
/// # Errors
/// [`Error::Argument`] if a class's weights are all zero: its direction is not defined.
pub fn class_similarity(ann: &Ann) -> Result<Vec<Vec<f64>>> {
    let last = ann
        .topology()
        .layers()
        .iter()
        .rposition(Layer::is_weighted)
        .expect("a topology ends in a linear layer");
    let rows: Vec<Vec<f32>> = ann.parameters().weight(last)?.to_vec2()?;
    let norms: Vec<f64> = rows.iter().map(|row| dot(row, row).sqrt()).collect();
    if let Some(class) = norms.iter().position(|&norm| norm == 0.0) {
        return Err(Error::argument(
            "class similarity",
            format!("all weights of class {class} in the last layer are zero"),
        ));
    }
    let cosine = |i: usize, j: usize| dot(&rows[i], &rows[j]) / (norms[i] * norms[j]);
    Ok((0..rows.len())
        .map(|i| scaled((0..rows.len()).map(|j| cosine(i, j)).collect()))
        .collect())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&x, &y)| f64::from(x) * f64::from(y))
        .sum()
}

fn scaled(row: Vec<f64>) -> Vec<f64> {
    let low = row.iter().copied().fold(f64::INFINITY, f64::min);
    let high = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if high <= low {
        return vec![1.0; row.len()];
    }
    row.into_iter().map(|s| (s - low) / (high - low)).collect()
}
