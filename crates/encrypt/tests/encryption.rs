//! The encryption as a user calls it, on tiny networks.

use std::collections::BTreeMap;
use std::path::Path;

use ann::{Ann, Depth, NetworkConfig, SyntheticSet};
use candle_core::{Device, Tensor};
use encrypt::{EncryptConfig, Encryption, Error, Targets, encryption_loss};
use snn_core::encode::Encoder;
use snn_core::network::{Batch, Mode};
use snn_core::progress::{Flow, silent};
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, SpikingSettings};

const CLASSES: usize = 4;

/// A source network, a spiking one with its weights and plausible thresholds, and images with the source's logits.
fn material(depth: Depth, side: usize, encoder: Encoder) -> (SpikingNetwork, SyntheticSet) {
    let plan = NetworkConfig {
        width: 0.1,
        hidden: 16,
        bias: true,
        conv_dropout: 0.1,
        ..NetworkConfig::paper(depth)
    };
    let topology = plan
        .topology([2, side, side], CLASSES)
        .expect("a valid plan");
    let ann = Ann::initialise(topology.clone(), Seed::new(3), &Device::Cpu).expect("a network");
    let thresholds: BTreeMap<usize, Tensor> = topology
        .activations()
        .into_iter()
        .map(|index| (index, Tensor::new(&[1.5f32], &Device::Cpu).expect("one")))
        .collect();
    let settings = SpikingSettings {
        encoder,
        initial_membrane: 0.5,
        ..SpikingSettings::default()
    };
    let network = SpikingNetwork::new(topology, ann.parameters().clone(), thresholds, settings)
        .expect("a spiking network");
    (network, images(&ann, 22, 4))
}

fn images(ann: &Ann, n: usize, seed: u64) -> SyntheticSet {
    let [c, h, w] = ann.topology().input();
    let seed = Seed::new(seed);
    let images = seed
        .uniform(&[n, c, h, w], -1.0, 1.0, &Device::Cpu)
        .expect("images");
    // as far apart as a trained network's
    let logits = ann
        .forward(&images, ann::Mode::Inference)
        .and_then(|logits| Ok((logits * 8.0)?))
        .expect("logits");
    let soft_targets = softmax(&logits);
    let classes = (0..n).map(|i| (i % CLASSES) as u32).collect();
    SyntheticSet {
        images,
        soft_targets,
        logits,
        classes: Tensor::from_vec(classes, n, &Device::Cpu).expect("classes"),
        seed: seed.value(),
    }
}

fn softmax(logits: &Tensor) -> Tensor {
    let rows: Vec<Vec<f32>> = logits.to_vec2().expect("rows");
    let values: Vec<f32> = rows
        .iter()
        .flat_map(|row| {
            let sum: f32 = row.iter().map(|z| z.exp()).sum();
            row.iter().map(move |z| z.exp() / sum)
        })
        .collect();
    Tensor::from_vec(values, logits.dims(), &Device::Cpu).expect("distributions")
}

fn config() -> EncryptConfig {
    EncryptConfig {
        timesteps: 6,
        epochs: 3,
        batch: 8,
        learning_rate: 2e-3,
        ..EncryptConfig::default()
    }
}

fn start(network: &SpikingNetwork, config: &EncryptConfig) -> Encryption {
    Encryption::new(network, config.clone(), Seed::new(6)).expect("an encryption")
}

fn finish(encryption: &mut Encryption, set: &SyntheticSet) {
    while !encryption.is_finished() {
        encryption.epoch(set, &mut silent).expect("an epoch");
    }
}

fn bits(network: &SpikingNetwork) -> Vec<(String, Vec<u32>)> {
    network
        .parameters()
        .iter()
        .map(|(name, tensor)| {
            let values: Vec<f32> = tensor
                .detach()
                .flatten_all()
                .and_then(|t| t.to_vec1())
                .expect("floats");
            (name.clone(), values.into_iter().map(f32::to_bits).collect())
        })
        .collect()
}

