//! Supervised training that can be interrupted and resumed without a trace.
//!
//! Every random number is keyed by the seed and its place (epoch, step, image), so the state between epochs is the
//! weights, the running statistics, the moments and two counts. The weights after the last epoch are the result: none
//! of the checkpoints before it is picked by its validation accuracy.

mod config;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use snn_core::ops::batch_norm::BatchStatistics;
use snn_core::progress::{self, Watch};
use snn_core::rng::Seed;
use snn_core::{Layer, Parameters, Topology, checkpoint};

use crate::activity::Slope;
use crate::augment::{Source, with_pixels};
use crate::pass::Pass;
use crate::{Activity, Ann, Error, Mode, Optimiser, Result, evaluate, loss, state};

pub use config::TrainConfig;

/// What one epoch gave; numbers are rounded to 9 digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochLog {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean cross-entropy over the epoch's images, as they were seen (augmented, with dropout, weights in motion).
    pub loss: f64,
    /// Mean activity over them ([`Activity`]), where it has a weight in the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<f64>,
    /// Share of the epoch's images classified rightly as they were seen, in [0, 1].
    pub train_accuracy: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Share of the validation images classified rightly after the epoch, if there are any.
    pub validation_accuracy: Option<f64>,
}

/// A training in progress.
#[derive(Debug)]
pub struct Trainer {
    ann: Ann,
    optimiser: Optimiser,
    activity: Option<Activity>,
    config: TrainConfig,
    seed: Seed,
    history: Vec<EpochLog>,
    within_epoch: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    seed: u64,
    topology: Topology,
    config: TrainConfig,
    history: Vec<EpochLog>,
}

const FORMAT: &str = "training/1";

impl Trainer {
    /// Starts a training of `ann`, which is copied.
    ///
    /// # Errors
    /// A setting outside its domain; batches of one image where there is batch norm.
    pub fn new(ann: &Ann, config: TrainConfig, seed: Seed) -> Result<Self> {
        config.check()?;
        config.augment.check(ann.topology().input())?;
        if config.batch == 1 && has_batch_norm(ann.topology()) {
            let message = "batch norm needs batches of at least 2 images, got 1";
            return Err(Error::argument("batch", message));
        }
        let activity = match config.activity_penalty {
            0.0 => None,
            _ => Some(Activity::of(ann.topology())?),
        };
        let (ann, variables) = ann.trainable()?;
        let optimiser = Optimiser::new(config.optimiser, variables)?;
        Ok(Self {
            ann,
            optimiser,
            activity,
            config,
            seed,
            history: Vec::new(),
            within_epoch: false,
        })
    }

    /// Goes on with the training that [`Trainer::save`] wrote to `path`: the result is the same, bit for bit, as
    /// without the interruption.
    ///
    /// # Errors
    /// A file that is missing, damaged or of another kind; other settings, seed or topology than the file's (the
    /// message names the field).
    pub fn resume(
        path: &Path,
        topology: &Topology,
        config: TrainConfig,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let (mut tensors, description): (_, Description) = checkpoint::load(path, device)?;
        let fault = |message: String| Error::from(checkpoint::fault(path, message));
        if description.format != FORMAT {
            return Err(fault(format!(
                "holds a `{}`, not a `{FORMAT}`",
                description.format
            )));
        }
        state::require_same(path, "topology", &description.topology, topology)?;
        state::require_same(path, "config", &description.config, &config)?;
        state::require_same(path, "seed", &description.seed, &seed.value())?;
        let named = |e: Error| fault(e.to_string());
        let parameters = Parameters::new(topology, state::take(&mut tensors, "network"))
            .map_err(|e| named(e.into()))?;
        let mut trainer = Self::new(&Ann::new(topology.clone(), parameters), config, seed)?;
        trainer
            .optimiser
            .restore(state::take(&mut tensors, "optimiser"))
            .map_err(named)?;
        if let Some(name) = tensors.keys().next() {
            return Err(fault(format!(
                "tensor `{name}` does not belong to a training"
            )));
        }
        trainer.history = description.history;
        Ok(trainer)
    }

