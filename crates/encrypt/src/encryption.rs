//! Training in spikes that can be interrupted and resumed without a trace.

use std::collections::BTreeMap;
use std::path::Path;

use ann::loss::one_hot;
use ann::{Optimiser, SyntheticSet, state};
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use snn_core::network::{Batch, Mode};
use snn_core::progress::{Watch, report};
use snn_core::rng::Seed;
use snn_core::{Parameters, SpikingNetwork, SpikingSettings, Topology, bptt, checkpoint, digest};

use crate::drift::{self, LayerDrift};
use crate::loss::encryption_loss;
use crate::{EncryptConfig, Error, Result, Targets};

/// What one epoch gave. Loss, its parts and the agreement are means over the epoch's images as they were seen: with
/// dropout and with weights in motion. Numbers are rounded to 9 digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptLog {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// `(1 - m) ce + m t^2 kl`.
    pub loss: f64,
    /// Cross-entropy with the targets.
    pub ce: f64,
    /// `KL(softmax(z_ann / t) || softmax(z_snn / t))`, without the factor `t^2`.
    pub kl: f64,
    /// Share of synthetic images that the spiking and the source network put into the same class, in [0, 1].
    pub agreement: f64,
    /// How far each weighted layer has moved since the first epoch began.
    pub weight_change: Vec<LayerDrift>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
}

/// An encryption in progress. Weights and biases are trained; thresholds and everything else of the network stay.
#[derive(Debug)]
pub struct Encryption {
    network: SpikingNetwork,
    optimiser: Optimiser,
    config: EncryptConfig,
    seed: Seed,
    start: Parameters,
    start_digest: String,
    set_digest: Option<String>,
    history: Vec<EncryptLog>,
    within_epoch: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    seed: u64,
    topology: Topology,
    settings: SpikingSettings,
    config: EncryptConfig,
    start_sha256: String,
    set_sha256: Option<String>,
    history: Vec<EncryptLog>,
}

const FORMAT: &str = "encryption/1";

impl Encryption {
    /// Starts from `network`, which is copied.
    ///
    /// # Errors
    /// A setting outside its domain.
    pub fn new(network: &SpikingNetwork, config: EncryptConfig, seed: Seed) -> Result<Self> {
        config.check()?;
        let start = network.parameters().frozen()?;
        let start_digest = start_digest(network)?;
        let (network, variables) = network.trainable()?;
        let optimiser = Optimiser::new(config.optimiser, variables)?;
        Ok(Self {
            network,
            optimiser,
            config,
            seed,
            start,
            start_digest,
            set_digest: None,
            history: Vec::new(),
            within_epoch: false,
        })
    }

    /// Goes on with the encryption of `start` that [`Encryption::save`] wrote to `path`: the result is the same, bit for
    /// bit, as without the interruption.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another kind; another start, other settings or another seed than the file's
    /// (the message names the field). Another synthetic set is found by [`Encryption::epoch`].
    pub fn resume(
        path: &Path,
        start: &SpikingNetwork,
        config: EncryptConfig,
        seed: Seed,
    ) -> Result<Self> {
        let mut encryption = Self::new(start, config, seed)?;
        let device = start.parameters().device();
        let (mut tensors, description): (_, Description) = checkpoint::load(path, &device)?;
        let fault = |message: String| Error::from(checkpoint::fault(path, message));
        if description.format != FORMAT {
            let message = format!("holds a `{}`, not a `{FORMAT}`", description.format);
            return Err(fault(message));
        }
        state::require_same(path, "topology", &description.topology, start.topology())?;
        state::require_same(path, "settings", &description.settings, start.settings())?;
        state::require_same(path, "config", &description.config, &encryption.config)?;
        state::require_same(path, "seed", &description.seed, &seed.value())?;
        state::require_same(
            path,
            "start_sha256",
            &description.start_sha256,
            &encryption.start_digest,
        )?;
        let parameters = Parameters::new(start.topology(), state::take(&mut tensors, "network"))
            .map_err(|e| fault(e.to_string()))?;
        let (network, variables) = start.clone().with_parameters(parameters)?.trainable()?;
        encryption.optimiser = Optimiser::new(encryption.config.optimiser, variables)?;
        encryption
            .optimiser
            .restore(state::take(&mut tensors, "optimiser"))
            .map_err(|e| fault(e.to_string()))?;
        if let Some(name) = tensors.keys().next() {
            let message = format!("tensor `{name}` does not belong to an encryption");
            return Err(fault(message));
        }
        encryption.network = network;
        encryption.set_digest = description.set_sha256;
        encryption.history = description.history;
        Ok(encryption)
    }