#[test]
fn loss_by_hand() {
    let row = |row: [f32; 2]| Tensor::new(&[row], &Device::Cpu).expect("a row");
    // z_snn = (ln 3, 0): softmax (3/4, 1/4). z_ann = (2 ln 3, 0), t = 2: (3/4, 1/4) against softmax (sqrt 3, 1)
    let ln3 = 3f32.ln();
    let config = EncryptConfig {
        distillation_weight: 0.7,
        distillation_temperature: 2.0,
        ..config()
    };
    let loss = encryption_loss(
        &row([ln3, 0.0]),
        &row([0.4, 0.6]),
        &row([2.0 * ln3, 0.0]),
        &config,
    )
    .expect("a loss");
    let scalar = |t: &Tensor| f64::from(t.to_scalar::<f32>().expect("a scalar"));
    let ce = -(0.4 * 0.75f64.ln() + 0.6 * 0.25f64.ln());
    let q = 3f64.sqrt() / (3f64.sqrt() + 1.0);
    let kl = 0.75 * (0.75 / q).ln() + 0.25 * (0.25 / (1.0 - q)).ln();
    assert!((scalar(&loss.cross_entropy) - ce).abs() < 1e-6);
    assert!((scalar(&loss.divergence) - kl).abs() < 1e-6);
    assert!((scalar(&loss.total) - (0.3 * ce + 0.7 * 4.0 * kl)).abs() < 1e-6);
    let wrong = encryption_loss(
        &row([1.0, 0.0]),
        &Tensor::new(&[[1f32, 0.0, 0.0]], &Device::Cpu).expect("a row"),
        &row([1.0, 0.0]),
        &config,
    );
    assert!(wrong.is_err());
    type Change = fn(&mut EncryptConfig);
    let changes: [(&str, Change); 5] = [
        ("distillation_temperature", |c| {
            c.distillation_temperature = 0.0
        }),
        ("distillation_temperature", |c| {
            c.distillation_temperature = -1.0
        }),
        ("distillation_temperature", |c| {
            c.distillation_temperature = f64::NAN
        }),
        ("distillation_weight", |c| c.distillation_weight = f64::NAN),
        ("distillation_weight", |c| c.distillation_weight = 1.5),
    ];
    for (name, change) in changes {
        let mut config = config.clone();
        change(&mut config);
        let message = encryption_loss(
            &row([1.0, 0.0]),
            &row([0.5, 0.5]),
            &row([1.0, 0.0]),
            &config,
        )
        .expect_err(name)
        .to_string();
        assert!(message.starts_with(name), "{message}");
    }
}

/// Classes as targets are soft targets that happen to be certain.
#[test]
fn class_targets_are_one_hot_soft_targets() {
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Direct);
    let trained = |targets: Targets, set: &SyntheticSet| {
        let config = EncryptConfig {
            targets,
            ..config()
        };
        let mut encryption = start(&network, &config);
        finish(&mut encryption, set);
        bits(encryption.network())
    };
    let classes = set.logits.dims()[1];
    let certain = SyntheticSet {
        soft_targets: ann::loss::one_hot(&set.classes, classes).expect("classes"),
        ..set.clone()
    };
    let of_classes = trained(Targets::Class, &set);
    assert_eq!(of_classes, trained(Targets::Soft, &certain));
    assert_ne!(of_classes, trained(Targets::Soft, &set));
}

/// Without dropout and with direct coding the network is deterministic: its loss on the set must fall.
#[test]
fn training_lowers_the_loss() {
    for encoder in [Encoder::Direct, Encoder::Poisson] {
        let (network, set) = material(Depth::Vgg5, 8, encoder);
        let config = EncryptConfig {
            epochs: 30,
            learning_rate: 5e-3,
            ..config()
        };
        let mut encryption = start(&network, &config);
        let loss = |network: &SpikingNetwork| {
            let ids: Vec<u64> = (0..set.len() as u64).collect();
            let batch = Batch {
                images: &set.images,
                ids: &ids,
                seed: Seed::new(77),
            };
            let logits = network.logits(batch, Mode::Inference, config.timesteps);
            let loss = encryption_loss(
                &logits.expect("logits"),
                &set.soft_targets,
                &set.logits,
                &config,
            );
            loss.and_then(|loss| Ok(loss.total.to_scalar::<f32>()?))
                .expect("a loss")
        };
        let before = loss(&network);
        finish(&mut encryption, &set);
        let after = loss(encryption.network());
        assert!(after < 0.8 * before, "{encoder:?}: {before} then {after}");
        let history = encryption.history();
        assert!(history[29].loss < history[0].loss);
        assert!(history[29].agreement >= history[0].agreement);
        assert_eq!(history[29].epoch, 30);
    }
}