    /// Writes weights, running statistics, moments, epoch, settings and log to one file, whole or not at all.
    ///
    /// # Errors
    /// After an epoch that did not end (its state cannot be resumed); whatever the file system answers.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.between_epochs()?;
        let mut tensors = BTreeMap::new();
        state::put(
            &mut tensors,
            "network",
            self.ann.parameters().tensors().clone(),
        );
        state::put(&mut tensors, "optimiser", self.optimiser.state()?);
        let description = Description {
            format: FORMAT.into(),
            seed: self.seed.value(),
            topology: self.ann.topology().clone(),
            config: self.config.clone(),
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
    pub fn history(&self) -> &[EpochLog] {
        &self.history
    }

    /// The settings.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The network in training; later epochs change it. [`Ann::frozen`] makes a copy that stays.
    pub fn ann(&self) -> &Ann {
        &self.ann
    }

    /// One pass over `images` u8 `[N, C, H, W]` with `labels` u32 `[N]` in a random order, then the accuracy on
    /// `validation` (images u8 or f32, labels), if any. Tells `watch` of every batch, with the mean loss so far.
    ///
    /// The last batch may be smaller. A last batch of one image is left out where there is batch norm, which cannot
    /// tell a mean from it.
    ///
    /// # Errors
    /// Images or labels that do not fit the network; [`Error::Diverged`] when the loss or the weights leave the finite
    /// numbers, [`Error::Threshold`] when a trained threshold is no longer positive and finite; `Interrupted` when `watch`
    /// stops the work. After any of these the trainer is of no further use: resume from the file saved last.
    pub fn epoch(
        &mut self,
        images: &Tensor,
        labels: &Tensor,
        validation: Option<(&Tensor, &Tensor)>,
        watch: &mut Watch,
    ) -> Result<EpochLog> {
        self.between_epochs()?;
        if self.is_finished() {
            return Err(Error::argument(
                "epoch",
                format!("all {} epochs are done", self.config.epochs),
            ));
        }
        let labels = self.check_data(images, labels)?;
        if let Some((images, labels)) = validation {
            // now, not after an epoch of work
            self.check_validation(images, labels)?;
        }
        self.within_epoch = true;
        let epoch = self.epochs_done() + 1;
        let label = format!("epoch {epoch}/{}", self.config.epochs);
        let device = self.ann.parameters().device();
        let augment = self.config.augment;
        let seen = with_pixels(images, |pixels, shape| {
            let source = Source::new(pixels, shape, &augment, &device)?;
            self.steps(&source, &labels, epoch, &label, watch)
        })?;
        let validation_accuracy = match validation {
            Some((images, labels)) => {
                let unit = format!("{label}, validation image");
                let logits = evaluate::watched(&self.ann, images, self.config.batch, &unit, watch)?;
                Some(loss::accuracy(&logits, labels)?)
            }
            None => None,
        };
        let log = EpochLog {
            epoch,
            loss: rounded(seen.loss),
            activity: seen.activity.map(rounded),
            train_accuracy: rounded(seen.accuracy),
            learning_rate: rounded(seen.learning_rate),
            validation_accuracy: validation_accuracy.map(rounded),
        };
        self.history.push(log.clone());
        self.within_epoch = false;
        Ok(log)
    }

    fn between_epochs(&self) -> Result<()> {
        if self.within_epoch {
            let message = "the last epoch did not end; resume from the file saved before it";
            return Err(Error::argument("trainer", message));
        }
        Ok(())
    }

    fn check_data(&self, images: &Tensor, labels: &Tensor) -> Result<Vec<u32>> {
        let topology = self.ann.topology();
        let n = check_images("images", images, topology.input(), &[DType::U8])?;
        let labels = check_labels("labels", labels, n, topology.classes())?;
        if n == 1 && has_batch_norm(topology) {
            return Err(Error::argument(
                "images",
                "batch norm needs at least 2 images",
            ));
        }
        Ok(labels)
    }

    fn check_validation(&self, images: &Tensor, labels: &Tensor) -> Result<()> {
        let topology = self.ann.topology();
        let (name, types) = ("validation images", [DType::U8, DType::F32]);
        let n = check_images(name, images, topology.input(), &types)?;
        check_labels("validation labels", labels, n, topology.classes())?;
        Ok(())
    }

    /// All steps of an epoch.
    fn steps(
        &mut self,
        source: &Source,
        labels: &[u32],
        epoch: usize,
        label: &str,
        watch: &mut Watch,
    ) -> Result<Seen> {
        let place = epoch as u64 - 1;
        let order = self
            .seed
            .derive("shuffle")
            .index(place)
            .stream()
            .permutation(labels.len());
        let (augment_seed, dropout_seed) = (
            self.seed.derive("augment").index(place),
            self.seed.derive("dropout").index(place),
        );
        let mut batches: Vec<&[u32]> = order.chunks(self.config.batch).collect();
        if has_batch_norm(self.ann.topology()) {
            batches.retain(|batch| batch.len() > 1);
        }
        let unit = format!("{label}, batch");
        let (mut seen, mut total_loss, mut correct, mut learning_rate) = (0, 0.0, 0, 0.0);
        let mut total_activity = 0.0;
        for (step, batch) in batches.iter().enumerate() {
            let ids: Vec<u64> = batch.iter().map(|&row| u64::from(row)).collect();
            let input = source.batch(&self.config.augment, batch, &ids, augment_seed)?;
            let batch_labels: Vec<u32> = batch.iter().map(|&row| labels[row as usize]).collect();
            let batch_labels = Tensor::from_vec(batch_labels, batch.len(), &Device::Cpu)?;

            let mode = Mode::Training {
                seed: dropout_seed,
                ids: &ids,
            };
            let ann = self.ann.detached();
            let pass = Pass::forward(&ann, &input, mode)?;
            let logits = Var::from_tensor(pass.logits()?)?;
            let smoothing = self.config.label_smoothing;
            let loss = loss::cross_entropy(logits.as_tensor(), &batch_labels, smoothing)?;
            let value = f64::from(loss.to_scalar::<f32>()?);
            let diverged = |loss| Error::Diverged {
                epoch,
                step: step + 1,
                loss,
            };
            if !value.is_finite() {
                return Err(diverged(value));
            }
            let mut slopes = BTreeMap::new();
            if let Some(activity) = &self.activity {
                let (activity, by_layer) =
                    activity.measure(|layer| pass.output(layer), ann.parameters())?;
                total_activity += activity * batch.len() as f64;
                let weighted = |slope: Slope| slope.times(self.config.activity_penalty);
                slopes = by_layer
                    .into_iter()
                    .map(|(l, s)| (l, weighted(s)))
                    .collect();
            }
            let mut of_logits = loss.backward()?;
            let of_logits = of_logits
                .remove(logits.as_tensor())
                .ok_or_else(|| Error::argument("loss", "does not look at the class scores"))?;
            let statistics = pass.statistics().clone();
            let gradients = pass.parameter_gradients(of_logits, &slopes)?;
            let steps = batches.len() as u64;
            let progress = (
                place * steps + step as u64,
                self.config.epochs as u64 * steps,
            );
            learning_rate =
                self.config.learning_rate * self.config.schedule.at_step(progress.0, progress.1);
            let scale = match self.config.gradient_clip {
                Some(limit) => self.optimiser.clip_scale(&gradients, limit)?,
                None => 1.0,
            };
            self.optimiser
                .step_scaled(&gradients, learning_rate, scale)?;
            self.check_thresholds(epoch, step + 1)?;
            self.update_running_statistics(&statistics, batch.len())?;

            correct += loss::correct(&logits.to_device(&Device::Cpu)?, &batch_labels)?;
            seen += batch.len();
            total_loss += value * batch.len() as f64;
            let note = format!("loss {:.4}", total_loss / seen as f64);
            progress::report(
                watch,
                unit.as_str(),
                step as u64 + 1,
                batches.len() as u64,
                note,
            )?;
            if step + 1 == batches.len() {
                // the loss tells of the weights before the step; these are the ones that would be kept
                Parameters::new(
                    self.ann.topology(),
                    self.ann.detached().parameters().tensors().clone(),
                )
                .map_err(|_| diverged(f64::NAN))?;
            }
        }
        let seen = seen as f64;
        Ok(Seen {
            loss: total_loss / seen,
            activity: self.activity.as_ref().map(|_| total_activity / seen),
            accuracy: correct as f64 / seen,
            learning_rate,
        })
    }

    /// Refuses trained thresholds that a step left not positive and finite.
    fn check_thresholds(&self, epoch: usize, step: usize) -> Result<()> {
        let parameters = self.ann.parameters();
        let activations = self.ann.topology().activations().into_iter();
        let (layers, thresholds): (Vec<usize>, Vec<&Tensor>) = activations
            .filter_map(|layer| Some((layer, parameters.get(layer, "threshold")?)))
            .unzip();
        if layers.is_empty() {
            return Ok(());
        }
        // from a device at once
        let thresholds: Vec<f32> = Tensor::cat(&thresholds, 0)?.to_vec1()?;
        let mut all = layers.into_iter().zip(thresholds);
        match all.find(|(_, threshold)| !(threshold.is_finite() && *threshold > 0.0)) {
            Some((layer, threshold)) => Err(Error::Threshold {
                epoch,
                step,
                layer,
                threshold,
            }),
            None => Ok(()),
        }
    }

    /// `running = (1 - momentum) running + momentum batch`, with the unbiased variance of the batch.
    fn update_running_statistics(
        &mut self,
        of_batch: &BTreeMap<usize, BatchStatistics>,
        n: usize,
    ) -> Result<()> {
        let momentum = self.config.batch_norm_momentum;
        let shapes = self.ann.topology().shapes();
        for (&layer, statistics) in of_batch {
            let count = (n * shapes[layer][1..].iter().product::<usize>()) as f64;
            let unbiased = count / (count - 1.0).max(1.0);
            for (name, batch, factor) in [
                ("running_mean", &statistics.mean, momentum),
                ("running_var", &statistics.variance, momentum * unbiased),
            ] {
                let parameters = self.ann.parameters_mut();
                let running = parameters.get(layer, name).ok_or_else(|| {
                    Error::argument("batch_norm", format!("layer {layer} has no `{name}`"))
                })?;
                let updated = ((running * (1.0 - momentum))? + (batch * factor)?)?;
                parameters.replace(layer, name, updated)?;
            }
        }
        Ok(())
    }
}

/// What the steps of an epoch gave; see [`EpochLog`].
struct Seen {
    loss: f64,
    activity: Option<f64>,
    accuracy: f64,
    learning_rate: f64,
}

fn has_batch_norm(topology: &Topology) -> bool {
    let is_norm = |layer: &Layer| matches!(layer, Layer::BatchNorm { .. });
    topology.layers().iter().any(is_norm)
}

/// Checks type and shape of images and gives their number.
fn check_images(
    name: &'static str,
    images: &Tensor,
    [c, h, w]: [usize; 3],
    types: &[DType],
) -> Result<usize> {
    match *images.dims() {
        [n, ic, ih, iw]
            if n > 0 && [ic, ih, iw] == [c, h, w] && types.contains(&images.dtype()) =>
        {
            Ok(n)
        }
        ref dims => {
            let types: Vec<&str> = types.iter().map(DType::as_str).collect();
            let message = format!(
                "needs {} [N, {c}, {h}, {w}], N at least 1, got {:?} {dims:?}",
                types.join(" or "),
                images.dtype()
            );
            Err(Error::argument(name, message))
        }
    }
}

/// Checks type, shape and range of the labels of `n` images and gives them.
fn check_labels(name: &'static str, labels: &Tensor, n: usize, classes: usize) -> Result<Vec<u32>> {
    if labels.dims() != [n] || labels.dtype() != DType::U32 {
        let message = format!(
            "needs u32 [{n}], got {:?} {:?}",
            labels.dtype(),
            labels.dims()
        );
        return Err(Error::argument(name, message));
    }
    let labels: Vec<u32> = labels.to_vec1()?;
    if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
        let message = format!(
            "label {} of image {row} is not below {classes}",
            labels[row]
        );
        return Err(Error::argument(name, message));
    }
    Ok(labels)
}

/// Nine significant digits: enough to read, and few enough that JSON gives back the same number, so that the state of a
/// resumed training has the same bytes.
fn rounded(value: f64) -> f64 {
    format!("{value:.8e}").parse().unwrap_or(value)
}
