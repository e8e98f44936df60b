//! Trains a small network on drawn glyphs, makes images from it, converts it, and trains its spikes on those images at
//! two learning rates: accuracy on real glyphs, and how far the weights have moved.
//!
//! `cargo run --release -p encrypt --example encrypt_glyphs`

use std::error::Error;

use ann::{Ann, Augment, Depth, NetworkConfig, OptimiserConfig, TrainConfig, Trainer};
use candle_core::Device;
use convert::{ConvertConfig, ThresholdRule, convert};
use datasets::Split;
use datasets::glyphs::{self, GlyphsConfig};
use encrypt::{EncryptConfig, Encryption};
use snn_core::SpikingNetwork;
use snn_core::encode::Encoder;
use snn_core::evaluate::{EvaluateOptions, evaluate};
use snn_core::progress::silent;
use snn_core::rng::Seed;
use synth::SynthConfig;

const TIMESTEPS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let seed = Seed::new(1);
    let data = glyphs::generate(&GlyphsConfig {
        train: 4_000,
        validation: 0,
        test: 500,
        seed: 1,
    })?;
    let plan = NetworkConfig {
        width: 0.25,
        hidden: 0,
        batch_norm: true,
        conv_dropout: 0.0,
        ..NetworkConfig::paper(Depth::Vgg5)
    };
    let ann = Ann::initialise(plan.topology([3, 32, 32], 10)?, seed, &Device::Cpu)?;
    let training = TrainConfig {
        epochs: 4,
        batch: 64,
        learning_rate: 5e-3,
        optimiser: OptimiserConfig::adam(),
        augment: Augment {
            crop_padding: 0,
            flip: false,
        },
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(&ann, training, seed)?;
    while !trainer.is_finished() {
        trainer.epoch(&data.train.images, &data.train.labels, None, &mut silent)?;
    }
    let ann = trainer.ann().frozen()?;
    let accuracy = ann::evaluate(&ann, &data.test.images, &data.test.labels, 100)?;
    println!("source network: {:.1} %", 100.0 * accuracy);

    let synthesis = SynthConfig {
        count: 100,
        iterations: 60,
        learning_rate: 0.05,
        dirichlet: vec![1.0, 0.1],
        // keeps the activations near those on real pictures: without it training on the images spoils the network
        batch_norm_statistics: 1.0,
        ..SynthConfig::default()
    };
    let set = synth::synthesise(&ann, &synthesis, seed, 0..100, &mut silent)?;
    let conversion = ConvertConfig {
        thresholds: ThresholdRule::BatchNorm { deviations: 3.0 },
        encoder: Encoder::Direct,
        initial_membrane: 0.5,
        report_images: 0,
        ..ConvertConfig::default()
    };
    let converted = convert(&ann, None, &conversion, seed, &mut silent)?.network;
    println!(
        "converted, T = {TIMESTEPS}: {:.1} %",
        100.0 * score(&converted, &data.test)?
    );

    for learning_rate in [1e-4, 1e-3] {
        let config = EncryptConfig {
            timesteps: TIMESTEPS,
            epochs: 6,
            batch: 20,
            learning_rate,
            distillation_weight: 1.0,
            ..EncryptConfig::default()
        };
        let mut encryption = Encryption::new(&converted, config, seed)?;
        while !encryption.is_finished() {
            let log = encryption.epoch(&set, &mut silent)?;
            let moved: Vec<String> = log
                .weight_change
                .iter()
                .map(|change| format!("{:.1} %", 100.0 * change.relative))
                .collect();
            println!(
                "learning rate {learning_rate:.0e}, epoch {}: loss {:.3}, agreement {:.2}, weights moved {}",
                log.epoch,
                log.loss,
                log.agreement,
                moved.join(", ")
            );
        }
        println!(
            "encrypted at {learning_rate:.0e}, T = {TIMESTEPS}: {:.1} %",
            100.0 * score(encryption.network(), &data.test)?
        );
    }
    Ok(())
}

/// Accuracy on real pictures.
fn score(network: &SpikingNetwork, split: &Split) -> Result<f64, Box<dyn Error>> {
    let images = datasets::normalise(&split.images)?;
    let options = EvaluateOptions::for_topology(network.topology(), Seed::new(9));
    let found = evaluate(
        &network.frozen()?,
        &images,
        &split.labels,
        &[TIMESTEPS],
        options,
        &mut silent,
    )?;
    Ok(found.accuracy())
}