/// The log's weight change against plain arithmetic; thresholds and the network one started from stay.
#[test]
fn weight_change_and_what_stays() {
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Direct);
    let before = bits(&network);
    let mut encryption = start(&network, &config());
    finish(&mut encryption, &set);
    assert_eq!(bits(&network), before, "the start was changed");
    let last = encryption.history().last().expect("three epochs");
    assert_eq!(last.learning_rate, 2e-3);
    let weighted = network.topology().weighted();
    assert_eq!(
        last.weight_change
            .iter()
            .map(|c| c.layer)
            .collect::<Vec<_>>(),
        weighted
    );
    for change in &last.weight_change {
        let weight = |network: &SpikingNetwork| {
            let weight = network.parameters().weight(change.layer).expect("a weight");
            weight.detach()
        };
        let norm = |t: Tensor| {
            let sum = t.sqr().and_then(|t| t.sum_all()).expect("a sum");
            f64::from(sum.to_scalar::<f32>().expect("a scalar")).sqrt()
        };
        let (from, to) = (weight(&network), weight(encryption.network()));
        let expected = norm((to - &from).expect("same shapes")) / norm(from);
        assert!(change.relative > 1e-4);
        assert!((change.relative / expected - 1.0).abs() < 1e-4);
    }
    for (index, threshold) in network.thresholds() {
        let after: Vec<f32> = encryption.network().thresholds()[index]
            .to_vec1()
            .expect("floats");
        assert_eq!(after, threshold.to_vec1::<f32>().expect("floats"));
    }
}

#[test]
fn resumed_is_never_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Poisson);
    let mut straight = start(&network, &config());
    finish(&mut straight, &set);
    straight.save(&first).expect("saved");

    let mut stopped = start(&network, &config());
    for _ in 0..2 {
        stopped.epoch(&set, &mut silent).expect("an epoch");
        stopped.save(&second).expect("saved");
        stopped = Encryption::resume(&second, &network, config(), Seed::new(6)).expect("resumed");
    }
    assert_eq!(stopped.epochs_done(), 2);
    finish(&mut stopped, &set);
    stopped.save(&second).expect("saved");
    assert_eq!(bits(straight.network()), bits(stopped.network()));
    assert_eq!(straight.history(), stopped.history());
    let bytes = |path: &Path| std::fs::read(path).expect("a file");
    assert_eq!(bytes(&first), bytes(&second));
    assert!(
        stopped.epoch(&set, &mut silent).is_err(),
        "all epochs are done"
    );
}

#[test]
fn threads_change_nothing() {
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Poisson);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a thread pool");
        pool.install(|| {
            let mut encryption = start(&network, &config());
            finish(&mut encryption, &set);
            (bits(encryption.network()), encryption.history().to_vec())
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn pieces_of_a_batch_add_up() {
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Poisson);
    // SGD: Adam would blow up the rounding of gradients near zero
    let config = EncryptConfig {
        epochs: 1,
        optimiser: ann::OptimiserConfig::sgd(),
        ..config()
    };
    let after = |micro_batch| {
        let config = EncryptConfig {
            micro_batch,
            ..config.clone()
        };
        let mut encryption = start(&network, &config);
        let log = encryption.epoch(&set, &mut silent).expect("an epoch");
        let weights: Vec<f32> = bits(encryption.network())
            .into_iter()
            .flat_map(|(_, values)| values)
            .map(f32::from_bits)
            .collect();
        (weights, log)
    };
    let (whole, log) = after(None);
    for micro_batch in [1, 3, 100] {
        let (pieces, piece_log) = after(Some(micro_batch));
        let worst = whole
            .iter()
            .zip(&pieces)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-5, "pieces of {micro_batch}: {worst}");
        assert!((log.loss - piece_log.loss).abs() < 1e-4);
        assert_eq!(log.agreement, piece_log.agreement);
    }
}

