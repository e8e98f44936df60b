//! Whether the synthetic images repeat training images.

use anyhow::Result;
use attack_eval::metrics::{Features, Likeness, likeness as compare};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use snn_core::progress;

use super::{Context, synth, train};
use crate::data::Data;
use crate::store::Finished;

/// Synthetic images, and test images beside them, that are compared with all training images.
const IMAGES: usize = 500;

/// Training images that are held as f32 at a time.
const PART: usize = 4_000;

/// Pixels are compared as means of squares of so many by as many.
pub const SIDE: usize = 4;

/// Figures of the stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LikenessFigures {
    /// On the judge's features.
    pub features: Likeness,
    /// On coarse pixels.
    pub pixels: Likeness,
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
    let config = (IMAGES, SIDE);
    ctx.stage(Some(name), "likeness", &config, &upstream, |_, watch| {
        let judge = train::load(ctx, judge)?;
        let (unseen, _) = Data::images(&ctx.data.set.test, IMAGES)?;
        let made = spread_out(&synth::load(ctx, synthetic)?.images)?;
        let mut step = |done, what: &str| progress::report(watch, what, done, 2, "");
        step(0, "comparison on the judge's features")?;
        let of = |images: &Tensor| Features::extract(&judge, images, train::BATCH);
        let features = compare(&of(&made)?, &of(&unseen)?, &training(ctx, of)?)?;
        step(1, "comparison on pixels")?;
        let of = |images: &Tensor| Features::pixels(images, SIDE);
        let pixels = compare(&of(&made)?, &of(&unseen)?, &training(ctx, of)?)?;
        Ok((Vec::new(), LikenessFigures { features, pixels }))
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
fn spread_out(images: &Tensor) -> Result<Tensor> {
    let all = images.dim(0)?;
    let count = all.min(IMAGES);
    let chosen: Vec<u32> = (0..count).map(|i| (i * all / count) as u32).collect();
    let chosen = Tensor::new(chosen, images.device())?;
    Ok(images.index_select(&chosen, 0)?)
}
