//! Stage 1: synthetic images from the source network alone.

use ann::{Ann, SyntheticSet};
use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Context, train};
use crate::experiment::VariantConfig;
use crate::store::Finished;

/// The synthetic set.
pub const SET: &str = "synthetic.safetensors";

/// Figures of a synthesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SynthFigures {
    /// Number of images.
    pub count: usize,
    /// Share of images whose class for the source network is their target's largest entry.
    pub target_agreement: f64,
}

/// Makes the set in shards of one batch, each a file: an interrupted synthesis goes on at the next shard.
pub fn synth(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    trained: &Finished,
) -> Result<Finished> {
    let upstream = [("ann", trained.sha256(train::NETWORK)?)];
    let config = &variant.synth;
    ctx.stage(Some(name), "synth", config, &upstream, |slot, watch| {
        let ann: Ann = train::load(ctx, trained)?;
        let mut shards = Vec::new();
        for (number, start) in (0..config.count).step_by(config.batch).enumerate() {
            let range = start..config.count.min(start + config.batch);
            let path = slot.path(&format!("shard-{number:05}.safetensors"));
            if path.exists() {
                shards.push(SyntheticSet::load(&path, &ctx.device)?);
                continue;
            }
            let shard = ::synth::synthesise(
                &ann,
                config,
                ctx.seed_of("synth"),
                range.clone(),
                &mut |progress| {
                    // one bar over all shards
                    let mut whole = progress.clone();
                    let share = progress.done as f64 / progress.total.max(1) as f64;
                    whole.unit = "image".into();
                    whole.done = (range.start as f64 + share * range.len() as f64) as u64;
                    whole.total = config.count as u64;
                    watch(&whole)
                },
            )?;
            shard.save(&path)?;
            slot.checkpointed();
            shards.push(shard);
        }
        let set = SyntheticSet::concat(&shards)?;
        set.save(&slot.path(SET))?;
        let figures = SynthFigures {
            count: set.len(),
            target_agreement: ::synth::agreement(&set)?,
        };
        Ok((vec![SET], figures))
    })
}

/// The set of a finished synthesis.
pub fn load(ctx: &Context, finished: &Finished) -> Result<SyntheticSet> {
    Ok(SyntheticSet::load(&finished.path(SET), &ctx.device)?)
}

/// The set of a variant's outcome, on the CPU.
pub fn load_synthetic(outcome: &super::VariantOutcome) -> Result<SyntheticSet> {
    Ok(SyntheticSet::load(
        &outcome.synthetic.path(SET),
        &candle_core::Device::Cpu,
    )?)
}
