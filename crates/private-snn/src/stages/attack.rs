//! Stage 4: pictures of the classes, rebuilt from the networks.

use ann::Ann;
use anyhow::{Context as _, Result};
use attack_eval::Reconstruction;
use attack_eval::attacks::{self, BackConversionConfig, Reading, SpikeGradientConfig};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use snn_core::checkpoint;

use super::{Context, convert};
use crate::experiment::VariantConfig;
use crate::store::Finished;

/// The rebuilt pictures.
pub const PICTURES: &str = "reconstruction.safetensors";
const FORMAT: &str = "reconstruction/2";

/// Settings of all attacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttackConfig {
    /// Pictures per class of A1.
    pub images_per_class: usize,
    /// Pictures per class of A2, which costs up to T times as much; 0 for as many as A1.
    pub spike_images_per_class: usize,
    /// Training images that the pictures are compared with (FID, nearest neighbour); 0 for all.
    pub real_images: usize,
    /// A1: the weights read as a network without time.
    pub back_conversion: BackConversionConfig,
    /// A2: the gradient through the spikes or their rates.
    pub spike_gradient: SpikeGradientConfig,
}

impl Default for AttackConfig {
    fn default() -> Self {
        Self {
            images_per_class: 10,
            spike_images_per_class: 0,
            real_images: 0,
            back_conversion: BackConversionConfig::default(),
            spike_gradient: SpikeGradientConfig::default(),
        }
    }
}

impl AttackConfig {
    /// Checks the settings of each attack.
    ///
    /// # Errors
    /// The first setting outside its domain.
    pub fn check(&self) -> Result<()> {
        self.back_conversion
            .ascent
            .check()
            .context("back_conversion.ascent")?;
        self.spike_gradient.check().context("spike_gradient")
    }
}

/// An attacked network.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// The source network, batch norm folded, from the conversion's folder.
    Ann(&'a Finished),
    /// A spiking network.
    Spiking(&'static str, &'a Finished),
}

impl Target<'_> {
    /// Name in the report.
    pub fn name(&self) -> &'static str {
        match self {
            Target::Ann(_) => "ann",
            Target::Spiking(name, _) => name,
        }
    }

    fn sha256(&self) -> Result<String> {
        match self {
            Target::Ann(finished) => finished.sha256(convert::SOURCE),
            Target::Spiking(_, finished) => finished.sha256(convert::NETWORK),
        }
    }

    /// The network as the back-conversion reads it.
    fn reading(&self, ctx: &Context, reading: Reading) -> Result<Ann> {
        match self {
            Target::Ann(finished) => convert::load_source(ctx, finished),
            Target::Spiking(_, finished) => Ok(reading.of(&convert::load(ctx, finished)?)?),
        }
    }
}

/// One attack on one target.
#[derive(Debug, Clone)]
pub struct Attacked {
    /// `back_conversion` or `spike_gradient`.
    pub attack: &'static str,
    /// `ann`, `converted` or `encrypted`.
    pub target: &'static str,
    /// Number of its iterations.
    pub iterations: usize,
    /// The stage.
    pub finished: Finished,
}

/// Runs each attack on each target, every pair a stage of its own.
pub fn attack(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    targets: &[Target],
) -> Result<Vec<Attacked>> {
    let config = &variant.attack;
    let mut attacked = Vec::new();
    for target in targets {
        attacked.push(back_conversion(ctx, name, config, target)?);
    }
    for target in targets {
        let Target::Spiking(label, finished) = *target else {
            continue;
        };
        attacked.push(spike_gradient(ctx, name, config, (label, finished))?);
    }
    Ok(attacked)
}

/// Runs A2 on one spiking network, given with its name in the report.
pub fn spike_gradient(
    ctx: &Context,
    name: &str,
    config: &AttackConfig,
    (label, network): (&'static str, &Finished),
) -> Result<Attacked> {
    let per_class = match config.spike_images_per_class {
        0 => config.images_per_class,
        own => own,
    };
    pair(
        ctx,
        name,
        "spike_gradient",
        &Target::Spiking(label, network),
        (
            config.spike_gradient.ascent.iterations,
            &(per_class, &config.spike_gradient),
        ),
        |watch| {
            let network = convert::load(ctx, network)?;
            Ok(attacks::spike_gradient::run(
                &network,
                &config.spike_gradient,
                per_class,
                ctx.seed_of("attack"),
                watch,
            )?)
        },
    )
}

/// Runs A1 on one target.
pub fn back_conversion(
    ctx: &Context,
    name: &str,
    config: &AttackConfig,
    target: &Target,
) -> Result<Attacked> {
    let per_class = config.images_per_class;
    pair(
        ctx,
        name,
        "back_conversion",
        target,
        (
            config.back_conversion.ascent.iterations,
            &(per_class, &config.back_conversion),
        ),
        |watch| {
            let reading = target.reading(ctx, config.back_conversion.reading)?;
            Ok(attacks::back_conversion::run(
                &reading,
                &config.back_conversion,
                per_class,
                ctx.seed_of("attack"),
                watch,
            )?)
        },
    )
}

fn pair(
    ctx: &Context,
    variant: &str,
    attack: &'static str,
    target: &Target,
    (iterations, config): (usize, &impl Serialize),
    run: impl FnOnce(&mut snn_core::progress::Watch) -> Result<Reconstruction>,
) -> Result<Attacked> {
    let stage = format!("attack-{attack}-{}", target.name());
    let finished = ctx.stage(
        Some(variant),
        &stage,
        config,
        &[("network", target.sha256()?)],
        |slot, watch| {
            let pictures = run(watch)?;
            save(&slot.path(PICTURES), &pictures)?;
            Ok((
                vec![PICTURES],
                serde_json::json!({"images": pictures.len()}),
            ))
        },
    )?;
    Ok(Attacked {
        attack,
        target: target.name(),
        iterations,
        finished,
    })
}

fn save(path: &std::path::Path, pictures: &Reconstruction) -> Result<()> {
    let confidence = Tensor::new(pictures.confidence.as_slice(), &Device::Cpu)?;
    let guided = Tensor::new(pictures.guided.as_slice(), &Device::Cpu)?;
    let tensors = [
        ("images".to_string(), pictures.images.clone()),
        ("classes".to_string(), pictures.classes.clone()),
        ("confidence".to_string(), confidence),
        ("guided".to_string(), guided),
    ];
    Ok(checkpoint::save(path, &tensors.into(), &FORMAT)?)
}

/// The pictures of a finished attack, on the CPU.
pub fn load(attacked: &Attacked) -> Result<Reconstruction> {
    let path = attacked.finished.path(PICTURES);
    let (mut tensors, format): (_, String) = checkpoint::load(&path, &Device::Cpu)?;
    if format != FORMAT {
        return Err(
            checkpoint::fault(&path, format!("holds a `{format}`, not a `{FORMAT}`")).into(),
        );
    }
    let mut take = |name: &str| {
        tensors
            .remove(name)
            .ok_or_else(|| checkpoint::fault(&path, format!("has no tensor `{name}`")))
    };
    Ok(Reconstruction {
        images: take("images")?,
        classes: take("classes")?,
        confidence: take("confidence")?.to_vec1()?,
        guided: take("guided")?.to_vec1()?,
        iterations: attacked.iterations,
    })
}
