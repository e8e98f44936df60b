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

/// Figures of the stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeakageFigures {
    /// One entry per spiking network.
    pub leakage: Vec<report::Leakage>,
    /// One entry per attack and target.
    pub attacks: Vec<AttackOutcome>,
}

/// Scores every attack and reads every spiking network as a ReLU network.
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
        &variant.attack.real_images,
        &upstream,
        |_, watch| {
            let set = &ctx.data.set;
            let total = (attacked.len() + targets.len() + 1) as u64;
            let mut done = 0;
            let mut step = |what: &str| {
                progress::report(watch, what, done, total, "")?;
                done += 1;
                anyhow::Ok(())
            };
            let judge = train::load(ctx, judge)?;
            let (real, labels) = Data::images(&set.train, variant.attack.real_images)?;
            step("features of real images")?;
            let scorer = Scorer::new(&judge, &real, &labels, train::BATCH, ctx.seed_of("leakage"))?;
            let mut attacks = Vec::new();
            for one in attacked {
                step("attack")?;
                attacks.push(scorer.score(
                    one.attack,
                    one.target,
                    &attack::load(&one.finished)?,
                )?);
            }
            let source = convert::load_source(ctx, converted)?;
            let (test, test_labels) = Data::images(&set.test, 0)?;
            let mut leakage = Vec::new();
            for target in targets
                .iter()
                .filter(|target| matches!(target, Target::Spiking(..)))
            {
                step("reading")?;
                let reading = target.reading(ctx)?;
                leakage.push(report::leakage(
                    target.name(),
                    &source,
                    &reading,
                    &test,
                    &test_labels,
                    train::BATCH,
                )?);
            }
            Ok((Vec::new(), LeakageFigures { leakage, attacks }))
        },
    )
}
