//! Accuracy against T, spikes and energy of the spiking networks, on the test images.

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use snn_core::encode::Encoder;
use snn_core::energy::{self, Energy, LayerEnergy};
use snn_core::evaluate::{EvaluateOptions, evaluate as run};
use snn_core::progress::Watch;
use snn_core::{SpikingNetwork, Topology};

use super::{Context, convert, finite, synth, train};
use crate::data::Data;
use crate::experiment::VariantConfig;
use crate::store::Finished;

/// Number of ways in which energy is counted: part of what the stage computes.
const ENERGY_CONVENTIONS: u32 = 3;

/// Accuracy after one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowAccuracy {
    /// Steps.
    pub timesteps: usize,
    /// Share of the images classified rightly.
    pub accuracy: f64,
    /// Number of images.
    pub images: usize,
}

/// Figures of one spiking network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkFigures {
    /// Steps of the window it is quoted at.
    pub timesteps: usize,
    /// Accuracy there.
    pub test_accuracy: f64,
    /// Accuracy after each window.
    pub accuracy_by_t: Vec<WindowAccuracy>,
    /// Energy at the quoted window; see [`energy`]. Ratios are null where nothing ever fired.
    pub energy: Value,
}

/// Figures of the stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationFigures {
    /// Test images that the quoted accuracies are measured on.
    pub images: usize,
    /// The source network's accuracy on the same images.
    pub ann_accuracy: f64,
    /// The data-free conversion.
    pub converted: NetworkFigures,
    /// The conversion with real images.
    pub converted_with_real_data: NetworkFigures,
    /// The encrypted network.
    pub encrypted: NetworkFigures,
    /// The conversion with real images, trained on with real images as the encrypted network is with synthetic ones.
    pub fine_tuned: NetworkFigures,
    /// Share of the synthetic images to which the judge gives the same class as the source network.
    pub judge_agreement: f64,
}

/// What is evaluated.
pub struct Evaluated<'a> {
    /// The source network.
    pub trained: &'a Finished,
    /// The synthetic set.
    pub synthetic: &'a Finished,
    /// The data-free conversion.
    pub converted: &'a Finished,
    /// The conversion with real images.
    pub control: &'a Finished,
    /// The encrypted network.
    pub encrypted: &'a Finished,
    /// The network trained on with real images.
    pub fine_tuned: &'a Finished,
    /// The judge.
    pub judge: &'a Finished,
}

/// Runs the test images through all networks of a variant.
pub fn evaluate(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    of: &Evaluated,
) -> Result<Finished> {
    let upstream = [
        ("ann", of.trained.sha256(train::NETWORK)?),
        ("synthetic", of.synthetic.sha256(synth::SET)?),
        ("converted", of.converted.sha256(convert::NETWORK)?),
        (
            "converted-with-real-data",
            of.control.sha256(convert::NETWORK)?,
        ),
        ("encrypted", of.encrypted.sha256(convert::NETWORK)?),
        ("fine-tuned", of.fine_tuned.sha256(convert::NETWORK)?),
        ("judge", of.judge.sha256(train::NETWORK)?),
        ("data", ctx.data.sha256.clone()),
    ];
    let quoted = variant.evaluate.timesteps;
    let encrypted = variant.encrypted_timesteps();
    let config = json!({
        "evaluate": variant.evaluate,
        "encrypted_timesteps": encrypted,
        "energy_conventions": ENERGY_CONVENTIONS,
    });
    ctx.stage(Some(name), "evaluate", &config, &upstream, |_, watch| {
        let test = Data::images(&ctx.data.set.test, variant.evaluate.images)?;
        let ann = train::load(ctx, of.trained)?;
        let judge = train::load(ctx, of.judge)?;
        let set = synth::load(ctx, of.synthetic)?;
        let mut network = |finished: &Finished, label: &str, timesteps: usize| {
            let network = convert::load(ctx, finished)?;
            measure(ctx, variant, &network, &test, timesteps, &mut |progress| {
                let mut labelled = progress.clone();
                labelled.unit = format!("{label}, {}", progress.unit);
                watch(&labelled)
            })
        };
        let figures = EvaluationFigures {
            images: test.1.elem_count(),
            ann_accuracy: ann::evaluate(&ann, &test.0, &test.1, train::BATCH)?,
            converted: network(of.converted, "converted", quoted)?,
            converted_with_real_data: network(of.control, "converted with real data", quoted)?,
            encrypted: network(of.encrypted, "encrypted", encrypted)?,
            fine_tuned: network(of.fine_tuned, "fine-tuned", encrypted)?,
            judge_agreement: agreement(
                &ann::logits(&judge, &set.images, train::BATCH)?,
                &set.logits.to_device(&candle_core::Device::Cpu)?,
            )?,
        };
        Ok((Vec::new(), figures))
    })
}

