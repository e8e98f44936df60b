//! What conversion did to each layer.

use std::collections::BTreeMap;

use ann::{Ann, Mode};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use snn_core::evaluate::argmax;
use snn_core::network::{self, Batch, State};
use snn_core::progress::{self, Watch};
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, Topology};

use crate::draft::Unit;
use crate::{Error, Result};

/// Spikes of all populations that are held at once, as f32 values: 64 MiB.
const VALUES_AT_ONCE: usize = 1 << 24;

/// A conversion layer by layer, and what it was measured on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversionReport {
    /// Images that activity was measured on; 0 if it was not.
    pub images: usize,
    /// Steps per image.
    pub timesteps: usize,
    /// Share of the images for which source and spiking network choose the same class; none without images.
    pub agreement: Option<f64>,
    /// The populations, from the input on.
    pub layers: Vec<LayerReport>,
}

/// One population. What is measured on images is none without them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Index of the activation layer in the spiking network's topology.
    pub layer: usize,
    /// Its weighted layer's name: `conv1`, `conv2`, ..., `linear1`, ...
    pub name: String,
    /// Number of neurons.
    pub neurons: usize,
    /// Least threshold of the layer's channels, in units of the spiking network's input current.
    pub threshold_min: f64,
    /// Mean threshold.
    pub threshold_mean: f64,
    /// Largest threshold.
    pub threshold_max: f64,
    /// Activation of the source network that one spike per step stands for, mean over channels: what is above is
    /// clipped.
    pub spike_value_mean: f64,
    /// Share of the source network's activations (zeros included) above what one spike per step stands for.
    pub clipped_share: Option<f64>,
    /// Pearson correlation of firing rate times spike value with the source network's activation, over neurons and
    /// images; none also if either is constant.
    pub rate_correlation: Option<f64>,
    /// Step, from 1, by which the population has fired at all for half of the images; none also if it never has.
    pub first_output_step: Option<usize>,
    /// Spikes per neuron and step.
    pub mean_rate: Option<f64>,
}

/// Measures `network`, converted from the batch-norm-free `source`, on `images` `[N, C, H, W]` in [-1, 1].
///
/// Image i draws its coder noise by its index. Memory: both networks' activations of about 64 MiB at a time.
///
/// # Errors
/// No images, images outside [-1, 1], no steps, a source of another topology than the network's.
pub fn report(
    network: &SpikingNetwork,
    source: &Ann,
    images: &Tensor,
    timesteps: usize,
    seed: Seed,
    watch: &mut Watch,
) -> Result<ConversionReport> {
    if source.topology().spiking() != *network.topology() {
        return Err(Error::argument(
            "source",
            "is another network than the one converted; fold its batch norm first",
        ));
    }
    if timesteps == 0 {
        return Err(Error::argument("timesteps", "must be at least 1"));
    }
    check_images(images, network.topology())?;
    let total = images.dim(0)?;
    let device = network.parameters().device();
    let units = spike_values(network)?;
    let first_counted = network.settings().first_counted_step(timesteps);
    let mut activity: BTreeMap<usize, Activity> = BTreeMap::new();
    let mut agreeing = 0;

    let (batch, chunk) = at_once(network.topology(), timesteps);
    for start in (0..total).step_by(batch) {
        let count = batch.min(total - start);
        let pixels = images
            .narrow(0, start, count)?
            .force_contiguous()?
            .to_device(&device)?;
        let ids: Vec<u64> = (start..start + count).map(|i| i as u64).collect();
        let trace = source.trace(&pixels, Mode::Inference)?;
        let batch = Batch {
            images: &pixels,
            ids: &ids,
            seed,
        };
        let mut state = State::default();
        let mut seen: BTreeMap<usize, Seen> = BTreeMap::new();
        let mut readout: Option<Tensor> = None;
        for from in (0..timesteps).step_by(chunk) {
            let steps = chunk.min(timesteps - from);
            let (stretch, next) =
                network.advance(batch, network::Mode::Inference, steps, &state)?;
            for (index, spikes) in &stretch.spikes {
                let seen = seen
                    .entry(*index)
                    .or_insert_with(|| Seen::new(spikes, count));
                seen.add(spikes, from)?;
            }
            let uncounted = first_counted.saturating_sub(from).min(steps);
            if uncounted < steps {
                let counted = stretch.readout.narrow(0, uncounted, steps - uncounted)?;
                let sum = counted.sum(0)?;
                readout = Some(match readout {
                    Some(so_far) => (so_far + sum)?,
                    None => sum,
                });
            }
            state = next;
        }
        for (index, seen) in seen {
            let values: Vec<f32> = trace.activations[&index].flatten_all()?.to_vec1()?;
            let activity = activity.entry(index).or_default();
            activity.add(&values, &seen, &units[&index], timesteps, count);
        }
        if let Some(readout) = readout {
            let (ours, theirs): (Vec<Vec<f32>>, Vec<Vec<f32>>) =
                (readout.to_vec2()?, trace.logits.to_vec2()?);
            agreeing += ours
                .iter()
                .zip(&theirs)
                .filter(|(a, b)| argmax(a).is_some() && argmax(a) == argmax(b))
                .count();
        }
        let done = (start + count) as u64;
        progress::report(watch, "conversion report, image", done, total as u64, "")?;
    }
    let mut report = thresholds_only(network)?;
    report.images = total;
    report.timesteps = timesteps;
    report.agreement = Some(agreeing as f64 / total as f64);
    for layer in &mut report.layers {
        if let Some(activity) = activity.remove(&layer.layer) {
            activity.write(layer, total);
        }
    }
    Ok(report)
}

