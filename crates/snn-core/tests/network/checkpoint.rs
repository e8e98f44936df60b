use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use snn_core::network::{Batch, Mode};
use snn_core::rng::Seed;
use snn_core::{Error, SpikingNetwork, SpikingSettings, checkpoint};

use crate::{bytes, images, network, topology};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn load(path: &Path) -> String {
    SpikingNetwork::load(path, &Device::Cpu)
        .expect_err("a bad checkpoint")
        .to_string()
}

#[test]
fn a_network_comes_back() {
    let folder = Folder::new();
    let path = folder.path("deep/down/network.safetensors");
    let network = network(SpikingSettings {
        initial_membrane: 0.5,
        readout_scale: 0.1,
        ..SpikingSettings::default()
    });
    network.save(&path).expect("saved");
    let again = SpikingNetwork::load(&path, &Device::Cpu).expect("loaded");
    assert_eq!(again.topology(), network.topology());
    assert_eq!(again.settings(), network.settings());
    let images = images(2);
    let batch = Batch {
        images: &images,
        ids: &[1, 2],
        seed: Seed::new(1),
    };
    let logits = |network: &SpikingNetwork| {
        bytes(&network.logits(batch, Mode::Inference, 6).expect("logits"))
    };
    assert_eq!(logits(&again), logits(&network));
    // equal content, equal bytes; nothing else is left in the folder
    let other = folder.path("deep/down/again.safetensors");
    again.save(&other).expect("saved");
    assert_eq!(
        fs::read(&path).expect("bytes"),
        fs::read(&other).expect("bytes")
    );
    assert_eq!(
        fs::read_dir(folder.path("deep/down"))
            .expect("a folder")
            .count(),
        2
    );
}

#[test]
fn an_old_file_survives_until_the_new_one_is_whole() {
    let folder = Folder::new();
    let path = folder.path("network.safetensors");
    network(SpikingSettings::default())
        .save(&path)
        .expect("saved");
    let before = fs::read(&path).expect("bytes");
    // a second name of the old file: were it written over in place, its bytes would change too
    let kept = folder.path("kept.safetensors");
    fs::hard_link(&path, &kept).expect("a second name");
    network(SpikingSettings {
        readout_scale: 2.0,
        ..SpikingSettings::default()
    })
    .save(&path)
    .expect("saved over");
    assert_ne!(fs::read(&path).expect("bytes"), before);
    assert_eq!(fs::read(&kept).expect("bytes"), before);
    SpikingNetwork::load(&path, &Device::Cpu).expect("loaded");
}

#[test]
fn what_cannot_be_written_names_the_file() {
    let folder = Folder::new();
    let file = folder.path("file");
    fs::write(&file, "not a folder").expect("a file");
    let path = file.join("network.safetensors");
    let error = network(SpikingSettings::default())
        .save(&path)
        .expect_err("a file is no folder");
    assert!(matches!(&error, Error::Io { .. }), "{error}");
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
    // a folder where the file should go: nothing is left behind
    let taken = folder.path("taken");
    fs::create_dir(&taken).expect("a folder");
    fs::write(taken.join("inside"), "").expect("a file");
    assert!(network(SpikingSettings::default()).save(&taken).is_err());
    assert_eq!(fs::read_dir(folder.0.path()).expect("a folder").count(), 2);
}

#[test]
fn bad_files_name_themselves() {
    let folder = Folder::new();
    let path = folder.path("network.safetensors");
    let missing = load(&path);
    assert!(missing.contains(&path.display().to_string()), "{missing}");

    network(SpikingSettings::default())
        .save(&path)
        .expect("saved");
    let whole = fs::read(&path).expect("bytes");
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("cut short");
        let message = load(&path);
        assert!(
            message.contains("is not a whole safetensors file")
                && message.contains("network.safetensors"),
            "{message}"
        );
    }
    fs::write(&path, "a text of some length, and no checkpoint at all").expect("a text");
    assert!(load(&path).contains("is not a whole safetensors file"));

    let tensors = BTreeMap::from([("a".to_string(), images(1))]);
    candle_core::safetensors::save(&tensors.into_iter().collect(), &path)
        .expect("somebody else's file");
    assert!(load(&path).contains("was not written by private-snn"));
}

