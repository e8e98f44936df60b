//! Training of a classifier on the real images: the source network, or the judge.

use ann::{Ann, EpochLog, Trainer, log};
use anyhow::{Context as _, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Context;
use crate::experiment::ClassifierConfig;
use crate::store::Finished;

/// The trained network.
pub const NETWORK: &str = "ann.safetensors";
const STATE: &str = "state.safetensors";
const LOG: &str = "log.jsonl";
/// Images at a time at inference.
pub const BATCH: usize = 250;

/// Figures of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainFigures {
    /// The architecture's name.
    pub architecture: String,
    /// Share of the test images classified rightly.
    pub test_accuracy: f64,
    /// The same of each class; none for a class without test images.
    pub test_accuracy_by_class: Vec<Option<f64>>,
    /// Trained numbers.
    pub parameters: usize,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// One entry per epoch.
    pub history: Vec<EpochLog>,
}

/// Trains the classifier of `config` as stage `stage`.
pub fn train(
    ctx: &Context,
    variant: Option<&str>,
    stage: &str,
    config: &ClassifierConfig,
) -> Result<Finished> {
    let upstream = [("data", ctx.data.sha256.clone())];
    let name = variant.map_or_else(|| stage.to_string(), |variant| format!("{variant}/{stage}"));
    ctx.stage(variant, stage, config, &upstream, |slot, watch| {
        let set = &ctx.data.set;
        let topology = ctx.experiment.topology(&config.network)?;
        let seed = ctx.seed_of(stage);
        let state = slot.path(STATE);
        let mut trainer = if state.exists() {
            let trainer = Trainer::resume(
                &state,
                &topology,
                config.training.clone(),
                seed,
                &ctx.device,
            )?;
            tracing::info!("{name}: goes on after epoch {}", trainer.epochs_done());
            trainer
        } else {
            let ann = Ann::initialise(topology, seed.derive("initial weights"), &ctx.device)?;
            Trainer::new(&ann, config.training.clone(), seed)?
        };
        let validation = set
            .validation
            .as_ref()
            .map(|split| (&split.images, &split.labels));
        while !trainer.is_finished() {
            let epoch = trainer.epoch(&set.train.images, &set.train.labels, validation, watch)?;
            trainer.save(&state)?;
            slot.checkpointed(ctx.origin);
            tracing::info!(
                "{name}: epoch {}/{}: loss {:.4}, accuracy {:.4}, validation {}",
                epoch.epoch,
                config.training.epochs,
                epoch.loss,
                epoch.train_accuracy,
                epoch
                    .validation_accuracy
                    .map_or("none".into(), |share| format!("{share:.4}"))
            );
        }
        let ann = trainer.ann().frozen()?;
        ann.save(&slot.path(NETWORK))?;
        write_log(&slot.path(LOG), trainer.history())?;
        let logits = ann::logits(&ann, &set.test.images, BATCH)?;
        let figures = TrainFigures {
            architecture: describe(&ann),
            test_accuracy: ann::loss::accuracy(&logits, &set.test.labels)?,
            test_accuracy_by_class: by_class(&logits, &set.test.labels, set.classes())?,
            parameters: ann.topology().parameter_count(),
            macs: ann.topology().macs(),
            history: trainer.history().to_vec(),
        };
        Ok((vec![NETWORK, LOG], figures))
    })
}

/// Lines of JSON, written anew: an interrupted process may have left a part.
pub fn write_log<T: Serialize>(path: &std::path::Path, history: &[T]) -> Result<()> {
    if path.exists() {
        std::fs::remove_file(path).with_context(|| path.display().to_string())?;
    }
    for entry in history {
        log::append(path, entry)?;
    }
    Ok(())
}

/// Name and channels: `vgg5 32-64-64`.
fn describe(ann: &Ann) -> String {
    let widths: Vec<String> = ann
        .topology()
        .layers()
        .iter()
        .filter_map(|layer| match layer {
            snn_core::Layer::Conv2d { out_channels, .. } => Some(out_channels.to_string()),
            snn_core::Layer::Linear { out_features, .. } => Some(out_features.to_string()),
            _ => None,
        })
        .collect();
    format!("{} {}", ann.topology().name(), widths.join("-"))
}

/// Accuracy of each class; none for a class without images.
fn by_class(logits: &Tensor, labels: &Tensor, classes: usize) -> Result<Vec<Option<f64>>> {
    let rows: Vec<Vec<f32>> = logits.to_vec2()?;
    let labels: Vec<u32> = labels.to_vec1()?;
    let mut counts = vec![(0usize, 0usize); classes];
    for (row, label) in rows.iter().zip(labels) {
        let Some((right, all)) = counts.get_mut(label as usize) else {
            continue;
        };
        *all += 1;
        *right += usize::from(ann::loss::argmax(row) == Some(label as usize));
    }
    Ok(counts
        .into_iter()
        .map(|(right, all)| (all > 0).then(|| right as f64 / all as f64))
        .collect())
}

/// The network of a finished training.
pub fn load(ctx: &Context, finished: &Finished) -> Result<Ann> {
    Ok(Ann::load(&finished.path(NETWORK), &ctx.device)?)
}
