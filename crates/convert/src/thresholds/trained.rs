//! Thresholds that the source network was trained with, without any image.

use std::collections::BTreeMap;

use ann::Ann;

use crate::config::ConvertConfig;
use crate::draft::Unit;
use crate::fold::as_f64;
use crate::{Error, Result};

/// A threshold per population (index of the activation layer), in the network's activation units. Another start than half the
/// threshold, with which neurons do not take the values of a staircase, is allowed, but told of.
pub(crate) fn find(source: &Ann, config: &ConvertConfig) -> Result<BTreeMap<usize, Unit>> {
    if config.initial_membrane != 0.5 {
        tracing::warn!(
            "trained thresholds are for neurons that start at half their threshold; here they start at {} of it",
            config.initial_membrane
        );
    }
    let topology = source.topology();
    let populations = topology.activations().into_iter();
    populations
        .map(|index| {
            let threshold = source.parameters().threshold(index).map_err(|_| {
                Error::layer(
                    topology,
                    index,
                    "was trained without a threshold; train with `levels`, or use another threshold rule",
                )
            })?;
            // whether it is positive is checked where it is set
            Ok((index, Unit::Layer(as_f64(threshold)?[0])))
        })
        .collect()
}
