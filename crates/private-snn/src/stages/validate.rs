//! Networks on the validation images, each a stage of its own: what settings are chosen by, so that the test images stay
//! unseen.

use anyhow::{Context as _, Result};
use attack_eval::report;
use datasets::Split;
use serde::{Deserialize, Serialize};
use serde_json::json;
use snn_core::encode::Encoder;
use snn_core::energy;
use snn_core::evaluate::{EvaluateOptions, evaluate};

use super::evaluate::{WindowAccuracy, table};
use super::leakage::READINGS;
use super::{Context, convert, train};
use crate::data::Data;
use crate::store::Finished;

/// The source network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidatedSource {
    /// Validation images.
    pub images: usize,
    /// Share of them classified rightly.
    pub accuracy: f64,
}

/// A spiking network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidatedNetwork {
    /// Accuracy after each window, the quoted one last.
    pub accuracy_by_t: Vec<WindowAccuracy>,
    /// Energy at the quoted window; none in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<EnergyGain>,
}

/// How many times less energy than the source network a spiking network takes, see [`energy`]; none where nothing fired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnergyGain {
    /// By the rates.
    pub rate: Option<f64>,
    /// By the events.
    pub events: Option<f64>,
    /// By the events, with memory traffic.
    pub memory: Option<f64>,
}

impl ValidatedNetwork {
    /// The window that the network is quoted at.
    pub fn quoted(&self) -> Option<&WindowAccuracy> {
        self.accuracy_by_t.last()
    }

    /// The longest window before that.
    pub fn previous_window(&self) -> Option<&WindowAccuracy> {
        self.accuracy_by_t.iter().rev().nth(1)
    }
}

/// The weights of an encrypted network, read without its spikes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidatedReading {
    /// Accuracy of the weights read as a ReLU network.
    pub accuracy: f64,
    /// Accuracy of the weights read as a network of rates; none in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_accuracy: Option<f64>,
    /// The largest change of a layer's weights against the source network's, relative to these.
    pub largest_weight_change: f64,
}

/// The validation images of the experiment of this name.
///
/// # Errors
/// There are none.
pub fn images<'a>(data: &'a Data, experiment: &str) -> Result<&'a Split> {
    data.set.validation.as_ref().with_context(|| {
        format!("experiment {experiment} has no validation images: set data.validation")
    })
}

/// Runs the source network.
pub fn source(ctx: &Context, name: &str, trained: &Finished) -> Result<ValidatedSource> {
    let split = images(ctx.data, &ctx.experiment.name)?;
    let upstream = [
        ("ann", trained.sha256(train::NETWORK)?),
        ("data", ctx.data.sha256.clone()),
    ];
    let stage = ctx.stage(Some(name), "validate-source", &(), &upstream, |_, _| {
        let (images, labels) = Data::images(split, 0)?;
        let ann = train::load(ctx, trained)?;
        let figures = ValidatedSource {
            images: labels.elem_count(),
            accuracy: ann::evaluate(&ann, &images, &labels, train::BATCH)?,
        };
        Ok((Vec::new(), figures))
    })?;
    stage.figures()
}

/// Runs the spiking network `label`, quoted after the last of `windows`.
pub fn network(
    ctx: &Context,
    name: &str,
    label: &str,
    finished: &Finished,
    windows: &[usize],
) -> Result<ValidatedNetwork> {
    let split = images(ctx.data, &ctx.experiment.name)?;
    let upstream = [
        ("snn", finished.sha256(convert::NETWORK)?),
        ("data", ctx.data.sha256.clone()),
    ];
    let stage = format!("validate-{label}");
    let config = json!({"windows": windows, "energy": true});
    let stage = ctx.stage(Some(name), &stage, &config, &upstream, |_, watch| {
        let (images, labels) = Data::images(split, 0)?;
        let network = convert::load(ctx, finished)?;
        let options =
            EvaluateOptions::for_device(network.topology(), &ctx.device, ctx.seed_of("validate"));
        let evaluation = evaluate(&network, &images, &labels, windows, options, watch)?;
        let direct = network.settings().encoder == Encoder::Direct;
        let energy = energy::estimate(network.topology(), &evaluation, direct)?;
        let gain = |ratio: f64| ratio.is_finite().then_some(ratio);
        let figures = ValidatedNetwork {
            accuracy_by_t: table(&evaluation.accuracy_by_t, evaluation.samples),
            energy: Some(EnergyGain {
                rate: gain(energy.ratio_rate),
                events: gain(energy.ratio_events),
                memory: gain(energy.ratio_memory),
            }),
        };
        Ok((Vec::new(), figures))
    })?;
    stage.figures()
}

/// Reads the encrypted network as networks without time and compares its weights with those of the source network, from
/// the folder of the conversion.
pub fn reading(
    ctx: &Context,
    name: &str,
    converted: &Finished,
    encrypted: &Finished,
) -> Result<ValidatedReading> {
    let split = images(ctx.data, &ctx.experiment.name)?;
    let upstream = [
        ("snn", encrypted.sha256(convert::NETWORK)?),
        ("source", converted.sha256(convert::SOURCE)?),
        ("data", ctx.data.sha256.clone()),
    ];
    let stage = "validate-reading";
    let stage = ctx.stage(Some(name), stage, &READINGS, &upstream, |_, _| {
        let (images, labels) = Data::images(split, 0)?;
        let leakage = report::leakage(
            "encrypted",
            &convert::load_source(ctx, converted)?,
            &convert::load(ctx, encrypted)?,
            &images,
            &labels,
            train::BATCH,
        )?;
        let changes = leakage.weight_change_by_layer.iter();
        let figures = ValidatedReading {
            accuracy: leakage.relu_reading_accuracy,
            rate_accuracy: Some(leakage.rate_reading_accuracy),
            largest_weight_change: changes.map(|layer| layer.relative).fold(0.0, f64::max),
        };
        Ok((Vec::new(), figures))
    })?;
    stage.figures()
}