    /// Writes weights, moments, epoch, settings and log to one file, whole or not at all.
    ///
    /// # Errors
    /// After an epoch that did not end (its state cannot be resumed); whatever the file system answers.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.between_epochs()?;
        let mut tensors = BTreeMap::new();
        let weights = self.network.parameters().tensors().clone();
        state::put(&mut tensors, "network", weights);
        state::put(&mut tensors, "optimiser", self.optimiser.state()?);
        let description = Description {
            format: FORMAT.into(),
            seed: self.seed.value(),
            topology: self.network.topology().clone(),
            settings: *self.network.settings(),
            config: self.config.clone(),
            start_sha256: self.start_digest.clone(),
            set_sha256: self.set_digest.clone(),
            history: self.history.clone(),
        };
        Ok(checkpoint::save(path, &tensors, &description)?)
    }

    /// Whether every epoch is done.
    pub fn is_finished(&self) -> bool {
        self.history.len() >= self.config.epochs
    }

    /// Epochs done.
    pub fn epochs_done(&self) -> usize {
        self.history.len()
    }

    /// The log of each epoch done, those before a resumption included.
    pub fn history(&self) -> &[EncryptLog] {
        &self.history
    }

    /// The settings.
    pub fn config(&self) -> &EncryptConfig {
        &self.config
    }

    /// The network in training; later epochs change it. [`SpikingNetwork::frozen`] makes a copy that stays.
    pub fn network(&self) -> &SpikingNetwork {
        &self.network
    }

    /// One pass over the set in random order: backpropagation through time over all T steps, one step of the optimiser
    /// per batch. The last batch may be smaller. Tells `watch` of every batch.
    ///
    /// Order, coder noise and dropout depend on (seed, epoch, image) alone.
    ///
    /// # Errors
    /// A set that does not fit the network, or is another than in the epochs before; [`Error::Diverged`] when the loss or
    /// the weights leave the finite numbers; `Interrupted` when `watch` stops the work. After the last two the encryption
    /// is of no further use: resume from the file saved last.
    pub fn epoch(&mut self, set: &SyntheticSet, watch: &mut Watch) -> Result<EncryptLog> {
        self.between_epochs()?;
        if self.is_finished() {
            let message = format!("all {} epochs are done", self.config.epochs);
            return Err(Error::argument("epoch", message));
        }
        self.check_set(set)?;
        self.within_epoch = true;
        let log = self.steps(set, watch)?;
        self.history.push(log.clone());
        self.within_epoch = false;
        Ok(log)
    }

    fn between_epochs(&self) -> Result<()> {
        if self.within_epoch {
            let message = "the last epoch did not end; resume from the file saved before it";
            return Err(Error::argument("encryption", message));
        }
        Ok(())
    }

    fn check_set(&mut self, set: &SyntheticSet) -> Result<()> {
        set.check()?;
        let (input, classes) = (
            self.network.topology().input(),
            self.network.topology().classes(),
        );
        if set.images.dims()[1..] != input || set.logits.dims()[1] != classes {
            let message = format!(
                "its images {:?} of {} classes do not fit a network for {input:?} and {classes} classes",
                &set.images.dims()[1..],
                set.logits.dims()[1]
            );
            return Err(Error::argument("set", message));
        }
        let found = digest::of([
            ("images", &set.images),
            ("targets", &self.targets(set)?),
            ("logits", &set.logits),
        ])?;
        match &self.set_digest {
            Some(expected) if *expected != found => Err(Error::argument(
                "set",
                "is another one than in the epochs before; give the former one, or start again",
            )),
            _ => {
                self.set_digest = Some(found);
                Ok(())
            }
        }
    }

    /// What the cross-entropy compares with, `[N, K]`.
    fn targets(&self, set: &SyntheticSet) -> Result<Tensor> {
        Ok(match self.config.targets {
            Targets::Soft => set.soft_targets.clone(),
            Targets::Class => one_hot(&set.classes, self.network.topology().classes())?
                .to_device(set.soft_targets.device())?,
        })
    }

    fn steps(&mut self, set: &SyntheticSet, watch: &mut Watch) -> Result<EncryptLog> {
        let done = self.history.len() as u64;
        let epoch = self.history.len() + 1;
        let order = self
            .seed
            .derive("shuffle")
            .index(done)
            .stream()
            .permutation(set.len());
        let spikes = self.seed.derive("spikes").index(done);
        let batches: Vec<&[u32]> = order.chunks(self.config.batch).collect();
        let unit = format!("epoch {epoch}/{}, batch", self.config.epochs);
        let (count, epochs) = (batches.len() as u64, self.config.epochs as u64);
        let targets = self.targets(set)?;
        let mut sums = Sums::default();
        let mut learning_rate = 0.0;
        for (step, batch) in batches.iter().enumerate() {
            let diverged = |loss| Error::Diverged {
                epoch,
                step: step + 1,
                loss,
            };
            let (gradients, of_batch) = self.gradients(set, &targets, batch, spikes)?;
            if !of_batch.loss.is_finite() {
                return Err(diverged(of_batch.loss));
            }
            sums.add(&of_batch);
            let factor = self
                .config
                .schedule
                .at_step(done * count + step as u64, epochs * count);
            learning_rate = self.config.learning_rate * factor;
            self.optimiser.step(&gradients, learning_rate)?;
            if step + 1 == batches.len() {
                // the loss tells of the weights before the step; these are the ones that would be kept
                let weights = self.network.parameters().detached();
                Parameters::new(self.network.topology(), weights.tensors().clone())
                    .map_err(|_| diverged(f64::NAN))?;
            }
            let note = format!(
                "loss {:.4}, agreement {:.3}",
                sums.mean(sums.loss),
                sums.mean(sums.same)
            );
            report(watch, unit.as_str(), step as u64 + 1, count, note)?;
        }
        let mut weight_change = drift::by_layer(
            self.network.topology(),
            &self.start,
            self.network.parameters(),
        )?;
        for change in &mut weight_change {
            change.relative = rounded(change.relative);
        }
        Ok(EncryptLog {
            epoch,
            loss: rounded(sums.mean(sums.loss)),
            ce: rounded(sums.mean(sums.ce)),
            kl: rounded(sums.mean(sums.kl)),
            agreement: rounded(sums.mean(sums.same)),
            weight_change,
            learning_rate: rounded(learning_rate),
        })
    }

    /// Gradients of a batch's mean loss, summed over its pieces in order, and the batch's figures.
    fn gradients(
        &self,
        set: &SyntheticSet,
        targets: &Tensor,
        rows: &[u32],
        seed: Seed,
    ) -> Result<(BTreeMap<String, Tensor>, Sums)> {
        let device = self.network.parameters().device();
        let mut gradients: BTreeMap<String, Tensor> = BTreeMap::new();
        let mut sums = Sums::default();
        for piece in rows.chunks(self.config.micro_batch.unwrap_or(rows.len())) {
            let index = Tensor::new(piece, set.images.device())?;
            let gather = |tensor: &Tensor| tensor.index_select(&index, 0)?.to_device(&device);
            let images = gather(&set.images)?;
            let targets = gather(targets)?;
            let teacher = gather(&set.logits)?;
            let ids: Vec<u64> = piece.iter().map(|&row| u64::from(row)).collect();
            let batch = Batch {
                images: &images,
                ids: &ids,
                seed,
            };
            let (mode, timesteps) = (Mode::Training, self.config.timesteps);
            let options = bptt::Options::default();
            let pass = bptt::forward(&self.network, batch, mode, timesteps, &options)?;
            let logits = Var::from_tensor(pass.logits())?;
            let loss = encryption_loss(&logits, &targets, &teacher, &self.config)?;
            let share = piece.len() as f64 / rows.len() as f64;
            let weighted = match piece.len() == rows.len() {
                true => loss.total.clone(),
                false => (&loss.total * share)?,
            };
            let g_logits = weighted.backward()?.remove(&logits).ok_or_else(|| {
                Error::argument("loss", "does not depend on the logits of the network")
            })?;
            for (name, gradient) in pass.backward(&g_logits)?.parameters {
                let sum = match gradients.remove(&name) {
                    Some(before) => (before + gradient)?,
                    None => gradient,
                };
                gradients.insert(name, sum);
            }
            let n = piece.len() as f64;
            let scalar = |t: &Tensor| -> Result<f64> { Ok(f64::from(t.to_scalar::<f32>()?) * n) };
            sums.add(&Sums {
                images: n,
                loss: scalar(&loss.total)?,
                ce: scalar(&loss.cross_entropy)?,
                kl: scalar(&loss.divergence)?,
                same: same_class(&logits, &teacher)?,
            });
        }
        Ok((gradients, sums))
    }
}

