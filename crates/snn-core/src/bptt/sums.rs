//! Gradients that are added up over chunks of time.

use std::collections::BTreeMap;

use crate::ops::time::total;

/// Gradients so far.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) parameters: BTreeMap<String, Vec<f32>>,
    pub(super) images: Option<Vec<f32>>,
    /// Of currents that are the same at every step.
    pub(super) held: Option<Vec<f32>>,
}

/// Adds to what is there; the first addend is taken as it is.
pub(super) fn add(sum: &mut Option<Vec<f32>>, addend: Vec<f32>) {
    match sum {
        Some(sum) => sum.iter_mut().zip(&addend).for_each(|(sum, x)| *sum += x),
        None => *sum = Some(addend),
    }
}

/// Adds the sum over the steps of `x` `[T, len]`.
pub(super) fn add_steps(sum: &mut Option<Vec<f32>>, x: &[f32], len: usize) {
    add(sum, total(x, len, |x| x));
}

/// Adds a gradient by name.
pub(super) fn add_named(sums: &mut BTreeMap<String, Vec<f32>>, name: String, gradient: Vec<f32>) {
    let mut sum = sums.remove(&name);
    add(&mut sum, gradient);
    if let Some(sum) = sum {
        sums.insert(name, sum);
    }
}