/// A checkpoint whose tensors were changed after it was made.
fn changed(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> String {
    network(SpikingSettings::default())
        .save(path)
        .expect("saved");
    let (mut tensors, description): (_, serde_json::Value) =
        checkpoint::load(path, &Device::Cpu).expect("loaded");
    change(&mut tensors);
    checkpoint::save(path, &tensors, &description).expect("saved");
    load(path)
}

#[test]
fn bad_tensors_name_file_and_layer() {
    let folder = Folder::new();
    let path = folder.path("network.safetensors");
    let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).expect("a tensor");
    let cases = [
        (
            changed(&path, |t| drop(t.remove("6.threshold"))),
            "layer 6 (activation): has no threshold",
        ),
        (
            changed(&path, |t| {
                drop(t.insert("6.threshold".into(), tensor(&[-0.5])))
            }),
            "layer 6 (activation): threshold must be positive",
        ),
        (
            changed(&path, |t| {
                drop(t.insert("7.bias".into(), tensor(&[0.0, f32::NAN, 1.0])))
            }),
            "layer 7 (linear): tensor `7.bias` holds a value that is not finite",
        ),
        (
            changed(&path, |t| drop(t.remove("5.weight"))),
            "layer 5 (linear): tensor `5.weight` is missing",
        ),
        (
            changed(&path, |t| drop(t.insert("9.weight".into(), tensor(&[1.0])))),
            "parameters: tensor `9.weight` does not belong to the topology",
        ),
        (
            changed(&path, |t| drop(t.insert("foo".into(), tensor(&[1.0])))),
            "parameters: tensor `foo` does not belong to the topology",
        ),
    ];
    for (message, expected) in cases {
        assert!(
            message.contains(expected),
            "`{message}` should contain `{expected}`"
        );
        assert!(message.contains("network.safetensors"), "{message}");
    }
}

#[test]
fn bad_descriptions_name_the_file() {
    let folder = Folder::new();
    let path = folder.path("network.safetensors");
    let redescribed = |change: &dyn Fn(&mut serde_json::Value)| {
        network(SpikingSettings::default())
            .save(&path)
            .expect("saved");
        let (tensors, mut description): (_, serde_json::Value) =
            checkpoint::load(&path, &Device::Cpu).expect("loaded");
        change(&mut description);
        checkpoint::save(&path, &tensors, &description).expect("saved");
        load(&path)
    };
    let message = redescribed(&|d| d["format"] = "something-else/1".into());
    assert!(message.contains("holds a `something-else/1`"), "{message}");
    let message = redescribed(&|d| d["topology"]["layers"][5]["out_features"] = 7.into());
    assert!(
        message.contains("layer 7 (linear): needs an input [6]"),
        "{message}"
    );
    let message = redescribed(&|d| d["topology"]["layers"][0]["out_channels"] = 0.into());
    assert!(message.contains("layer 0 (conv2d)"), "{message}");
    let message = redescribed(&|d| d["settings"]["neuron"]["leak"] = 2.0.into());
    assert!(message.contains("neuron.leak"), "{message}");
    let message = redescribed(&|d| d["settings"]["unknown"] = 1.into());
    assert!(message.contains("unknown"), "{message}");
    let message = redescribed(&|d| *d = serde_json::json!({ "epoch": 3 }));
    assert!(message.contains("describes something else"), "{message}");
    assert!(message.contains("network.safetensors"), "{message}");
    // another topology with the same kind of layers: the tensors do not fit
    let message = redescribed(&|d| {
        d["topology"] = serde_json::to_value(wider()).expect("a topology as JSON");
    });
    assert!(
        message.contains("layer 0 (conv2d)") && message.contains("[8, 3, 3, 3]"),
        "{message}"
    );
}

fn wider() -> snn_core::Topology {
    let mut layers = topology("wider").layers().to_vec();
    layers[0] = snn_core::Layer::Conv2d {
        in_channels: 3,
        out_channels: 8,
        kernel: 3,
        stride: 1,
        padding: 1,
        bias: true,
    };
    layers[5] = snn_core::Layer::Linear {
        in_features: 128,
        out_features: 6,
        bias: false,
    };
    snn_core::Topology::new("wider", [3, 8, 8], layers).expect("a topology")
}
