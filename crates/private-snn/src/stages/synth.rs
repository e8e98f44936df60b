//! Stage 1: synthetic images from the source network alone.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ::synth::{Generator, SynthConfig};
use ann::{Ann, SyntheticSet};
use anyhow::{Context as _, Result, bail};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use snn_core::progress::{Flow, Progress, Watch};
use snn_core::rng::Seed;

use super::{Context, train};
use crate::experiment::VariantConfig;
use crate::store::{Finished, OpenSlot};

/// The synthetic set.
pub const SET: &str = "synthetic.safetensors";

/// What a generator has learned so far.
const GENERATOR: &str = "generator.safetensors";

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
        let shards = match config.generator {
            None => by_pixels(ctx, slot, &ann, config, watch)?,
            Some(_) => by_generator(ctx, slot, &ann, config, watch)?,
        };
        let set = SyntheticSet::concat(&shards)?;
        set.save(&slot.path(SET))?;
        let figures = SynthFigures {
            count: set.len(),
            target_agreement: ::synth::agreement(&set)?,
        };
        Ok((vec![SET], figures))
    })
}

/// The file of the shard that starts at image `start`.
fn shard(slot: &OpenSlot, config: &SynthConfig, start: usize) -> PathBuf {
    slot.path(&format!("shard-{:05}.safetensors", start / config.batch))
}

/// The images of the shard that starts at image `start`.
fn images(config: &SynthConfig, start: usize) -> Range<usize> {
    start..config.count.min(start + config.batch)
}

/// The shard of images `range` that was made before.
fn kept(path: &Path, seed: Seed, range: &Range<usize>) -> Result<SyntheticSet> {
    let set = SyntheticSet::load(path, &Device::Cpu)?;
    if set.len() != range.len() || set.seed != seed.value() {
        bail!(
            "{}: holds {} images of seed {}, where images {} to {} of seed {} should be; delete it to have it made again",
            path.display(),
            set.len(),
            set.seed,
            range.start,
            range.end - 1,
            seed.value()
        );
    }
    Ok(set)
}

/// Tells `watch` of images `range` as part of the whole set.
fn part_of_all<'a>(
    config: &SynthConfig,
    range: Range<usize>,
    watch: &'a mut Watch,
) -> impl FnMut(&Progress) -> Flow + 'a {
    let total = config.count as u64;
    move |progress| {
        let mut whole = progress.clone();
        let share = progress.done as f64 / progress.total.max(1) as f64;
        whole.unit = "image".into();
        whole.done = (range.start as f64 + share * range.len() as f64) as u64;
        whole.total = total;
        watch(&whole)
    }
}

fn by_pixels(
    ctx: &Context,
    slot: &OpenSlot,
    ann: &Ann,
    config: &SynthConfig,
    watch: &mut Watch,
) -> Result<Vec<SyntheticSet>> {
    let mut shards = Vec::new();
    for start in (0..config.count).step_by(config.batch) {
        let range = images(config, start);
        let path = shard(slot, config, start);
        let seed = ctx.seed_of("synth");
        if path.exists() {
            shards.push(kept(&path, seed, &range)?);
            continue;
        }
        let mut watch = part_of_all(config, range.clone(), watch);
        let set = ::synth::synthesise(ann, config, seed, range, &mut watch)?;
        set.save(&path)?;
        slot.checkpointed(ctx.origin);
        shards.push(set);
    }
    Ok(shards)
}

/// What the generator has learned is written after its images, so that images that were written twice are the same.
fn by_generator(
    ctx: &Context,
    slot: &OpenSlot,
    ann: &Ann,
    config: &SynthConfig,
    watch: &mut Watch,
) -> Result<Vec<SyntheticSet>> {
    let (seed, path) = (ctx.seed_of("synth"), slot.path(GENERATOR));
    let mut generator = match path.exists() {
        true => Generator::resume(&path, ann, config, seed)?,
        false => Generator::new(ann, config, seed)?,
    };
    let mut shards: Vec<SyntheticSet> = (0..generator.made())
        .step_by(config.batch)
        .map(|start| {
            kept(&shard(slot, config, start), seed, &images(config, start)).with_context(|| {
                format!(
                    "the generator in {} was trained beyond it; delete both to have all images made again",
                    path.display()
                )
            })
        })
        .collect::<Result<_>>()?;
    while generator.made() < config.count {
        let start = generator.made();
        let mut watch = part_of_all(config, images(config, start), watch);
        let set = generator.next_batch(ann, &mut watch)?;
        set.save(&shard(slot, config, start))?;
        generator.save(&path)?;
        slot.checkpointed(ctx.origin);
        shards.push(set);
    }
    Ok(shards)
}

/// The set of a finished synthesis.
pub fn load(ctx: &Context, finished: &Finished) -> Result<SyntheticSet> {
    Ok(SyntheticSet::load(&finished.path(SET), &ctx.device)?)
}

/// The set of a variant's outcome, on the CPU.
pub fn load_synthetic(outcome: &super::VariantOutcome) -> Result<SyntheticSet> {
    Ok(SyntheticSet::load(
        &outcome.synthetic.path(SET),
        &Device::Cpu,
    )?)
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;

    #[test]
    fn a_shard_of_other_images_is_not_taken_for_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-00001.safetensors");
        let seed = Seed::new(3);
        let set = SyntheticSet {
            images: Tensor::zeros((2, 1, 4, 4), candle_core::DType::F32, &Device::Cpu).unwrap(),
            soft_targets: Tensor::full(0.5f32, (2, 2), &Device::Cpu).unwrap(),
            logits: Tensor::zeros((2, 2), candle_core::DType::F32, &Device::Cpu).unwrap(),
            classes: Tensor::new(&[0u32, 1], &Device::Cpu).unwrap(),
            seed: seed.value(),
        };
        set.save(&path).unwrap();
        assert_eq!(kept(&path, seed, &(2..4)).unwrap().len(), 2);
        for (seed, range) in [(seed, 2..5), (Seed::new(4), 2..4)] {
            let message = kept(&path, seed, &range).unwrap_err().to_string();
            assert!(
                message.contains("shard-00001") && message.contains("delete it"),
                "{message}"
            );
        }
    }
}
