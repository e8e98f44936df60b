//! Where thresholds come from; one file per rule.

pub(crate) mod batch_norm;
pub(crate) mod local_balance;
pub(crate) mod max_current;
pub(crate) mod percentile;
pub(crate) mod trained;

use crate::draft::Unit;

/// Least threshold of a channel, as a share of its layer's largest. A channel that is silent on the calibration images,
/// or that batch norm keeps below zero, would otherwise get a threshold of zero or less.
pub const CHANNEL_FLOOR: f64 = 0.01;

/// Channel-wise thresholds held to the floor; `None` if no channel has a positive one.
pub(crate) fn floored(mut values: Vec<f64>) -> Option<Unit> {
    let largest = values.iter().copied().fold(0.0, f64::max);
    if !(largest.is_finite() && largest > 0.0) {
        return None;
    }
    for value in &mut values {
        *value = value.max(CHANNEL_FLOOR * largest);
    }
    Some(Unit::Channel(values))
}