/// The part of the report that needs no image.
pub(crate) fn thresholds_only(network: &SpikingNetwork) -> Result<ConversionReport> {
    let topology = network.topology();
    let shapes = topology.shapes();
    let units = spike_values(network)?;
    let mut layers = Vec::new();
    for index in topology.activations() {
        let thresholds: Vec<f32> = network.thresholds()[&index].to_vec1()?;
        let thresholds: Vec<f64> = thresholds.into_iter().map(f64::from).collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        layers.push(LayerReport {
            layer: index,
            name: topology.layer_name(index),
            neurons: shapes[index].iter().product(),
            threshold_min: thresholds.iter().copied().fold(f64::INFINITY, f64::min),
            threshold_mean: mean(&thresholds),
            threshold_max: thresholds.iter().copied().fold(0.0, f64::max),
            spike_value_mean: mean(units[&index].values()),
            clipped_share: None,
            rate_correlation: None,
            first_output_step: None,
            mean_rate: None,
        });
    }
    Ok(ConversionReport {
        images: 0,
        timesteps: 0,
        agreement: None,
        layers,
    })
}

/// What one spike of each population stands for, from the thresholds alone: the threshold times the unit of the
/// currents, which is the geometric mean of the spike values before it.
pub(crate) fn spike_values(network: &SpikingNetwork) -> Result<BTreeMap<usize, Unit>> {
    let mut current = 1.0;
    let mut units = BTreeMap::new();
    for (&index, threshold) in network.thresholds() {
        let values: Vec<f32> = threshold.to_vec1()?;
        let values: Vec<f64> = values.into_iter().map(|v| f64::from(v) * current).collect();
        let unit = match values.as_slice() {
            &[value] => Unit::Layer(value),
            _ => Unit::Channel(values),
        };
        current = unit.mean();
        units.insert(index, unit);
    }
    Ok(units)
}

/// Images and steps whose spikes are held at once.
pub(crate) fn at_once(topology: &Topology, timesteps: usize) -> (usize, usize) {
    let image_steps = (VALUES_AT_ONCE / topology.neuron_count().max(1)).max(1);
    let chunk = image_steps.min(16).min(timesteps);
    ((image_steps / chunk).clamp(1, 64), chunk)
}

