//! Accuracy against T and spike counts of a spiking network, from one pass over the images.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use crate::engine::Engine;
use crate::network::{Batch, SpikingNetwork};
use crate::progress::{self, Watch};
use crate::rng::Seed;
use crate::topology::Topology;
use crate::{Error, Result};

/// Spikes of all populations that are held at once by default, as f32 values: 64 MiB.
const VALUES_AT_ONCE: usize = 1 << 24;
/// The same on a CUDA device, which small batches leave idle: 1 GiB.
const VALUES_AT_ONCE_ON_CUDA: usize = 1 << 28;

/// How [`evaluate`] goes through the images. The result depends on the seed alone.
#[derive(Debug, Clone, Copy)]
pub struct EvaluateOptions {
    /// Images at a time.
    pub batch: usize,
    /// Steps at a time; memory grows with `batch * chunk`, not with T.
    pub chunk: usize,
    /// Seed of the coder noise; image i draws from it by its index i.
    pub seed: Seed,
}

impl EvaluateOptions {
    /// Batch and chunk such that the spikes held at once take about 64 MiB.
    pub fn for_topology(topology: &Topology, seed: Seed) -> Self {
        Self::with_values(VALUES_AT_ONCE, topology, seed)
    }

    /// The same for the device that the network is on: on CUDA about 1 GiB.
    pub fn for_device(topology: &Topology, device: &Device, seed: Seed) -> Self {
        let values = match device {
            Device::Cuda(_) => VALUES_AT_ONCE_ON_CUDA,
            _ => VALUES_AT_ONCE,
        };
        Self::with_values(values, topology, seed)
    }

    fn with_values(values: usize, topology: &Topology, seed: Seed) -> Self {
        let per_step = topology.neuron_count() + topology.input().iter().product::<usize>();
        let image_steps = (values / per_step).max(1);
        let chunk = image_steps.min(16);
        Self {
            batch: (image_steps / chunk).clamp(1, 128),
            chunk,
            seed,
        }
    }
}

/// What a spiking network did on a set of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Number of images.
    pub samples: usize,
    /// Steps of the whole window, the last of the windows asked for.
    pub timesteps: usize,
    /// Accuracy in 0..1 after each window asked for, as (T, accuracy).
    pub accuracy_by_t: Vec<(usize, f64)>,
    /// Spikes of each neuron (`C * H * W`, row-major), summed over images and the whole window; by layer index.
    pub spikes: BTreeMap<usize, Vec<f64>>,
    /// Spikes of each input pixel, either sign, summed likewise; none if the input is analog.
    pub input_events: Option<Vec<f64>>,
}

impl Evaluation {
    /// Accuracy in 0..1 after the whole window.
    pub fn accuracy(&self) -> f64 {
        self.accuracy_by_t
            .last()
            .map_or(0.0, |&(_, accuracy)| accuracy)
    }
}