/// Sums over images.
#[derive(Default)]
struct Sums {
    images: f64,
    loss: f64,
    ce: f64,
    kl: f64,
    same: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.images += other.images;
        self.loss += other.loss;
        self.ce += other.ce;
        self.kl += other.kl;
        self.same += other.same;
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.images
    }
}

/// Nine significant digits: few enough that JSON gives back the same number, so that the state of a resumed training has
/// the same bytes.
fn rounded(value: f64) -> f64 {
    format!("{value:.8e}").parse().unwrap_or(value)
}

/// Number of rows with the largest entry at the same place.
fn same_class(a: &Tensor, b: &Tensor) -> Result<f64> {
    let rows = |t: &Tensor| t.detach().to_device(&Device::Cpu)?.to_vec2::<f32>();
    let (a, b) = (rows(a)?, rows(b)?);
    let same = a.iter().zip(&b).filter(|(a, b)| {
        let class = ann::loss::argmax(a);
        class.is_some() && class == ann::loss::argmax(b)
    });
    Ok(same.count() as f64)
}

/// Fingerprint of the weights and thresholds that an encryption starts from.
fn start_digest(network: &SpikingNetwork) -> Result<String> {
    let names: BTreeMap<String, &Tensor> = network
        .thresholds()
        .iter()
        .map(|(index, threshold)| (format!("{index}.threshold"), threshold))
        .collect();
    let weights = network.parameters().detached();
    Ok(digest::of(
        weights
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .chain(names.iter().map(|(name, tensor)| (name.as_str(), *tensor))),
    )?)
}
