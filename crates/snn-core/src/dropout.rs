//! Dropout masks that are drawn once per sample and can be held over all time steps.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::rng::{Seed, unit};
use crate::{Error, Result};

/// Mask `[N, shape...]` with entries 0 (with probability `probability`) or `1 / (1 - probability)`; row n depends on
/// the seed and `ids[n]` alone.
///
/// # Errors
/// A probability outside `[0, 1)`; a device that does not take the mask.
pub fn mask(
    ids: &[u64],
    shape: &[usize],
    probability: f64,
    seed: Seed,
    device: &Device,
) -> Result<Tensor> {
    if !(0.0..1.0).contains(&probability) {
        return Err(Error::argument(
            "dropout probability",
            format!("must be in [0, 1), got {probability}"),
        ));
    }
    let units: usize = shape.iter().product();
    let kept = (1.0 / (1.0 - probability)) as f32;
    let mut values = vec![0f32; ids.len() * units];
    values
        .par_chunks_mut(units.max(1))
        .zip(ids)
        .for_each(|(row, &id)| {
            for (block, lanes) in row.chunks_mut(4).enumerate() {
                let words = seed.words([block as u32, 0, id as u32, (id >> 32) as u32]);
                for (value, word) in lanes.iter_mut().zip(words) {
                    if f64::from(unit(word)) >= probability {
                        *value = kept;
                    }
                }
            }
        });
    let mut full = vec![ids.len()];
    full.extend_from_slice(shape);
    Ok(Tensor::from_vec(values, full, device)?)
}
