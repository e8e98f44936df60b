//! Thresholds that the source network was trained with, without any image.

use std::collections::BTreeMap;

use ann::Ann;

use crate::draft::Unit;
use crate::fold::as_f64;
use crate::{Error, Result};

/// A threshold per population (index of the activation layer), in the network's activation units.
pub(crate) fn find(source: &Ann) -> Result<BTreeMap<usize, Unit>> {
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
