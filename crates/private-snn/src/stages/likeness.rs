//! Whether the synthetic images repeat training images.

use ann::Augment;
use anyhow::Result;
use attack_eval::metrics::{Features, Gauge, Likeness, Windows, mirrored};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use snn_core::progress;

use super::{Context, synth, train};
use crate::data::Data;
use crate::store::Finished;

/// Synthetic images, and test images beside them, that are compared with all training images.
const IMAGES: usize = 500;

/// Altered training images that are compared likewise.
const COPIES: usize = 200;

/// Training images that are held as f32 at a time.
const PART: usize = 4_000;

/// Images may be shifted by this part of their height or width.
const SHIFT: usize = 8;

/// Squares of pixels, side by side, in a window of an image.
const SQUARES: usize = 6;

/// Figures of the stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LikenessFigures {
    /// On the judge's features of an image or of its mirror image.
    pub features: Compared,
    /// On the means of 6x6 squares of pixels, mirrored and shifted by up to an eighth of the image.
    pub pixels: Compared,
}

/// The synthetic images, and what the same measure says of copies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Of the synthetic images.
    #[serde(flatten)]
    pub synthetic: Likeness,
    /// Share of training images beyond the limit that were mirrored and shifted as in training.
    pub copies_beyond: f64,
    /// Of training images that are half noise.
    pub noisy_copies_beyond: f64,
}

/// What is measured, the synthetic images first.
struct Measured {
    synthetic: Tensor,
    unseen: Tensor,
    copies: Tensor,
    noisy_copies: Tensor,
}

/// Compares the synthetic images with all training images, beside test images, which nobody trained on.
pub fn likeness(
    ctx: &Context,
    name: &str,
    judge: &Finished,
    synthetic: &Finished,
) -> Result<Finished> {
    let upstream = [
        ("judge", judge.sha256(train::NETWORK)?),
        ("synthetic", synthetic.sha256(synth::SET)?),
        ("data", ctx.data.sha256.clone()),
    ];
    let config = (IMAGES, COPIES, SHIFT, SQUARES);
    ctx.stage(Some(name), "likeness", &config, &upstream, |_, watch| {
        let judge = train::load(ctx, judge)?;
        let measured = measured(ctx, synthetic)?;
        let mut step = |done, what: &str| progress::report(watch, what, done, 2, "");
        step(0, "comparison on the judge's features")?;
        let of = |images: &Tensor| Features::extract(&judge, images, train::BATCH);
        let features = compare(&measured, &training(ctx, of)?, |images| {
            Ok(vec![of(images)?, of(&mirrored(images)?)?])
        })?;
        step(1, "comparison on pixels")?;
        let (_, _, h, w) = measured.unseen.dims4()?;
        let size = h.min(w);
        let margin = size / SHIFT;
        let windows = Windows::new(margin, (margin / 4).max(1))?;
        let side = ((size - 2 * margin) / SQUARES).max(1);
        let of = |images: &Tensor| Features::pixels(images, side);
        let middles = training(ctx, |images| of(&windows.middle(images)?))?;
        let pixels = compare(&measured, &middles, |images| windows.all(images, of))?;
        Ok((Vec::new(), LikenessFigures { features, pixels }))
    })
}

fn measured(ctx: &Context, synthetic: &Finished) -> Result<Measured> {
    let seed = ctx.seed_of("likeness");
    let split = &ctx.data.set.train;
    let copied = spread_out(&split.images, COPIES)?;
    let originals = Augment::default();
    let altered = Augment {
        crop_padding: split.images.dim(2)?.min(split.images.dim(3)?) / SHIFT,
        flip: true,
    };
    let ids: Vec<u64> = (0..copied.dim(0)? as u64).collect();
    let noise = seed
        .derive("noise")
        .uniform(copied.dims(), -1.0, 1.0, &Device::Cpu)?;
    let noisy_copies = ((originals.apply(&copied, &ids, seed)? + noise)? * 0.5)?;
    Ok(Measured {
        synthetic: spread_out(&synth::load(ctx, synthetic)?.images, IMAGES)?,
        unseen: Data::images(&ctx.data.set.test, IMAGES)?.0,
        copies: altered.apply(&copied, &ids, seed)?,
        noisy_copies,
    })
}

fn compare(
    measured: &Measured,
    training: &Features,
    views: impl Fn(&Tensor) -> attack_eval::Result<Vec<Features>>,
) -> Result<Compared> {
    let gauge = Gauge::new(training, &views(&measured.unseen)?)?;
    let of = |images: &Tensor| gauge.measure(&views(images)?);
    Ok(Compared {
        synthetic: of(&measured.synthetic)?,
        copies_beyond: of(&measured.copies)?.beyond,
        noisy_copies_beyond: of(&measured.noisy_copies)?.beyond,
    })
}

/// Features of all training images, some at a time: as f32 they take four times what they do as bytes.
fn training(
    ctx: &Context,
    of: impl Fn(&Tensor) -> attack_eval::Result<Features>,
) -> Result<Features> {
    let split = &ctx.data.set.train;
    let mut parts = Vec::new();
    for start in (0..split.len()).step_by(PART) {
        let part = split.subset(start..split.len().min(start + PART))?;
        parts.push(of(&Data::images(&part, 0)?.0)?);
    }
    Ok(Features::concat(&parts)?)
}

/// So many images of a set, at equal distances.
fn spread_out(images: &Tensor, most: usize) -> Result<Tensor> {
    let all = images.dim(0)?;
    let count = all.min(most);
    let chosen: Vec<u32> = (0..count).map(|i| (i * all / count) as u32).collect();
    let chosen = Tensor::new(chosen, images.device())?;
    Ok(images.index_select(&chosen, 0)?)
}