fn measure(
    ctx: &Context,
    variant: &VariantConfig,
    network: &SpikingNetwork,
    (images, labels): &(Tensor, Tensor),
    timesteps: usize,
    watch: &mut Watch,
) -> Result<NetworkFigures> {
    let options =
        EvaluateOptions::for_device(network.topology(), &ctx.device, ctx.seed_of("evaluate"));
    let windows = variant.evaluate.windows_to(timesteps);
    let evaluation = run(network, images, labels, &windows, options, watch)?;
    let direct = network.settings().encoder == Encoder::Direct;
    let mut accuracy_by_t = table(&evaluation.accuracy_by_t, evaluation.samples);
    let longer: Vec<usize> = variant
        .evaluate
        .long_windows
        .iter()
        .copied()
        .filter(|&t| t > timesteps)
        .collect();
    if !longer.is_empty() {
        let count = variant.evaluate.long_images.min(labels.elem_count());
        let (images, labels) = (
            images.narrow(0, 0, count)?,
            labels.narrow(0, 0, count)?.contiguous()?,
        );
        let longer = run(network, &images, &labels, &longer, options, watch)?;
        accuracy_by_t.extend(table(&longer.accuracy_by_t, longer.samples));
    }
    Ok(NetworkFigures {
        timesteps,
        test_accuracy: evaluation.accuracy(),
        accuracy_by_t,
        energy: energy_figures(
            network.topology(),
            &energy::estimate(network.topology(), &evaluation, direct)?,
        ),
    })
}

/// The entries of an evaluation's curve.
pub fn table(accuracy_by_t: &[(usize, f64)], images: usize) -> Vec<WindowAccuracy> {
    let entry = |&(timesteps, accuracy): &(usize, f64)| WindowAccuracy {
        timesteps,
        accuracy,
        images,
    };
    accuracy_by_t.iter().map(entry).collect()
}

fn energy_figures(topology: &Topology, energy: &Energy) -> Value {
    let layers = |values: &[(usize, f64)], key: &str| -> Value {
        values.iter().map(|&(layer, value)| json!({"layer": layer, "name": topology.layer_name(layer), key: finite(value)})).collect()
    };
    let by_layer = |layer: &LayerEnergy| {
        json!({
            "layer": layer.layer,
            "name": topology.layer_name(layer.layer),
            "accumulates": finite(layer.accumulates),
            "ann_picojoule": finite(layer.ann_picojoule),
            "ann_picojoule_memory": finite(layer.ann_picojoule_memory),
            "snn_picojoule_events": finite(layer.snn_picojoule_events),
            "snn_picojoule_rate": finite(layer.snn_picojoule_rate),
            "snn_picojoule_memory": finite(layer.snn_picojoule_memory),
        })
    };
    json!({
        "ann_picojoule": finite(energy.ann_picojoule),
        "ann_picojoule_memory": finite(energy.ann_picojoule_memory),
        "snn_picojoule_events": finite(energy.snn_picojoule_events),
        "snn_picojoule_rate": finite(energy.snn_picojoule_rate),
        "snn_picojoule_memory": finite(energy.snn_picojoule_memory),
        "ratio_events": finite(energy.ratio_events),
        "ratio_rate": finite(energy.ratio_rate),
        "ratio_memory": finite(energy.ratio_memory),
        "layers": energy.layers.iter().map(by_layer).collect::<Value>(),
        "mean_rate_by_layer": layers(&energy.mean_rate_by_layer, "rate"),
        "spikes_by_layer": layers(&energy.spikes_by_layer, "spikes"),
    })
}

/// Share of rows whose largest entries are at the same place.
fn agreement(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (a.to_vec2()?, b.to_vec2()?);
    let same = a.iter().zip(&b).filter(|(a, b)| {
        let place = ann::loss::argmax(a);
        place.is_some() && place == ann::loss::argmax(b)
    });
    Ok(same.count() as f64 / a.len().max(1) as f64)
}
