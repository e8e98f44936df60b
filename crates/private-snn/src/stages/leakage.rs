//! What the attacks found, measured by the independent judge; and what the weights give away before any attack.

use anyhow::Result;
use attack_eval::{AttackOutcome, Scorer, report};
use serde::{Deserialize, Serialize};
use snn_core::progress;

use super::attack::{self, Attacked, Target};
use super::{Context, convert, train};
use crate::data::Data;
use crate::experiment::VariantConfig;
use crate::store::Finished;

/// How spiking networks are read: part of what the stages compute.
pub const READINGS: [&str; 2] = ["relu", "rates"];

/// Figures of the stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeakageFigures {
    /// One entry per spiking network.
    pub leakage: Vec<report::Leakage>,
    /// One entry per attack and target.
    pub attacks: Vec<AttackOutcome>,
}

/// Scores every attack and reads every spiking network as one without time.
pub fn leakage(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    judge: &Finished,
    converted: &Finished,
    targets: &[Target],
    attacked: &[Attacked],
) -> Result<Finished> {
    let mut upstream = vec![
        ("judge".to_string(), judge.sha256(train::NETWORK)?),
        ("data".to_string(), ctx.data.sha256.clone()),
        ("source".to_string(), converted.sha256(convert::SOURCE)?),
    ];
    for target in targets {
        if let Target::Spiking(target, finished) = target {
            upstream.push((
                format!("network {target}"),
                finished.sha256(convert::NETWORK)?,
            ));
        }
    }
    for one in attacked {
        upstream.push((
            format!("{} on {}", one.attack, one.target),
            one.finished.sha256(attack::PICTURES)?,
        ));
    }
    let upstream: Vec<(&str, String)> = upstream
        .iter()
        .map(|(name, sum)| (name.as_str(), sum.clone()))
        .collect();
    ctx.stage(
        Some(name),
        "leakage",
        &(variant.attack.real_images, READINGS),
        &upstream,
        |_, watch| {
            let total = (attacked.len() + targets.len() + 1) as u64;
            let mut done = 0;
            let mut step = |what: &str| {
                progress::report(watch, what, done, total, "")?;
                done += 1;
                anyhow::Ok(())
            };
            step("features of real images")?;
            let scorer = scorer(ctx, variant, judge)?;
            let mut attacks = Vec::new();
            for one in attacked {
                step("attack")?;
                attacks.push(scorer.score(one.attack, one.target, &attack::load(one)?)?);
            }
            let source = convert::load_source(ctx, converted)?;
            let (test, test_labels) = Data::images(&ctx.data.set.test, 0)?;
            let mut leakage = Vec::new();
            for target in targets {
                let Target::Spiking(name, network) = target else {
                    continue;
                };
                step("reading")?;
                leakage.push(report::leakage(
                    name,
                    &source,
                    &convert::load(ctx, network)?,
                    &test,
                    &test_labels,
                    train::BATCH,
                )?);
            }
            Ok((Vec::new(), LeakageFigures { leakage, attacks }))
        },
    )
}

/// Scores one attack alone.
pub fn score(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    judge: &Finished,
    attacked: &Attacked,
) -> Result<AttackOutcome> {
    let upstream = [
        ("judge", judge.sha256(train::NETWORK)?),
        ("data", ctx.data.sha256.clone()),
        ("pictures", attacked.finished.sha256(attack::PICTURES)?),
    ];
    let stage = format!("score-{}-{}", attacked.attack, attacked.target);
    let config = &variant.attack.real_images;
    let stage = ctx.stage(Some(name), &stage, config, &upstream, |_, _| {
        let pictures = attack::load(attacked)?;
        let scorer = scorer(ctx, variant, judge)?;
        let outcome = scorer.score(attacked.attack, attacked.target, &pictures)?;
        Ok((Vec::new(), outcome))
    })?;
    stage.figures()
}

/// The judge with the real training images that pictures are compared with.
fn scorer(ctx: &Context, variant: &VariantConfig, judge: &Finished) -> Result<Scorer> {
    let (real, labels) = Data::images(&ctx.data.set.train, variant.attack.real_images)?;
    let judge = train::load(ctx, judge)?;
    Ok(Scorer::new(
        &judge,
        &real,
        &labels,
        train::BATCH,
        ctx.seed_of("leakage"),
    )?)
}
