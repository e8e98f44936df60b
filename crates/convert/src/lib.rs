#![doc = include_str!("../README.md")]

mod config;
mod correction;
mod draft;
mod error;
mod fold;
mod report;
mod thresholds;

use ann::Ann;
use candle_core::Tensor;
use snn_core::neuron::Reset;
use snn_core::progress::Watch;
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, SpikingSettings};

pub use config::{ConvertConfig, Granularity, ThresholdRule};
pub use error::{Error, Result};
pub use fold::fold_batch_norm;
pub use report::{ConversionReport, LayerReport, report};
pub use thresholds::CHANNEL_FLOOR;

use draft::Draft;

/// A converted network with where it came from.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// The spiking network.
    pub network: SpikingNetwork,
    /// The source network with batch norm folded; layer indices as in `network`.
    pub source: Ann,
    /// What conversion did to each layer.
    pub report: ConversionReport,
}

/// Converts a trained network to a spiking one.
///
/// `calibration` are images `[N, C, H, W]` f32 in [-1, 1], whichever the caller has: a synthetic set, or real images
/// for a control. [`ThresholdRule::BatchNorm`] and [`ThresholdRule::Trained`] need none unless biases are corrected.
/// Calibration noise is drawn from `seed` by image index, the batches and parts of the images that rules take as well.
///
/// # Errors
/// A layer without a spiking counterpart, a layer whose threshold cannot be found by the rule, both with the layer's
/// index and kind; a layer without a bias to correct; a rule or correction that needs images and none given; images of
/// another shape or outside [-1, 1]; a field of `config` outside its domain.
pub fn convert(
    ann: &Ann,
    calibration: Option<&Tensor>,
    config: &ConvertConfig,
    seed: Seed,
    watch: &mut Watch,
) -> Result<Conversion> {
    config.check()?;
    fold::check_convertible(ann.topology())?;
    if config.neuron.leak != 1.0 || config.neuron.reset != Reset::Soft {
        tracing::warn!(
            "thresholds are set as if a firing rate stood for an activation, which it does in neurons without leak, with soft \
             reset; here the leak is {} and the reset {:?}",
            config.neuron.leak,
            config.neuron.reset
        );
    }
    if let Some(images) = calibration {
        report::check_images(images, ann.topology())?;
    }
    let required = || {
        calibration.ok_or_else(|| {
            Error::argument(
                "calibration",
                "this threshold rule or bias correction needs images; give a synthetic set, or use thresholds from \
                 batch-norm statistics or trained ones and no correction",
            )
        })
    };
    let seed = seed.derive("calibration");
    let folded = fold::fold(ann)?;
    let source = &folded.ann;
    let mut draft = Draft::new(source);
    match config.thresholds {
        ThresholdRule::MaxCurrent { scale } => {
            thresholds::max_current::set(&mut draft, required()?, scale, config, seed, watch)?;
        }
        ThresholdRule::Percentile {
            percentile,
            granularity,
        } => {
            let found = thresholds::percentile::find(
                source,
                required()?,
                percentile,
                granularity,
                config,
                seed,
                watch,
            )?;
            draft.set_all(found)?;
        }
        ThresholdRule::LocalBalance { rate, passes } => {
            let images = required()?;
            let found =
                thresholds::local_balance::find(source, images, rate, passes, config, seed, watch)?;
            draft.set_all(found)?;
        }
        ThresholdRule::BatchNorm { deviations } => {
            draft.set_all(thresholds::batch_norm::find(&folded, deviations)?)?;
        }
        ThresholdRule::Trained {} => draft.set_all(thresholds::trained::find(source, config)?)?,
    }
    let mut network = draft.finish(SpikingSettings {
        neuron: config.neuron,
        encoder: config.encoder,
        initial_membrane: config.initial_membrane,
        readout_scale: 1.0,
        readout_delay: config.readout_delay,
    })?;
    if config.bias_correction {
        network = correction::correct(network, source, required()?, config, seed, watch)?;
    }
    let report = match calibration {
        Some(images) if config.report_images > 0 => {
            let images = images.narrow(0, 0, config.report_images.min(images.dim(0)?))?;
            let timesteps = config.calibration_timesteps;
            report(&network, source, &images, timesteps, seed, watch)?
        }
        _ => report::thresholds_only(&network)?,
    };
    Ok(Conversion {
        network,
        source: folded.ann,
        report,
    })
}
