//! An experiment on as little as every stage takes.

/// Settings under which each stage of a profile runs through in little time. Networks, time steps, image sizes and batches
/// stay: what a run may fail on.
pub const REHEARSAL: [&str; 18] = [
    "data.train_limit=400",
    "data.validation=100",
    "data.test_limit=64",
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
    "attack.real_images=200",
    "attack.back_conversion.ascent.iterations=2",
    "attack.spike_gradient.ascent.iterations=2",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::experiment::ExperimentFile;

    #[test]
    fn every_profile_of_a_real_data_set_can_be_rehearsed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/experiments");
        let settings = REHEARSAL.map(String::from);
        for name in ["cifar10", "cifar10-qcfs", "cifar100", "tinyimagenet"] {
            let file = ExperimentFile::read(&folder, name).unwrap();
            for profile in ["cpu", "paper"] {
                let whole = file.resolve(profile, &[]).unwrap();
                let small = file.resolve(profile, &settings).unwrap();
                let (whole, small) = (&whole.variants["modern"], &small.variants["modern"]);
                assert_eq!(small.ann.network, whole.ann.network);
                assert_eq!(small.encrypt.timesteps, whole.encrypt.timesteps);
                assert_eq!(small.synth.iterations, 2);
            }
        }
    }
}