#[test]
fn refuses_another_training() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.safetensors");
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Direct);
    let mut encryption = start(&network, &config());
    encryption.epoch(&set, &mut silent).expect("an epoch");
    encryption.save(&path).expect("saved");

    let message = |network: &SpikingNetwork, config: EncryptConfig, seed| {
        Encryption::resume(&path, network, config, Seed::new(seed))
            .expect_err("another training")
            .to_string()
    };
    let other = EncryptConfig {
        learning_rate: 1.0,
        ..config()
    };
    assert!(message(&network, other, 6).contains("config.learning_rate"));
    assert!(message(&network, config(), 7).contains("seed"));
    let (deeper, _) = material(Depth::Vgg9, 8, Encoder::Direct);
    assert!(message(&deeper, config(), 6).contains("topology"));
    let (noisy, _) = material(Depth::Vgg5, 8, Encoder::Poisson);
    assert!(message(&noisy, config(), 6).contains("settings.encoder"));
    let moved = encryption.network().frozen().expect("a copy");
    assert!(message(&moved, config(), 6).contains("start_sha256"));

    // another set is found when it is given
    let mut resumed = Encryption::resume(&path, &network, config(), Seed::new(6)).expect("resumed");
    let mut other = set.clone();
    other.images = (&other.images * 0.5).expect("other images");
    let found = resumed.epoch(&other, &mut silent);
    assert!(matches!(found, Err(Error::Argument { name: "set", .. })));
    resumed.epoch(&set, &mut silent).expect("the former set");

    // damaged files
    let whole = std::fs::read(&path).expect("a file");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    assert!(message(&network, config(), 6).contains("state.safetensors"));
    std::fs::write(&path, "no tensors").expect("written");
    assert!(message(&network, config(), 6).contains("state.safetensors"));
    network.save(&path).expect("saved");
    assert!(message(&network, config(), 6).contains("state.safetensors"));
}

#[test]
fn an_epoch_that_did_not_end_is_not_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.safetensors");
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Direct);
    let mut encryption = start(&network, &config());
    let mut heard = Vec::new();
    let stopped = encryption.epoch(&set, &mut |p| {
        heard.push((p.unit.clone(), p.done, p.total));
        if p.done == 2 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    });
    let interrupted = Err(Error::Core(snn_core::Error::Interrupted));
    assert_eq!(
        format!("{stopped:?}"),
        format!("{:?}", interrupted as encrypt::Result<()>)
    );
    let unit = "epoch 1/3, batch".to_string();
    assert_eq!(heard, [(unit.clone(), 1, 3), (unit, 2, 3)]);
    assert!(encryption.save(&path).is_err());
    assert!(!path.exists());
    assert!(encryption.epoch(&set, &mut silent).is_err());
}

#[test]
fn divergence_names_its_place() {
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Direct);
    let config = EncryptConfig {
        learning_rate: 1e38,
        ..config()
    };
    let mut encryption = start(&network, &config);
    match encryption.epoch(&set, &mut silent) {
        Err(Error::Diverged { epoch: 1, step, .. }) => assert!((1..=3).contains(&step)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refuses_bad_settings_and_sets() {
    let (network, set) = material(Depth::Vgg5, 8, Encoder::Direct);
    let cases: [(&str, EncryptConfig); 7] = [
        (
            "timesteps",
            EncryptConfig {
                timesteps: 0,
                ..config()
            },
        ),
        (
            "epochs",
            EncryptConfig {
                epochs: 0,
                ..config()
            },
        ),
        (
            "batch",
            EncryptConfig {
                batch: 0,
                ..config()
            },
        ),
        (
            "micro_batch",
            EncryptConfig {
                micro_batch: Some(0),
                ..config()
            },
        ),
        (
            "learning_rate",
            EncryptConfig {
                learning_rate: -1.0,
                ..config()
            },
        ),
        (
            "distillation_weight",
            EncryptConfig {
                distillation_weight: 1.1,
                ..config()
            },
        ),
        (
            "distillation_temperature",
            EncryptConfig {
                distillation_temperature: f64::NAN,
                ..config()
            },
        ),
    ];
    for (field, config) in cases {
        match Encryption::new(&network, config, Seed::new(1)) {
            Err(Error::Argument { name, .. }) => assert_eq!(name, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let mut broken = set.clone();
    broken.logits = (&broken.logits / 0.0).expect("not finite");
    let mut encryption = start(&network, &config());
    assert!(encryption.epoch(&broken, &mut silent).is_err());
    let (_, larger) = material(Depth::Vgg5, 12, Encoder::Direct);
    assert!(encryption.epoch(&larger, &mut silent).is_err());
    // a refused set is no epoch: the right one can follow
    encryption.epoch(&set, &mut silent).expect("an epoch");

    let read = |text| serde_json::from_str::<EncryptConfig>(text);
    assert_eq!(read("{}").expect("defaults"), EncryptConfig::default());
    assert!(read(r#"{"epoch": 3}"#).is_err());
}