/// Runs `images` `[N, C, H, W]` f32 in [-1, 1] through the network for the longest of `windows` (ascending) and judges
/// every window on the way against `labels` `[N]` u32. Of equal logits the first counts; a row with NaN is wrong. The network runs on
/// its [`Engine`].
///
/// # Errors
/// No images, images of another shape or outside [-1, 1], labels that are too few or beyond the classes, windows that
/// do not ascend from at least 1, a batch or chunk of zero; [`Error::Interrupted`] if the watcher says so.
pub fn evaluate(
    network: &SpikingNetwork,
    images: &Tensor,
    labels: &Tensor,
    windows: &[usize],
    options: EvaluateOptions,
    watch: &mut Watch,
) -> Result<Evaluation> {
    let timesteps = check_windows(windows)?;
    if options.batch == 0 || options.chunk == 0 {
        return Err(Error::argument(
            "options",
            format!(
                "batch and chunk must be at least 1, got {} and {}",
                options.batch, options.chunk
            ),
        ));
    }
    let samples = images.dims().first().copied().unwrap_or(0);
    if samples == 0 {
        return Err(Error::argument("images", "there is none to evaluate"));
    }
    let labels = check_labels(labels, samples, network.topology().classes())?;
    let device = network.parameters().device();
    let engine = Engine::of(network);

    let mut correct = vec![0usize; windows.len()];
    let mut spikes: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let mut input_events: Option<Vec<f64>> = None;
    for start in (0..samples).step_by(options.batch) {
        let count = options.batch.min(samples - start);
        // a view would take its whole storage to the device
        let batch = images.narrow(0, start, count)?.force_contiguous()?;
        check_range(&batch, start)?;
        let ids: Vec<u64> = (start..start + count).map(|i| i as u64).collect();
        let batch = Batch {
            images: &batch.to_device(&device)?,
            ids: &ids,
            seed: options.seed,
        };
        let run = engine.run(batch, timesteps, options.chunk)?;
        for (correct, &window) in correct.iter_mut().zip(windows) {
            let rows: Vec<Vec<f32>> = run.logits.get(window - 1)?.to_vec2()?;
            *correct += rows
                .iter()
                .zip(&labels[start..])
                .filter(|(row, label)| argmax(row) == Some(**label as usize))
                .count();
        }
        for (index, counts) in &run.spikes {
            let units = counts.elem_count() / count;
            add_rows(
                spikes.entry(*index).or_insert_with(|| vec![0.0; units]),
                counts,
            )?;
        }
        if let Some(counts) = &run.input_events {
            let units = counts.elem_count() / count;
            add_rows(input_events.get_or_insert_with(|| vec![0.0; units]), counts)?;
        }
        let done = start + count;
        let accuracy = correct[windows.len() - 1] as f64 / done as f64;
        progress::report(
            watch,
            "image",
            done as u64,
            samples as u64,
            format!("accuracy {accuracy:.4}"),
        )?;
    }
    Ok(Evaluation {
        samples,
        timesteps,
        accuracy_by_t: windows
            .iter()
            .zip(correct)
            .map(|(&window, correct)| (window, correct as f64 / samples as f64))
            .collect(),
        spikes,
        input_events,
    })
}

/// Position of the largest entry, the first of equals; `None` for an empty row or one with NaN.
pub fn argmax(row: &[f32]) -> Option<usize> {
    if row.iter().any(|v| v.is_nan()) {
        return None;
    }
    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best })
}

fn check_windows(windows: &[usize]) -> Result<usize> {
    match windows {
        [first, .., last] | [first @ last] if *first > 0 && windows.is_sorted_by(|a, b| a < b) => {
            Ok(*last)
        }
        _ => Err(Error::argument(
            "windows",
            format!("must be numbers of steps in ascending order, from 1 on, got {windows:?}"),
        )),
    }
}

fn check_labels(labels: &Tensor, samples: usize, classes: usize) -> Result<Vec<u32>> {
    if labels.dims() != [samples] {
        return Err(Error::argument(
            "labels",
            format!(
                "needs [{samples}] to go with the images, got {:?}",
                labels.dims()
            ),
        ));
    }
    let labels: Vec<u32> = labels.to_vec1()?;
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(i) => Err(Error::argument(
            "labels",
            format!(
                "label {} of image {i} is not below the {classes} classes of the network",
                labels[i]
            ),
        )),
        None => Ok(labels),
    }
}

/// Checks that f32 `images` `[N, C, H, W]` lie in [-1, 1]; the first of them is number `start` in the message.
///
/// # Errors
/// A value outside, or NaN, with its image.
pub fn check_range(images: &Tensor, start: usize) -> Result<()> {
    let pixels = (images.elem_count() / images.dim(0)?.max(1)).max(1);
    let values: Vec<f32> = images.flatten_all()?.to_vec1()?;
    match values.iter().position(|v| v.is_nan() || v.abs() > 1.0) {
        Some(i) => Err(Error::argument(
            "images",
            format!(
                "must lie in [-1, 1], image {} holds {}",
                start + i / pixels,
                values[i]
            ),
        )),
        None => Ok(()),
    }
}

/// Adds the rows of `counts` `[N, ...]` to `total`; whole numbers, so that the order does not matter.
fn add_rows(total: &mut [f64], counts: &Tensor) -> Result<()> {
    // whole numbers, exact in f32: a device adds up the images of a batch itself
    let counts = match counts.device().is_cpu() {
        true => counts.clone(),
        false => counts.sum_keepdim(0)?,
    };
    let values: Vec<f32> = counts.flatten_all()?.to_vec1()?;
    for row in values.chunks_exact(total.len()) {
        for (sum, &count) in total.iter_mut().zip(row) {
            *sum += f64::from(count);
        }
    }
    Ok(())
}
