//! The order of the stages.

use anyhow::Result;

use super::attack::{Attacked, Target, attack};
use super::evaluate::{Evaluated, evaluate};
use super::measure::{self, Reach, measure};
use super::{Context, convert, encrypt, leakage, likeness, synth, train};
use crate::store::Finished;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// The source network.
    Train,
    /// The synthetic images.
    Synth,
    /// The spiking network.
    Convert,
    /// The encrypted network.
    Encrypt,
    /// The spiking networks on the validation images.
    Validate,
    /// The attacks and their figures.
    Attack,
    /// Everything a report needs.
    Report,
}

/// The finished stages of a run that went all the way.
#[derive(Debug)]
pub struct Outcome {
    /// The judge.
    pub judge: Finished,
    /// The variants in the order of the report.
    pub variants: Vec<(String, VariantOutcome)>,
}

/// The finished stages of one variant.
#[derive(Debug)]
pub struct VariantOutcome {
    /// Source network.
    pub trained: Finished,
    /// Synthetic set.
    pub synthetic: Finished,
    /// Conversion without data.
    pub converted: Finished,
    /// Conversion with real data.
    pub control: Finished,
    /// Encrypted network.
    pub encrypted: Finished,
    /// The control's network trained on with real images.
    pub fine_tuned: Finished,
    /// Accuracy and energy.
    pub evaluation: Finished,
    /// Attacks.
    pub attacked: Vec<Attacked>,
    /// Figures of the attacks.
    pub leakage: Finished,
    /// Synthetic images beside training images.
    pub likeness: Finished,
}

/// Runs the stages up to `goal`; the outcome is there if it was [`Goal::Report`].
///
/// # Errors
/// The first stage that fails; everything finished before stays.
pub fn run(ctx: &Context, goal: Goal) -> Result<Option<Outcome>> {
    let judge = match goal {
        Goal::Attack | Goal::Report => {
            Some(train::train(ctx, None, "judge", &ctx.experiment.judge)?)
        }
        _ => None,
    };
    let mut variants = Vec::new();
    for (name, variant) in ctx.experiment.variants() {
        if goal == Goal::Validate {
            measure::print(name, &measure(ctx, name, variant, Reach::Encrypt)?);
            continue;
        }
        let trained = train::train(ctx, Some(name), "train", &variant.ann)?;
        if goal == Goal::Train {
            continue;
        }
        let synthetic = synth::synth(ctx, name, variant, &trained)?;
        if goal == Goal::Synth {
            continue;
        }
        let converted = convert::convert(ctx, name, variant, &trained, &synthetic)?;
        let control = convert::control(ctx, name, variant, &trained)?;
        if goal == Goal::Convert {
            continue;
        }
        let encrypted = encrypt::encrypt(ctx, name, variant, &converted, &synthetic)?;
        let Some(judge) = &judge else { continue };
        let targets = [
            Target::Ann(&converted),
            Target::Spiking("converted", &converted),
            Target::Spiking("encrypted", &encrypted),
        ];
        let attacked = attack(ctx, name, variant, &targets)?;
        let leakage = leakage::leakage(ctx, name, variant, judge, &converted, &targets, &attacked)?;
        let likeness = likeness::likeness(ctx, name, judge, &synthetic)?;
        if goal == Goal::Attack {
            continue;
        }
        let fine_tuned = encrypt::fine_tune(ctx, name, variant, &trained, &control)?;
        let evaluation = evaluate(
            ctx,
            name,
            variant,
            &Evaluated {
                trained: &trained,
                synthetic: &synthetic,
                converted: &converted,
                control: &control,
                encrypted: &encrypted,
                fine_tuned: &fine_tuned,
                judge,
            },
        )?;
        variants.push((
            name.to_string(),
            VariantOutcome {
                trained,
                synthetic,
                converted,
                control,
                encrypted,
                fine_tuned,
                evaluation,
                attacked,
                leakage,
                likeness,
            },
        ));
    }
    Ok(judge
        .filter(|_| goal == Goal::Report)
        .map(|judge| Outcome { judge, variants }))
}
