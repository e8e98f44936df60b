//! Stage 2: the source network becomes a spiking one, with thresholds from no real image; and the control, whose
//! thresholds come from real training images.

use ::convert::{Conversion, ConvertConfig, Granularity, ThresholdRule};
use ann::Ann;
use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use snn_core::SpikingNetwork;

use super::{Context, synth, train};
use crate::data::Data;
use crate::experiment::VariantConfig;
use crate::store::Finished;

/// The spiking network.
pub const NETWORK: &str = "snn.safetensors";
/// The source network with batch norm folded, whose weights the spiking network's are compared with.
pub const SOURCE: &str = "source.safetensors";

/// Figures of a conversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversionFigures {
    /// Where thresholds came from, in words.
    pub thresholds: String,
    /// What the figures of the layers were measured on.
    pub measured: Measured,
    /// Per layer: threshold, clipped share, correlation of rate and activation, first step with an output.
    pub layers: Value,
}

/// The images that a conversion was measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Where they come from, in words.
    pub source: String,
    /// How many; 0 if nothing was measured.
    pub images: usize,
    /// Steps per image.
    pub timesteps: usize,
    /// Share of the images for which source and spiking network choose the same class; none without images.
    pub agreement: Option<f64>,
}

/// What the stage depends on.
#[derive(Serialize)]
struct Settings<'a> {
    convert: &'a ConvertConfig,
    calibration_images: usize,
}

/// The conversion that sees synthetic images only.
pub fn convert(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    trained: &Finished,
    synthetic: &Finished,
) -> Result<Finished> {
    let upstream = [
        ("ann", trained.sha256(train::NETWORK)?),
        ("synthetic", synthetic.sha256(synth::SET)?),
    ];
    let settings = Settings {
        convert: &variant.convert,
        calibration_images: variant.calibration_images,
    };
    ctx.stage(
        Some(name),
        "convert",
        &settings,
        &upstream,
        |slot, watch| {
            let ann = train::load(ctx, trained)?;
            let set = synth::load(ctx, synthetic)?;
            let count = if variant.calibration_images == 0 {
                set.len()
            } else {
                variant.calibration_images.min(set.len())
            };
            let images = set.images.narrow(0, 0, count)?.contiguous()?;
            let conversion = ::convert::convert(
                &ann,
                Some(&images),
                &variant.convert,
                ctx.seed_of("convert"),
                watch,
            )?;
            save(slot, &conversion, &variant.convert, "synthetic images")
        },
    )
}

/// The control: the same rule on real training images. Where the rule needs no image, the 99.9 percentile per channel,
/// which is what one would do with them.
pub fn control(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    trained: &Finished,
) -> Result<Finished> {
    let mut config = variant.convert.clone();
    if !config.thresholds.needs_images() {
        config.thresholds = ThresholdRule::Percentile {
            percentile: 99.9,
            granularity: Granularity::Channel,
        };
    }
    let upstream = [
        ("ann", trained.sha256(train::NETWORK)?),
        ("data", ctx.data.sha256.clone()),
    ];
    let settings = Settings {
        convert: &config,
        calibration_images: variant.calibration_images,
    };
    ctx.stage(
        Some(name),
        "convert-real",
        &settings,
        &upstream,
        |slot, watch| {
            let ann: Ann = train::load(ctx, trained)?;
            let (images, _): (Tensor, _) =
                Data::images(&ctx.data.set.train, variant.calibration_images)?;
            let images = images.to_device(&ctx.device)?;
            let conversion =
                ::convert::convert(&ann, Some(&images), &config, ctx.seed_of("convert"), watch)?;
            save(slot, &conversion, &config, "real training images")
        },
    )
}

fn save(
    slot: &crate::store::OpenSlot,
    conversion: &Conversion,
    config: &ConvertConfig,
    images: &str,
) -> Result<(Vec<&'static str>, ConversionFigures)> {
    conversion.network.save(&slot.path(NETWORK))?;
    conversion.source.save(&slot.path(SOURCE))?;
    let figures = ConversionFigures {
        thresholds: describe(config, images),
        measured: Measured {
            source: images.into(),
            images: conversion.report.images,
            timesteps: conversion.report.timesteps,
            agreement: conversion.report.agreement,
        },
        layers: serde_json::to_value(&conversion.report.layers)?,
    };
    Ok((vec![NETWORK, SOURCE], figures))
}

fn describe(config: &ConvertConfig, images: &str) -> String {
    let thresholds = match &config.thresholds {
        ThresholdRule::MaxCurrent { scale } => {
            format!("{scale} x largest current on {images}, per layer")
        }
        ThresholdRule::Percentile {
            percentile,
            granularity,
        } => {
            let unit = match granularity {
                Granularity::Layer => "layer",
                Granularity::Channel => "channel",
            };
            format!("{percentile} percentile of the activations on {images}, per {unit}")
        }
        ThresholdRule::LocalBalance { rate, passes } => {
            format!("local balance on {images}, {passes} passes at rate {rate}, per channel")
        }
        ThresholdRule::BatchNorm { deviations } => {
            format!("batch-norm statistics, beta + {deviations} |gamma| per channel, no image")
        }
        ThresholdRule::Trained {} => "those trained with the network, no image".into(),
    };
    if config.bias_correction {
        format!("{thresholds}; biases corrected on {images}")
    } else {
        thresholds
    }
}

/// The spiking network of a finished conversion or encryption.
pub fn load(ctx: &Context, finished: &Finished) -> Result<SpikingNetwork> {
    Ok(SpikingNetwork::load(&finished.path(NETWORK), &ctx.device)?)
}

/// The folded source network of a finished conversion.
pub fn load_source(ctx: &Context, finished: &Finished) -> Result<Ann> {
    Ok(Ann::load(&finished.path(SOURCE), &ctx.device)?)
}
