//! The generator as a user calls it: what it learns, that it goes on where it stopped, what it refuses.

mod common;

use ann::{Ann, SyntheticSet};
use candle_core::{DType, Device, Tensor};
use common::{assert_same, network};
use snn_core::checkpoint;
use snn_core::progress::{Flow, silent};
use snn_core::rng::Seed;
use snn_core::{Layer, Topology};
use synth::{Error, Generator, GeneratorConfig, SynthConfig, agreement, synthesise};
use testkit::assert_thread_independent;

fn config() -> SynthConfig {
    SynthConfig {
        count: 22,
        temperature: 1.0,
        dirichlet: vec![0.1],
        batch_norm_statistics: 0.1,
        batch: 8,
        generator: Some(GeneratorConfig {
            latent: 16,
            channels: 8,
            iterations: 8,
            warm_up: 60,
            ..GeneratorConfig::default()
        }),
        ..SynthConfig::default()
    }
}

fn all(generator: &mut Generator) -> SyntheticSet {
    let ann = network(true);
    let mut parts = Vec::new();
    while generator.made() < config().count {
        parts.push(generator.next_batch(&ann, &mut silent).expect("images"));
    }
    SyntheticSet::concat(&parts).expect("parts that fit")
}

fn generator() -> Generator {
    Generator::new(&network(true), &config(), Seed::new(8)).expect("a generator")
}

#[test]
fn what_is_resumed_makes_the_same_images() {
    let whole = all(&mut generator());
    assert_eq!(whole.len(), 22);
    whole.check().expect("a synthetic set");
    let folder = tempfile::tempdir().expect("a folder");
    let (path, ann) = (folder.path().join("g.safetensors"), network(true));
    let mut first = generator();
    let mut parts = vec![first.next_batch(&ann, &mut silent).expect("images")];
    first.save(&path).expect("saved");
    let resume = || Generator::resume(&path, &ann, &config(), Seed::new(8)).expect("resumed");
    // a batch that somebody stops is made again from what was saved
    let stopped = resume().next_batch(&ann, &mut |_| Flow::Stop);
    assert!(stopped.is_err_and(|error| error.to_string().contains("interrupted")));
    let mut second = resume();
    assert_eq!(second.made(), 8);
    parts.push(all(&mut second));
    let parts = SyntheticSet::concat(&parts).expect("parts that fit");
    assert_same(&whole, &parts, "resumed");
    let error = second.next_batch(&ann, &mut silent).expect_err("all made");
    assert!(error.to_string().contains("all images"), "{error}");
}

#[test]
fn threads_change_nothing() {
    assert_thread_independent("generator", || {
        let images = all(&mut generator()).images;
        let values = images.flatten_all().and_then(|x| x.to_vec1::<f32>());
        let values = values.expect("floats").into_iter();
        values.map(f32::to_bits).collect::<Vec<u32>>()
    });
}

/// The targets of later batches are reached with fewer iterations than those of the first took.
#[test]
fn it_learns_to_reach_targets() {
    let share = agreement(&all(&mut generator())).expect("a share");
    assert!(share > 0.9, "{share}");
    let mut untaught = config();
    if let Some(generator) = &mut untaught.generator {
        (generator.iterations, generator.warm_up) = (1, 0);
    }
    let ann = network(true);
    let mut generator = Generator::new(&ann, &untaught, Seed::new(8)).expect("a generator");
    let set = generator.next_batch(&ann, &mut silent).expect("images");
    let before = agreement(&set).expect("a share");
    assert!(before < share, "{before} before, {share} after");
}

#[test]
fn bad_settings_and_files_are_refused() {
    let refused = |change: &dyn Fn(&mut SynthConfig)| -> String {
        let mut changed = config();
        change(&mut changed);
        Generator::new(&network(true), &changed, Seed::new(8))
            .expect_err("must be refused")
            .to_string()
    };
    for (name, message) in [
        ("jitter", refused(&|c| c.jitter = 1)),
        ("total_variation", refused(&|c| c.total_variation = 0.1)),
        ("generator", refused(&|c| c.generator = None)),
        (
            "generator.latent",
            refused(&|c| c.generator.as_mut().expect("one").latent = 0),
        ),
        (
            "generator.learning_rate",
            refused(&|c| c.generator.as_mut().expect("one").learning_rate = f64::NAN),
        ),
    ] {
        assert!(message.starts_with(name), "{name}: {message}");
    }
    let pixels = synthesise(&network(true), &config(), Seed::new(8), 0..8, &mut silent);
    assert!(matches!(
        pixels,
        Err(Error::Argument {
            name: "generator",
            ..
        })
    ));
    let plain = Generator::new(&network(false), &config(), Seed::new(8));
    assert!(plain.is_err_and(|error| error.to_string().contains("no batch norm")));

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("g.safetensors");
    generator().save(&path).expect("saved");
    let mut other = network(true);
    let weight = other.parameters().weight(0).expect("a weight");
    let weight = (weight * 1.01).expect("a tensor");
    other
        .parameters_mut()
        .replace(0, "weight", weight)
        .expect("replaced");
    let of_other = generator().next_batch(&other, &mut silent);
    assert!(of_other.is_err_and(|error| error.to_string().starts_with("ann: ")));
    // the same weights in other layers
    let mut layers = network(true).topology().layers().to_vec();
    for layer in &mut layers {
        if let Layer::BatchNorm { epsilon, .. } = layer {
            *epsilon = 0.5;
        }
    }
    let input = network(true).topology().input();
    let layers = Topology::new("small", input, layers).expect("layers fit");
    let in_other_layers = Ann::new(layers, network(true).parameters().clone());
    for (network, seed, part) in [
        (network(true), 9, "another seed"),
        (other, 8, "another network"),
        (in_other_layers, 8, "another network"),
    ] {
        let resumed = Generator::resume(&path, &network, &config(), Seed::new(seed));
        let error = resumed.expect_err(part).to_string();
        assert!(
            error.contains("g.safetensors") && error.contains(part),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_checkpoint_is_not_gone_on_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("g.safetensors");
    generator().save(&path).expect("saved");
    let (tensors, description): (_, serde_json::Value) =
        checkpoint::load(&path, &Device::Cpu).expect("loaded");
    for part in ["nan", "f64", "shape"] {
        let damaged = |(name, tensor): (&String, &Tensor)| -> candle_core::Result<_> {
            let tensor = match part {
                "nan" => (tensor * f64::NAN)?,
                "f64" => tensor.to_dtype(DType::F64)?,
                _ => tensor.unsqueeze(0)?,
            };
            Ok((name.clone(), tensor))
        };
        let tensors: Result<_, _> = tensors.iter().map(damaged).collect();
        checkpoint::save(&path, &tensors.expect("damaged"), &description).expect("saved");
        let resumed = Generator::resume(&path, &network(true), &config(), Seed::new(8));
        let error = resumed.expect_err(part).to_string();
        assert!(
            error.contains("g.safetensors") && error.contains("to have them made again"),
            "{part}: {error}"
        );
    }
}
