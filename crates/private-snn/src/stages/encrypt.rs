//! Stage 3: the spiking network's weights are trained on, with spikes in time, on the synthetic images.

use ::encrypt::{EncryptLog, Encryption};
use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Context, convert, synth, train};
use crate::experiment::VariantConfig;
use crate::store::Finished;

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
        let seed = ctx.seed_of("encrypt");
        let state = slot.path(STATE);
        let mut encryption = if state.exists() {
            let encryption = Encryption::resume(&state, &network, config.clone(), seed)?;
            tracing::info!(
                "{name}/encrypt: goes on after epoch {}",
                encryption.epochs_done()
            );
            encryption
        } else {
            Encryption::new(&network, config.clone(), seed)?
        };
        while !encryption.is_finished() {
            let epoch = encryption.epoch(&set, watch)?;
            encryption.save(&state)?;
            slot.checkpointed();
            tracing::info!(
                "{name}/encrypt: epoch {}/{}: loss {:.4}",
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
    })
}
