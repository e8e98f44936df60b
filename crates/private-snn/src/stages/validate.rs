//! The spiking networks on the validation images: what settings are chosen by, so that the test images stay unseen.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use snn_core::evaluate::{EvaluateOptions, evaluate};

use super::{Context, convert, train};
use crate::data::Data;
use crate::store::Finished;

/// Accuracy of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidatedNetwork {
    /// Which one.
    pub network: String,
    /// Steps.
    pub timesteps: usize,
    /// Share of the validation images classified rightly.
    pub accuracy: f64,
}

/// Figures of the stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationFigures {
    /// Validation images.
    pub images: usize,
    /// Accuracy of the source network.
    pub source: f64,
    /// Accuracy of the spiking networks.
    pub spiking: Vec<ValidatedNetwork>,
}

/// Runs the validation images through the spiking networks, each over its window, and says what comes out.
///
/// # Errors
/// A data set without validation images; a network that cannot be read.
pub fn validate(
    ctx: &Context,
    name: &str,
    trained: &Finished,
    networks: &[(&str, &Finished, usize)],
) -> Result<Finished> {
    let split = ctx.data.set.validation.as_ref().with_context(|| {
        format!(
            "experiment {} has no validation images: set data.validation",
            ctx.experiment.name
        )
    })?;
    let mut upstream = vec![
        ("ann", trained.sha256(train::NETWORK)?),
        ("data", ctx.data.sha256.clone()),
    ];
    for (label, finished, _) in networks {
        upstream.push((label, finished.sha256(convert::NETWORK)?));
    }
    let windows: Vec<usize> = networks.iter().map(|&(.., timesteps)| timesteps).collect();
    let finished = ctx.stage(Some(name), "validate", &windows, &upstream, |_, watch| {
        let (images, labels) = Data::images(split, 0)?;
        let ann = train::load(ctx, trained)?;
        let mut spiking = Vec::new();
        for &(label, finished, timesteps) in networks {
            let network = convert::load(ctx, finished)?;
            let options =
                EvaluateOptions::for_topology(network.topology(), ctx.seed_of("validate"));
            let evaluation = evaluate(&network, &images, &labels, &[timesteps], options, watch)?;
            spiking.push(ValidatedNetwork {
                network: label.to_string(),
                timesteps,
                accuracy: evaluation.accuracy(),
            });
        }
        let figures = ValidationFigures {
            images: labels.elem_count(),
            source: ann::evaluate(&ann, &images, &labels, train::BATCH)?,
            spiking,
        };
        Ok((Vec::new(), figures))
    })?;
    let figures: ValidationFigures = finished.figures()?;
    println!(
        "{name}: accuracy on {} validation images: source {:.2} %",
        figures.images,
        figures.source * 100.0
    );
    for network in &figures.spiking {
        println!(
            "{name}: {} (T = {}) {:.2} %",
            network.network,
            network.timesteps,
            network.accuracy * 100.0
        );
    }
    Ok(finished)
}
