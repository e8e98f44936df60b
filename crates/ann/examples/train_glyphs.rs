//! Trains a small VGG with batch norm on the built-in pictures and saves it.
//!
//! `cargo run --release -p ann --example train_glyphs [FILE]`

use std::path::PathBuf;

use ann::{Ann, Augment, Depth, NetworkConfig, Schedule, TrainConfig, Trainer, evaluate};
use candle_core::Device;
use datasets::glyphs::{GlyphsConfig, generate};
use snn_core::progress::silent;
use snn_core::rng::Seed;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args_os().nth(1).map_or_else(
        || std::env::temp_dir().join("glyphs-ann.safetensors"),
        PathBuf::from,
    );
    let glyphs = generate(&GlyphsConfig::default())?;
    let validation = glyphs
        .validation
        .as_ref()
        .map(|split| (&split.images, &split.labels));

    let vgg = NetworkConfig {
        width: 0.25,
        hidden: 0,
        batch_norm: true,
        conv_dropout: 0.0,
        ..NetworkConfig::paper(Depth::Vgg5)
    };
    let topology = vgg.topology([3, 32, 32], glyphs.classes())?;
    println!(
        "{}: {} weights, {:.1} M multiply-accumulates per image",
        topology.name(),
        topology.parameter_count(),
        topology.macs() as f64 / 1e6
    );

    let seed = Seed::new(0);
    let config = TrainConfig {
        epochs: 4,
        batch: 64,
        learning_rate: 0.05,
        schedule: Schedule::Cosine {
            warmup: 0.1,
            floor: 0.0,
        },
        augment: Augment {
            crop_padding: 2,
            flip: false,
        },
        ..TrainConfig::default()
    };
    let ann = Ann::initialise(topology, seed.derive("init"), &Device::Cpu)?;
    let mut trainer = Trainer::new(&ann, config, seed.derive("train"))?;
    while !trainer.is_finished() {
        let log = trainer.epoch(
            &glyphs.train.images,
            &glyphs.train.labels,
            validation,
            &mut silent,
        )?;
        println!(
            "epoch {:2}: loss {:.4}, training {:.1} %, validation {:.1} %",
            log.epoch,
            log.loss,
            100.0 * log.train_accuracy,
            100.0 * log.validation_accuracy.unwrap_or(f64::NAN)
        );
    }
    let test = evaluate(trainer.ann(), &glyphs.test.images, &glyphs.test.labels, 256)?;
    println!("test accuracy {:.1} %", 100.0 * test);
    trainer.ann().frozen()?.save(&file)?;
    println!("saved as {}", file.display());
    Ok(())
}
