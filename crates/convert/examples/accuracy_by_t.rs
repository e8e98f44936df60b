//! Trains a small network on glyphs, converts it without an image and with real ones, and prints accuracy against T.
//!
//! `cargo run --release -p convert --example accuracy_by_t`

use std::error::Error;

use ann::{Ann, Augment, Depth, NetworkConfig, TrainConfig, Trainer};
use candle_core::Device;
use convert::{ConvertConfig, Granularity, ThresholdRule, convert};
use datasets::glyphs::{self, GlyphsConfig};
use snn_core::encode::Encoder;
use snn_core::evaluate::{EvaluateOptions, evaluate};
use snn_core::progress::silent;
use snn_core::rng::Seed;

const WINDOWS: [usize; 6] = [1, 2, 4, 8, 16, 32];

fn main() -> Result<(), Box<dyn Error>> {
    let seed = Seed::new(1);
    let data = glyphs::generate(&GlyphsConfig {
        train: 6000,
        validation: 500,
        ..GlyphsConfig::default()
    })?;
    let validation = data.validation.as_ref().ok_or("no validation split")?;
    let vgg = NetworkConfig {
        width: 0.25,
        hidden: 0,
        batch_norm: true,
        conv_dropout: 0.0,
        ..NetworkConfig::paper(Depth::Vgg5)
    };
    let ann = Ann::initialise(vgg.topology([3, 32, 32], 10)?, seed, &Device::Cpu)?;
    let config = TrainConfig {
        epochs: 4,
        batch: 32,
        learning_rate: 0.05,
        augment: Augment::default(),
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(&ann, config, seed)?;
    while !trainer.is_finished() {
        let log = trainer.epoch(&data.train.images, &data.train.labels, None, &mut silent)?;
        println!("epoch {}: loss {:.3}", log.epoch, log.loss);
    }
    let ann = trainer.ann().frozen()?;
    let accuracy = ann::evaluate(&ann, &validation.images, &validation.labels, 100)?;
    println!("source network: {:.1} %", 100.0 * accuracy);

    let images = datasets::normalise(&validation.images)?;
    let real = datasets::normalise(&data.train.images.narrow(0, 0, 200)?)?;
    println!(
        "{:<40}{}",
        "thresholds",
        WINDOWS.map(|t| format!("{:>8}", format!("T={t}"))).concat()
    );
    let rules = [
        (
            ThresholdRule::BatchNorm { deviations: 3.0 },
            "batch norm, no image",
        ),
        (
            ThresholdRule::Percentile {
                percentile: 99.9,
                granularity: Granularity::Channel,
            },
            "percentile of real images (control)",
        ),
    ];
    for (thresholds, name) in rules {
        let config = ConvertConfig {
            thresholds,
            encoder: Encoder::Direct,
            initial_membrane: 0.5,
            report_images: 0,
            ..ConvertConfig::default()
        };
        let calibration = config.needs_images().then_some(&real);
        let network = convert(&ann, calibration, &config, seed, &mut silent)?.network;
        let options = EvaluateOptions::for_topology(network.topology(), seed);
        let evaluation = evaluate(
            &network,
            &images,
            &validation.labels,
            &WINDOWS,
            options,
            &mut silent,
        )?;
        let row = evaluation
            .accuracy_by_t
            .iter()
            .map(|(_, a)| format!("{:>8.1}", 100.0 * a));
        println!("{name:<40}{}", row.collect::<String>());
    }
    Ok(())
}
