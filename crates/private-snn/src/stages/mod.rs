//! The stages of an experiment, from the data set to what leaks.

pub mod attack;
mod convert;
mod encrypt;
mod evaluate;
mod leakage;
mod likeness;
mod measure;
mod pipeline;
mod synth;
mod train;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use candle_core::Device;
use serde::Serialize;
use serde_json::Value;
use snn_core::progress::{Flow, Progress};
use snn_core::rng::Seed;

use crate::data::Data;
use crate::experiment::Experiment;
use crate::progress::Console;
use crate::provenance::Origin;
use crate::store::{Finished, Inputs, OpenSlot, Slot, Store};

pub use convert::ConversionFigures;
pub use encrypt::EncryptionFigures;
pub use evaluate::{EvaluationFigures, WindowAccuracy};
pub use leakage::LeakageFigures;
pub use likeness::{Compared, LikenessFigures};
pub use measure::{Measures, Reach, Rebuilt, measure};
pub use pipeline::{Goal, Outcome, VariantOutcome, run};
pub use synth::{SynthFigures, load_synthetic};
pub use train::TrainFigures;
pub use validate::{
    EnergyGain, ValidatedNetwork, ValidatedReading, ValidatedSource, images as validation_images,
};

/// A number that is raised when a stage's code changes its results beyond rounding: what older versions finished is then
/// computed again, and nothing else.
fn format(stage: &str) -> u32 {
    match stage {
        "convert" | "convert-real" => 6,
        "likeness" => 7,
        "leakage" => 6,
        attack if attack.starts_with("attack-") || attack.starts_with("score-") => 6,
        _ => 5,
    }
}

/// Everything that a stage works with.
#[derive(Debug)]
pub struct Context<'a> {
    /// The checked experiment.
    pub experiment: &'a Experiment,
    /// The data set.
    pub data: &'a Data,
    /// Where results are kept.
    pub store: Store,
    /// The run's seed.
    pub seed: u64,
    /// Where to compute.
    pub device: Device,
    /// What stages computed now come from.
    pub origin: &'a Origin,
    /// Whom to tell.
    pub console: &'a Console,
    /// Whether stages that are not finished are computed, or an error.
    pub compute: bool,
}

impl Context<'_> {
    /// The seed of a stage.
    fn seed_of(&self, stage: &str) -> Seed {
        Seed::new(self.seed).derive(stage)
    }

    /// The finished stage: found, or computed by `work`, which returns the names of the artefacts it has written and its
    /// figures.
    fn stage<C: Serialize, F: Serialize>(
        &self,
        variant: Option<&str>,
        stage: &str,
        config: &C,
        upstream: &[(&str, String)],
        work: impl FnOnce(
            &OpenSlot,
            &mut dyn FnMut(&Progress) -> Flow,
        ) -> Result<(Vec<&'static str>, F)>,
    ) -> Result<Finished> {
        let inputs = Inputs {
            stage: stage.into(),
            format: format(stage),
            config: serde_json::to_value(config)?,
            seed: self.seed,
            device: crate::device::name(&self.device).into(),
            upstream: upstream
                .iter()
                .map(|(name, sum)| (name.to_string(), sum.clone()))
                .collect::<BTreeMap<_, _>>(),
        };
        let name =
            variant.map_or_else(|| stage.to_string(), |variant| format!("{variant}/{stage}"));
        if !self.compute {
            let found = self.store.find(variant, &inputs)?;
            return match found {
                Some(finished) => Ok(finished),
                None => bail!(
                    "stage {name} is not finished (looked for {}): run `reproduce {}` with the same options first",
                    self.store.folder(variant, &inputs)?.display(),
                    self.experiment.name
                ),
            };
        }
        match self.store.open(variant, inputs)? {
            Slot::Finished(finished) => {
                tracing::info!("{name}: done before, kept ({})", finished.folder.display());
                Ok(finished)
            }
            Slot::Open(slot) => {
                if self.console.stopped() {
                    return Err(snn_core::Error::Interrupted.into());
                }
                tracing::info!("{name}: starts");
                let mut task = self.console.task(&name);
                let (artefacts, figures) = work(&slot, &mut |progress| task.see(progress))?;
                drop(task);
                let finished =
                    slot.finish(&artefacts, serde_json::to_value(figures)?, self.origin)?;
                tracing::info!("{name}: done in {:.1} s", finished.record.wall_seconds);
                Ok(finished)
            }
        }
    }
}

/// An error with the stage's name must not hide that it is an interruption.
pub fn is_interruption(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.to_string() == snn_core::Error::Interrupted.to_string())
}

/// That a synthesis, a training or an ascent left the finite numbers, or that no threshold could be had of what there is, in
/// words; none if the error is another.
pub fn divergence(error: &anyhow::Error) -> Option<String> {
    let diverged = error.chain().find(|cause| {
        use ::convert::Error::Threshold as OfConversion;
        use ::encrypt::Error::Diverged as OfEncryption;
        use ::synth::Error::NotFinite as OfSynthesis;
        use ann::Error::{Diverged as OfTraining, Threshold};
        use attack_eval::Error::Diverged as OfAttack;
        matches!(
            cause.downcast_ref(),
            Some(OfTraining { .. } | Threshold { .. })
        ) || matches!(cause.downcast_ref(), Some(OfSynthesis { .. }))
            || matches!(cause.downcast_ref(), Some(OfConversion { .. }))
            || matches!(cause.downcast_ref(), Some(OfEncryption { .. }))
            || matches!(cause.downcast_ref(), Some(OfAttack { .. }))
    });
    diverged.map(|cause| cause.to_string())
}

/// A number for JSON: none where it is not finite.
pub fn finite(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_threshold_is_a_divergence() {
        let lost = ann::Error::Threshold {
            epoch: 2,
            step: 3,
            layer: 4,
            threshold: -0.5,
        };
        let error = anyhow::Error::from(lost).context("stage train");
        let said = divergence(&error).expect("a divergence");
        assert!(said.contains("layer 4 became -0.5"), "{said}");
        let lost = ::convert::Error::Threshold {
            index: 4,
            message: "is silent".into(),
        };
        let said = divergence(&lost.into()).expect("a divergence");
        assert_eq!(said, "layer 4 (activation): is silent");
        assert!(divergence(&anyhow::anyhow!("no such file")).is_none());
    }
}
