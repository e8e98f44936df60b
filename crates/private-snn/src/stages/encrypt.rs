//! Stage 3: the spiking network's weights are trained on, with spikes in time, on the synthetic images; and what the same
//! training reaches on real ones.

use ::encrypt::{EncryptConfig, EncryptLog, Encryption};
use ann::SyntheticSet;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use snn_core::SpikingNetwork;
use snn_core::progress::Watch;

use super::{Context, convert, synth, train};
use crate::data::Data;
use crate::experiment::VariantConfig;
use crate::store::{Finished, OpenSlot};

const STATE: &str = "state.safetensors";
const LOG: &str = "log.jsonl";

/// Figures of an encryption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncryptionFigures {
    /// One entry per epoch.
    pub history: Vec<EncryptLog>,
}

/// Trains the converted network on the synthetic set.
pub fn encrypt(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    converted: &Finished,
    synthetic: &Finished,
) -> Result<Finished> {
    let upstream = [
        ("snn", converted.sha256(convert::NETWORK)?),
        ("synthetic", synthetic.sha256(synth::SET)?),
    ];
    let config = &variant.encrypt;
    ctx.stage(Some(name), "encrypt", config, &upstream, |slot, watch| {
        let network = convert::load(ctx, converted)?;
        let set = synth::load(ctx, synthetic)?;
        let of = format!("{name}/encrypt");
        train_on(ctx, slot, &of, &network, config, &set, watch)
    })
}

/// The reference: the same training of the network converted with real images, on as many real training images (or all, if
/// there are fewer) with their labels.
pub fn fine_tune(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    trained: &Finished,
    control: &Finished,
) -> Result<Finished> {
    let upstream = [
        ("snn", control.sha256(convert::NETWORK)?),
        ("ann", trained.sha256(train::NETWORK)?),
        ("data", ctx.data.sha256.clone()),
    ];
    let config = &variant.encrypt;
    let settings = (config, variant.synth.count);
    ctx.stage(
        Some(name),
        "fine-tune",
        &settings,
        &upstream,
        |slot, watch| {
            let network = convert::load(ctx, control)?;
            let ann = train::load(ctx, trained)?;
            let (images, labels) = Data::images(&ctx.data.set.train, variant.synth.count)?;
            let targets = ann::loss::one_hot(&labels, ann.topology().classes())?;
            let set = SyntheticSet {
                logits: ann::logits(&ann, &images, train::BATCH)?.to_device(&ctx.device)?,
                soft_targets: targets.to_device(&ctx.device)?,
                images: images.to_device(&ctx.device)?,
                classes: labels.to_device(&ctx.device)?,
                seed: ctx.seed,
            };
            let of = format!("{name}/fine-tune");
            train_on(ctx, slot, &of, &network, config, &set, watch)
        },
    )
}

/// Trains a network on a set, as stage `of`, and writes it.
fn train_on(
    ctx: &Context,
    slot: &OpenSlot,
    of: &str,
    network: &SpikingNetwork,
    config: &EncryptConfig,
    set: &SyntheticSet,
    watch: &mut Watch,
) -> Result<(Vec<&'static str>, EncryptionFigures)> {
    let seed = ctx.seed_of("encrypt");
    let state = slot.path(STATE);
    let mut encryption = if state.exists() {
        let encryption = Encryption::resume(&state, network, config.clone(), seed)?;
        tracing::info!("{of}: goes on after epoch {}", encryption.epochs_done());
        encryption
    } else {
        Encryption::new(network, config.clone(), seed)?
    };
    while !encryption.is_finished() {
        let epoch = encryption.epoch(set, watch)?;
        encryption.save(&state)?;
        slot.checkpointed(ctx.origin);
        tracing::info!(
            "{of}: epoch {}/{}: loss {:.4}",
            epoch.epoch,
            config.epochs,
            epoch.loss
        );
    }
    encryption
        .network()
        .frozen()?
        .save(&slot.path(convert::NETWORK))?;
    train::write_log(&slot.path(LOG), encryption.history())?;
    let figures = EncryptionFigures {
        history: encryption.history().to_vec(),
    };
    Ok((vec![convert::NETWORK, LOG], figures))
}
