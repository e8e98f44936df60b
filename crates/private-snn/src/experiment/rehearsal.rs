//! An experiment on as little as every stage takes.

use convert::ThresholdRule;
use datasets::Kind;

use super::config::ExperimentConfig;

/// Settings that hold for every variant.
const SHORT: [&str; 16] = [
    "judge.training.epochs=1",
    "ann.training.epochs=1",
    "synth.count=64",
    "synth.iterations=2",
    "calibration_images=8",
    "convert.report_images=4",
    "encrypt.epochs=1",
    "evaluate.images=16",
    "evaluate.long_windows=[]",
    "evaluate.long_images=0",
    "attack.images_per_class=1",
    "attack.spike_images_per_class=1",
    // of these few images all: of each class the measurements need two
    "attack.real_images=0",
    "attack.back_conversion.ascent.iterations=2",
    "attack.spike_gradient.ascent.iterations=2",
    "evidence=false",
];

/// Assignments under which each stage of an experiment runs through in little time. Networks, time steps, image sizes and
/// batches stay: what a run may fail on.
pub fn rehearsal(config: &ExperimentConfig) -> Vec<String> {
    let data: &[&str] = match config.dataset {
        Kind::Glyphs => &[
            "data.glyphs.train=400",
            "data.glyphs.validation=100",
            "data.glyphs.test=64",
        ],
        _ => &[
            "data.train_limit=400",
            "data.validation=100",
            "data.test_limit=64",
        ],
    };
    let mut set: Vec<String> = data.iter().chain(&SHORT).map(|&s| s.into()).collect();
    for (name, variant) in &config.variants {
        if let Some(generator) = &variant.synth.generator {
            set.push(format!(
                "variants.{name}.synth.generator={{ latent = {}, channels = {}, iterations = 2, warm_up = 0 }}",
                generator.latent, generator.channels
            ));
        }
        if let ThresholdRule::LocalBalance { .. } = variant.convert.thresholds {
            set.push(format!("variants.{name}.convert.thresholds.passes=1"));
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::experiment::ExperimentFile;

    #[test]
    fn every_profile_can_be_rehearsed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments");
        for name in ExperimentFile::names(&folder).unwrap() {
            let file = ExperimentFile::read(&folder, &name).unwrap();
            for (profile, _) in file.profiles() {
                let whole = file.resolve(profile, &[]).unwrap();
                let small = file.resolve(profile, &rehearsal(&whole)).unwrap();
                for (variant, whole) in &whole.variants {
                    let small = &small.variants[variant];
                    assert_eq!(small.ann.network, whole.ann.network);
                    assert_eq!(small.encrypt.timesteps, whole.encrypt.timesteps);
                    assert_eq!(small.synth.iterations, 2);
                }
            }
        }
    }

    #[test]
    fn what_has_iterations_of_its_own_is_short_too() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments");
        let file = ExperimentFile::read(&folder, "smoke").unwrap();
        let longer = [
            "synth.generator={ latent = 16 }",
            "convert.thresholds={ rule = 'local_balance', passes = 50 }",
        ]
        .map(String::from);
        let whole = file.resolve("cpu", &longer).unwrap();
        let set: Vec<String> = longer.into_iter().chain(rehearsal(&whole)).collect();
        let small = file.resolve("cpu", &set).unwrap();
        let variant = &small.variants["modern"];
        assert_eq!(variant.synth.generator.as_ref().unwrap().iterations, 2);
        assert_eq!(
            variant.convert.thresholds,
            ThresholdRule::LocalBalance {
                rate: 1.0,
                passes: 1
            }
        );
    }
}