/// Images that calibration or a report can take: [N, C, H, W] of the topology, N at least 1, in [-1, 1].
pub(crate) fn check_images(images: &Tensor, topology: &Topology) -> Result<()> {
    let [c, h, w] = topology.input();
    match *images.dims() {
        [n, ic, ih, iw] if n > 0 && [ic, ih, iw] == [c, h, w] => {}
        ref dims => {
            return Err(Error::argument(
                "images",
                format!("needs [N, {c}, {h}, {w}] with N at least 1, got {dims:?}"),
            ));
        }
    }
    for image in 0..images.dim(0)? {
        // a view would take its whole storage from the device
        let image_alone = images.get(image)?.force_contiguous()?;
        let values: Vec<f32> = image_alone.flatten_all()?.to_vec1()?;
        if let Some(bad) = values.iter().find(|v| v.is_nan() || v.abs() > 1.0) {
            return Err(Error::argument(
                "images",
                format!("must lie in [-1, 1], image {image} holds {bad}"),
            ));
        }
    }
    Ok(())
}

/// Spikes of one population over one batch.
struct Seen {
    counts: Vec<f32>,
    /// First step with a spike, per image.
    first: Vec<Option<usize>>,
}

impl Seen {
    fn new(spikes: &Tensor, count: usize) -> Self {
        let units = spikes.dims()[1..].iter().product();
        Self {
            counts: vec![0.0; units],
            first: vec![None; count],
        }
    }

    fn add(&mut self, spikes: &Tensor, from: usize) -> Result<()> {
        let values: Vec<f32> = spikes.flatten_all()?.to_vec1()?;
        let units = self.counts.len() / self.first.len();
        for (t, step) in values.chunks_exact(self.counts.len()).enumerate() {
            for (sum, s) in self.counts.iter_mut().zip(step) {
                *sum += s;
            }
            for (first, image) in self.first.iter_mut().zip(step.chunks_exact(units)) {
                if first.is_none() && image.iter().any(|&s| s > 0.0) {
                    *first = Some(from + t + 1);
                }
            }
        }
        Ok(())
    }
}

/// Sums over all images of one population; x is rate times spike value, y the source network's activation.
#[derive(Default)]
struct Activity {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
    rate: f64,
    clipped: f64,
    first: Vec<usize>,
}

/// A staircase ends at its threshold, which it meets only up to rounding.
const ROUNDING: f64 = 1e-5;

impl Activity {
    fn add(
        &mut self,
        activations: &[f32],
        seen: &Seen,
        unit: &Unit,
        timesteps: usize,
        count: usize,
    ) {
        let units = activations.len() / count;
        let per_channel = units / unit.values().len();
        for (i, (&activation, &spikes)) in activations.iter().zip(&seen.counts).enumerate() {
            let value = unit.values()[i % units / per_channel];
            let rate = f64::from(spikes) / timesteps as f64;
            let (x, y) = (rate * value, f64::from(activation));
            self.n += 1.0;
            self.x += x;
            self.y += y;
            self.xx += x * x;
            self.yy += y * y;
            self.xy += x * y;
            self.rate += rate;
            self.clipped += f64::from(u8::from(y > value * (1.0 + ROUNDING)));
        }
        self.first.extend(seen.first.iter().flatten());
    }

    fn write(mut self, layer: &mut LayerReport, images: usize) {
        let covariance = self.xy - self.x * self.y / self.n;
        let spread = (self.xx - self.x * self.x / self.n) * (self.yy - self.y * self.y / self.n);
        layer.rate_correlation = (spread > 0.0).then(|| covariance / spread.sqrt());
        layer.mean_rate = Some(self.rate / self.n);
        layer.clipped_share = Some(self.clipped / self.n);
        self.first.sort_unstable();
        layer.first_output_step = self.first.get(images.div_ceil(2) - 1).copied();
    }
}
