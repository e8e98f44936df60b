//! Trains a victim and a judge on glyphs, rebuilds the victim's classes from its weights and lets the judge look.

use ann::train::{TrainConfig, Trainer};
use ann::{Ann, Augment, Depth, NetworkConfig, Schedule};
use attack_eval::Scorer;
use attack_eval::attacks::{AscentConfig, BackConversionConfig, back_conversion};
use candle_core::Device;
use datasets::glyphs::{GlyphsConfig, generate};
use datasets::{Dataset, normalise};
use snn_core::progress::silent;
use snn_core::rng::Seed;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn trained(data: &Dataset, depth: Depth, width: f64, hidden: usize, seed: Seed) -> Outcome<Ann> {
    let plan = NetworkConfig {
        width,
        hidden,
        batch_norm: true,
        conv_dropout: 0.0,
        hidden_dropout: 0.0,
        ..NetworkConfig::paper(depth)
    };
    let config = TrainConfig {
        epochs: 5,
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
    let start = Ann::initialise(
        plan.topology([3, 32, 32], data.classes())?,
        seed.derive("start"),
        &Device::Cpu,
    )?;
    let mut trainer = Trainer::new(&start, config, seed)?;
    while !trainer.is_finished() {
        trainer.epoch(&data.train.images, &data.train.labels, None, &mut silent)?;
    }
    let accuracy = ann::evaluate(trainer.ann(), &data.test.images, &data.test.labels, 200)?;
    println!(
        "{}: {:.1} % of the test images",
        start.topology().name(),
        100.0 * accuracy
    );
    Ok(trainer.ann().frozen()?)
}

fn main() -> Outcome<()> {
    let data = generate(&GlyphsConfig {
        train: 3000,
        validation: 0,
        test: 500,
        seed: 0,
    })?;
    let victim = trained(&data, Depth::Vgg5, 0.25, 0, Seed::new(1))?;
    let judge = trained(&data, Depth::Vgg9, 0.125, 64, Seed::new(2))?;

    let scorer = Scorer::new(
        &judge,
        &normalise(&data.train.images)?,
        &data.train.labels,
        200,
        Seed::new(3),
    )?;
    for (name, ascent) in [
        ("A1 classic", AscentConfig::classic()),
        ("A1 Adam", AscentConfig::adam()),
    ] {
        let made = back_conversion::run(
            &victim,
            &BackConversionConfig {
                ascent,
                ..BackConversionConfig::default()
            },
            5,
            Seed::new(4),
            &mut silent,
        )?;
        let outcome = scorer.score(name, "victim", &made)?;
        println!(
            "{name}: victim's confidence {:.2}, judge recognises {:.0} % (top 5 {:.0} %), \
             FID {:.1} (real {:.1}, noise {:.1}), nearest training image at {:.2} (real images {:.2?})",
            outcome.target_confidence,
            100.0 * outcome.judge_top1,
            100.0 * outcome.judge_top5,
            outcome.fid,
            outcome.fid_floor,
            outcome.fid_ceiling,
            outcome.nearest_distance,
            outcome.nearest_distance_real,
        );
    }
    Ok(())
}
