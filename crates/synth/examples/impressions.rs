//! Trains a small network on drawn glyphs, makes images from the network alone, and tells what became of them.
//!
//! `cargo run --release -p synth --example impressions [sheet.ppm]`: with a path, the images are written there as a
//! picture (PPM, one row per class).

use std::error::Error;
use std::io::Write;

use ann::{
    Ann, Augment, Depth, NetworkConfig, OptimiserConfig, SyntheticSet, TrainConfig, Trainer,
};
use candle_core::Device;
use datasets::glyphs::{self, CLASS_NAMES, GlyphsConfig};
use snn_core::progress::silent;
use snn_core::rng::Seed;
use synth::SynthConfig;

const PER_CLASS: usize = 8;

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
    let ann = trainer.ann();
    let accuracy = ann::evaluate(ann, &data.test.images, &data.test.labels, 100)?;
    println!("source network: {:.1} %", 100.0 * accuracy);

    let config = SynthConfig {
        count: PER_CLASS * CLASS_NAMES.len(),
        iterations: 200,
        learning_rate: 0.02,
        dirichlet: vec![1.0, 0.1],
        total_variation: 0.05,
        jitter: 1,
        ..SynthConfig::default()
    };
    let set = synth::synthesise(ann, &config, seed, 0..config.count, &mut silent)?;
    println!(
        "{} images, {:.0} % of them where their target wanted them",
        set.len(),
        100.0 * synth::agreement(&set)?
    );
    let targets: Vec<Vec<f32>> = set.soft_targets.to_vec2()?;
    for (class, name) in CLASS_NAMES.iter().enumerate() {
        let share: f32 = targets
            .iter()
            .skip(class)
            .step_by(CLASS_NAMES.len())
            .map(|y| y[class])
            .sum();
        println!(
            "asked for {name:<10} mean weight of that class in the targets {:.2}",
            share / PER_CLASS as f32
        );
    }
    if let Some(path) = std::env::args().nth(1) {
        write_sheet(&set, &path)?;
        println!("wrote {path}");
    }
    Ok(())
}

/// One row per class, a picture per column.
fn write_sheet(set: &SyntheticSet, path: &str) -> Result<(), Box<dyn Error>> {
    let (n, _, side, _) = set.images.dims4()?;
    let (rows, columns) = (CLASS_NAMES.len(), n / CLASS_NAMES.len());
    let mut pixels = vec![0u8; rows * side * columns * side * 3];
    for i in 0..n {
        let image: Vec<f32> = set.images.get(i)?.flatten_all()?.to_vec1()?;
        for (position, &x) in image.iter().enumerate() {
            let (channel, y, x_at) = (
                position / (side * side),
                position / side % side,
                position % side,
            );
            let row = i % rows * side + y;
            let column = i / rows * side + x_at;
            pixels[(row * columns * side + column) * 3 + channel] =
                ((x + 1.0) * 127.5).round() as u8;
        }
    }
    let mut file = std::fs::File::create(path)?;
    write!(file, "P6\n{} {}\n255\n", columns * side, rows * side)?;
    file.write_all(&pixels)?;
    Ok(())
}
