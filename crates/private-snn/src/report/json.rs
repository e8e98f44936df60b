//! `report.json`.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::experiment::VariantConfig;
use crate::provenance::Provenance;
use crate::stages::{
    Context, ConversionFigures, EncryptionFigures, EvaluationFigures, LeakageFigures,
    LikenessFigures, Outcome, SynthFigures, TrainFigures, VariantOutcome,
};
use crate::store::{Finished, Record};

/// What a report says besides figures.
#[derive(Debug, Clone)]
pub struct About<'a> {
    /// Name of the profile.
    pub profile: &'a str,
    /// What is smaller than in the paper.
    pub scaled_down: &'a [String],
    /// The device, in words.
    pub device: &'a str,
    /// Where the result comes from.
    pub provenance: Provenance,
}

/// The report of a run. Accuracies and shares are in 0..1. The headline variant's figures are at the top level; every
/// variant's are under `variants`.
///
/// # Errors
/// Figures of a record that are not those of its stage.
pub fn build(ctx: &Context, outcome: &Outcome, about: &About) -> Result<Value> {
    let judge: TrainFigures = outcome.judge.figures()?;
    let mut variants = Map::new();
    for ((name, stages), (_, config)) in outcome.variants.iter().zip(ctx.experiment.variants()) {
        variants.insert(name.clone(), variant(config, stages)?);
    }
    let mut report = Map::new();
    for (key, value) in [
        ("experiment", json!(ctx.experiment.name)),
        ("title", json!(ctx.experiment.title)),
        ("dataset", json!(ctx.experiment.dataset)),
        ("profile", json!(about.profile)),
        ("seed", json!(ctx.seed)),
        ("device", json!(about.device)),
        ("headline", json!(ctx.experiment.headline)),
        ("test_images", json!(ctx.data.set.test.len())),
        ("provenance", serde_json::to_value(&about.provenance)?),
        (
            "judge",
            json!({"architecture": judge.architecture, "test_accuracy": judge.test_accuracy}),
        ),
    ] {
        report.insert(key.into(), value);
    }
    if let Some(Value::Object(headline)) = variants.get(&ctx.experiment.headline) {
        report.extend(
            headline
                .iter()
                .filter(|(key, _)| *key != "title")
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    report.insert("variants".into(), Value::Object(variants));
    report.insert("scaled_down".into(), json!(about.scaled_down));
    report.insert("settings".into(), serde_json::to_value(&**ctx.experiment)?);
    Ok(Value::Object(report))
}

fn variant(config: &VariantConfig, stages: &VariantOutcome) -> Result<Value> {
    let trained: TrainFigures = stages.trained.figures()?;
    let synthetic: SynthFigures = stages.synthetic.figures()?;
    let converted: ConversionFigures = stages.converted.figures()?;
    let control: ConversionFigures = stages.control.figures()?;
    let encrypted: EncryptionFigures = stages.encrypted.figures()?;
    let fine_tuned: EncryptionFigures = stages.fine_tuned.figures()?;
    let evaluation: EvaluationFigures = stages.evaluation.figures()?;
    let leakage: LeakageFigures = stages.leakage.figures()?;
    let likeness: LikenessFigures = stages.likeness.figures()?;
    let worst = trained
        .test_accuracy_by_class
        .iter()
        .flatten()
        .copied()
        .reduce(f64::min);
    let drop = evaluation.ann_accuracy - evaluation.encrypted.test_accuracy;
    let energy = evaluation.encrypted.energy.clone();
    let mut attacks = serde_json::to_value(&leakage.attacks)?;
    for attack in attacks.as_array_mut().into_iter().flatten() {
        // positions in the training set: for the stage's record only
        attack
            .as_object_mut()
            .and_then(|attack| attack.remove("nearest_indices"));
    }
    let seconds: Map<String, Value> = all(stages)
        .into_iter()
        .map(|(name, stage)| (name, json!(stage.record.wall_seconds)))
        .collect();
    Ok(json!({
        "title": config.title,
        "ann": with(&trained, json!({"worst_class_accuracy": worst}))?,
        "synthetic": {
            "count": synthetic.count,
            "judge_agreement": evaluation.judge_agreement,
            "target_agreement": synthetic.target_agreement,
            "likeness": likeness,
        },
        "converted": with(&evaluation.converted, layers(&converted))?,
        "converted_with_real_data": with(
            &evaluation.converted_with_real_data,
            layers(&control),
        )?,
        "encrypted": with(&evaluation.encrypted, json!({"drop_vs_ann": drop, "history": encrypted.history}))?,
        "fine_tuned": with(&evaluation.fine_tuned, json!({"history": fine_tuned.history}))?,
        "evaluated_images": evaluation.images,
        "ann_accuracy_on_evaluated_images": evaluation.ann_accuracy,
        "leakage": leakage.leakage,
        "attacks": attacks,
        "energy": energy,
        "stage_seconds": seconds,
    }))
}

fn layers(of: &ConversionFigures) -> Value {
    json!({"thresholds": of.thresholds, "measured": of.measured, "layers": of.layers})
}

fn with(figures: &impl serde::Serialize, more: Value) -> Result<Value> {
    let mut value = serde_json::to_value(figures)?;
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    Ok(value)
}

fn all(stages: &VariantOutcome) -> Vec<(String, &Finished)> {
    let fixed = [
        ("train", &stages.trained),
        ("synth", &stages.synthetic),
        ("convert", &stages.converted),
        ("convert-real", &stages.control),
        ("encrypt", &stages.encrypted),
        ("fine-tune", &stages.fine_tuned),
        ("evaluate", &stages.evaluation),
        ("leakage", &stages.leakage),
        ("likeness", &stages.likeness),
    ];
    let attacks = stages.attacked.iter().map(|one| {
        (
            format!("attack-{}-{}", one.attack, one.target),
            &one.finished,
        )
    });
    fixed
        .into_iter()
        .map(|(name, stage)| (name.to_string(), stage))
        .chain(attacks)
        .collect()
}

/// The records of all stages of a run.
pub fn records(outcome: &Outcome) -> Vec<&Record> {
    let variants = outcome.variants.iter().flat_map(|(_, stages)| all(stages));
    std::iter::once(&outcome.judge.record)
        .chain(variants.map(|(_, stage)| &stage.record))
        .collect()
}
