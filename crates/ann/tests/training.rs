//! Training: against PyTorch, across interruptions and thread counts, and refusals.

use std::collections::BTreeMap;
use std::path::Path;

use ann::{
    Ann, Augment, Depth, EpochLog, Error, NetworkConfig, OptimiserConfig, Schedule, TrainConfig,
    Trainer, evaluate, logits, loss,
};
use candle_core::{DType, Device, Tensor};
use snn_core::progress::{Flow, Progress, silent};
use snn_core::rng::Seed;
use snn_core::{ActivationFunction, Layer, Parameters, Topology};

type Data = (Tensor, Tensor);

/// A convolution, batch norm, ReLU, pool, dropout, linear.
fn topology(dropout: f64) -> Topology {
    let layers = vec![
        Layer::Conv2d {
            in_channels: 2,
            out_channels: 4,
            kernel: 3,
            stride: 1,
            padding: 1,
            bias: false,
        },
        Layer::BatchNorm {
            channels: 4,
            epsilon: 1e-5,
        },
        Layer::Activation {
            function: ActivationFunction::Relu,
        },
        Layer::AvgPool2d { kernel: 2 },
        Layer::Dropout {
            probability: dropout,
        },
        Layer::Flatten,
        Layer::Linear {
            in_features: 64,
            out_features: 3,
            bias: true,
        },
    ];
    Topology::new("small", [2, 8, 8], layers).expect("layers fit")
}

/// Noise, with a bright square whose place is the class.
fn data(count: usize) -> Data {
    let mut stream = Seed::new(5).stream();
    let mut pixels: Vec<u8> = (0..count * 128).map(|_| stream.below(100) as u8).collect();
    let labels: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
    for (image, &label) in pixels.chunks_mut(128).zip(&labels) {
        for y in 0..3 {
            for x in 0..2 {
                image[(y + 3) * 8 + x + 2 * label as usize + 1] = 255;
            }
        }
    }
    let images = Tensor::from_vec(pixels, (count, 2, 8, 8), &Device::Cpu).expect("a tensor");
    (
        images,
        Tensor::from_vec(labels, count, &Device::Cpu).expect("a tensor"),
    )
}

fn config() -> TrainConfig {
    TrainConfig {
        epochs: 4,
        batch: 16,
        learning_rate: 0.05,
        schedule: Schedule::Cosine {
            warmup: 0.1,
            floor: 0.01,
        },
        augment: Augment {
            crop_padding: 1,
            flip: false,
        },
        label_smoothing: 0.05,
        gradient_clip: Some(2.0),
        ..TrainConfig::default()
    }
}

fn start(config: TrainConfig, seed: Seed) -> Trainer {
    let ann = Ann::initialise(topology(0.2), seed.derive("init"), &Device::Cpu).expect("a network");
    Trainer::new(&ann, config, seed).expect("a trainer")
}

fn epochs(trainer: &mut Trainer, count: usize, (images, labels): &Data) -> Vec<EpochLog> {
    let epoch = |_| {
        trainer
            .epoch(images, labels, Some((images, labels)), &mut silent)
            .expect("an epoch")
    };
    (0..count).map(epoch).collect()
}

fn saved(trainer: &Trainer, path: &Path) -> Vec<u8> {
    trainer.save(path).expect("saved");
    std::fs::read(path).expect("read")
}

type Change = fn(&mut TrainConfig);

#[test]
fn an_interruption_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.safetensors");
    let seed = Seed::new(7);
    // 35 images in batches of 16: the last batch has 3
    let data = data(35);
    for optimiser in [OptimiserConfig::sgd(), OptimiserConfig::adam()] {
        let config = TrainConfig {
            optimiser,
            ..config()
        };
        let run = || {
            let mut straight = start(config.clone(), seed);
            let logs = epochs(&mut straight, 4, &data);
            assert!(straight.is_finished());
            (saved(&straight, &path), logs)
        };
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool")
        };
        let (whole, logs) = pool(1).install(run);
        assert!(
            whole == pool(2).install(run).0,
            "the number of threads changes the result"
        );

        let mut first = start(config.clone(), seed);
        epochs(&mut first, 2, &data);
        first.save(&path).expect("saved");
        // work beyond the saved state is lost, and does no harm
        epochs(&mut first, 1, &data);
        let mut second = Trainer::resume(&path, &topology(0.2), config.clone(), seed, &Device::Cpu)
            .expect("resumed");
        assert_eq!(second.epochs_done(), 2);
        epochs(&mut second, 2, &data);
        assert_eq!(second.history(), logs);
        assert!(
            whole == saved(&second, &path),
            "resuming changes the result"
        );

        let mut other = start(config.clone(), Seed::new(8));
        epochs(&mut other, 4, &data);
        assert!(whole != saved(&other, &path), "the seed does not matter");
    }
}

#[test]
fn other_settings_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.safetensors");
    let seed = Seed::new(7);
    start(config(), seed).save(&path).expect("saved");
    let refused = |topology: Topology, config: TrainConfig, seed: Seed, expected: &str| {
        let error =
            Trainer::resume(&path, &topology, config, seed, &Device::Cpu).expect_err("refused");
        let message = error.to_string();
        assert!(
            message.contains(expected) && message.contains("state.safetensors"),
            "{message}"
        );
    };
    let other_rule = TrainConfig {
        optimiser: OptimiserConfig::Sgd {
            momentum: 0.8,
            weight_decay: 5e-4,
            nesterov: false,
        },
        ..config()
    };
    refused(
        topology(0.2),
        other_rule,
        seed,
        "config.optimiser.momentum = 0.9, asked for is 0.8",
    );
    let longer = TrainConfig {
        epochs: 5,
        ..config()
    };
    refused(
        topology(0.2),
        longer,
        seed,
        "config.epochs = 4, asked for is 5",
    );
    refused(
        topology(0.3),
        config(),
        seed,
        "topology.layers[4].probability = 0.2, asked for is 0.3",
    );
    refused(
        topology(0.2),
        config(),
        Seed::new(9),
        "seed = 7, asked for is 9",
    );
}

#[test]
fn a_damaged_state_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.safetensors");
    let seed = Seed::new(7);
    let trainer = start(config(), seed);
    let whole = saved(&trainer, &path);
    let resume = || {
        Trainer::resume(&path, &topology(0.2), config(), seed, &Device::Cpu)
            .expect_err("refused")
            .to_string()
    };
    std::fs::write(&path, &whole[..whole.len() - 5]).expect("written");
    assert!(resume().contains("state.safetensors"));
    // the last tensor of the file is a moment or a weight: NaN in its last number
    let mut bytes = whole.clone();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &bytes).expect("written");
    let message = resume();
    assert!(
        message.contains("not finite") && message.contains("state.safetensors"),
        "{message}"
    );
    trainer
        .ann()
        .frozen()
        .and_then(|ann| ann.save(&path))
        .expect("saved");
    assert!(resume().contains("describes something else"));
    std::fs::remove_file(&path).expect("removed");
    assert!(resume().contains("state.safetensors"));
}

#[test]
fn a_stop_within_an_epoch_keeps_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.safetensors");
    let seed = Seed::new(7);
    let (images, labels) = data(64);
    let mut trainer = start(config(), seed);
    epochs(&mut trainer, 1, &(images.clone(), labels.clone()));
    let before = saved(&trainer, &path);
    let mut seen = Vec::new();
    let mut watch = |progress: &Progress| {
        seen.push((
            progress.unit.clone(),
            progress.done,
            progress.total,
            progress.note.clone(),
        ));
        if progress.done == 2 {
            Flow::Stop
        } else {
            Flow::Continue
        }
    };
    let error = trainer
        .epoch(&images, &labels, None, &mut watch)
        .expect_err("stopped");
    assert!(
        matches!(error, Error::Core(snn_core::Error::Interrupted)),
        "{error}"
    );
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[1].0.as_str(), seen[1].1, seen[1].2),
        ("epoch 2/4, batch", 2, 4)
    );
    assert!(seen[1].3.starts_with("loss "), "{}", seen[1].3);
    // a state within an epoch can neither be saved nor continued
    assert!(trainer.save(&path).is_err());
    assert!(trainer.epoch(&images, &labels, None, &mut silent).is_err());
    assert_eq!(std::fs::read(&path).expect("read"), before);
    assert!(Trainer::resume(&path, &topology(0.2), config(), seed, &Device::Cpu).is_ok());
}

#[test]
fn a_threshold_that_falls_to_nothing_is_an_error() {
    let (images, labels) = data(64);
    let plan = NetworkConfig {
        width: 0.05,
        hidden: 8,
        levels: 4,
        ..NetworkConfig::paper(Depth::Vgg5)
    };
    let hot = TrainConfig {
        learning_rate: 30.0,
        gradient_clip: None,
        ..config()
    };
    let topology = plan.topology([2, 8, 8], 3).expect("a network");
    let ann = Ann::initialise(topology, Seed::new(1), &Device::Cpu).expect("weights");
    let mut trainer = Trainer::new(&ann, hot, Seed::new(1)).expect("a trainer");
    let error = trainer
        .epoch(&images, &labels, None, &mut silent)
        .expect_err("diverged");
    let said = error.to_string();
    assert!(
        matches!(error, Error::Threshold { epoch: 1, threshold, .. } if threshold <= 0.0),
        "{said}"
    );
    assert!(said.contains("lower the learning rate"), "{said}");
}

#[test]
fn divergence_is_an_error() {
    let (images, labels) = data(64);
    let hot = TrainConfig {
        learning_rate: 1e30,
        gradient_clip: None,
        ..config()
    };
    let error = start(hot, Seed::new(1))
        .epoch(&images, &labels, None, &mut silent)
        .expect_err("diverged");
    assert!(matches!(error, Error::Diverged { epoch: 1, .. }), "{error}");
    // the only step ruins the weights, whose loss nobody sees
    let once = TrainConfig {
        learning_rate: f64::from(f32::MAX),
        gradient_clip: None,
        batch: 64,
        epochs: 1,
        schedule: Schedule::Constant {},
        optimiser: OptimiserConfig::Sgd {
            momentum: 0.0,
            weight_decay: 10.0,
            nesterov: false,
        },
        ..config()
    };
    let error = start(once, Seed::new(1))
        .epoch(&images, &labels, None, &mut silent)
        .expect_err("diverged");
    assert!(
        matches!(
            error,
            Error::Diverged {
                epoch: 1,
                step: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn it_learns_and_negative_smoothing_does_too() {
    let data = data(120);
    for label_smoothing in [0.1, -0.5] {
        let config = TrainConfig {
            label_smoothing,
            epochs: 6,
            ..config()
        };
        let mut trainer = start(config, Seed::new(2));
        let logs = epochs(&mut trainer, 6, &data);
        assert!(logs[5].loss < logs[0].loss);
        let accuracy = logs[5]
            .validation_accuracy
            .expect("validation images were given");
        assert!(accuracy > 0.9, "{label_smoothing}: {accuracy}");
        assert!(logs[5].learning_rate < logs[1].learning_rate);
        // validation on bytes and on normalised images is the same
        let normalised = ann::augment::normalise(&data.0).expect("normalised");
        for images in [&data.0, &normalised] {
            let again = evaluate(trainer.ann(), images, &data.1, 17).expect("evaluated");
            assert!((again - accuracy).abs() < 1e-8);
        }
    }
}

#[test]
fn logits_do_not_depend_on_the_batch() {
    let (images, _) = data(20);
    let ann = Ann::initialise(topology(0.2), Seed::new(3), &Device::Cpu).expect("a network");
    let rows = |batch| {
        logits(&ann, &images, batch)
            .expect("logits")
            .to_vec2::<f32>()
            .expect("rows")
    };
    let bits = |batch| -> Vec<u32> {
        rows(batch)
            .into_iter()
            .flatten()
            .map(f32::to_bits)
            .collect()
    };
    let all = bits(64);
    for batch in [1, 7] {
        assert_eq!(bits(batch), all, "batches of {batch}");
    }
    assert!(logits(&ann, &images, 0).is_err());
    for bad in [1.5, f64::NAN] {
        let normalised = ann::augment::normalise(&images).expect("normalised");
        // only the last image is bad
        let last = (normalised.narrow(0, 19, 1))
            .and_then(|image| (image * 0.0)? + bad)
            .expect("an image");
        let bad = Tensor::cat(&[&normalised.narrow(0, 0, 19).expect("a part"), &last], 0);
        let error = logits(&ann, &bad.expect("images"), 8).expect_err("not an image");
        let message = error.to_string();
        assert!(
            message.contains("must lie in [-1, 1], image 19"),
            "{message}"
        );
    }
    // finite weights whose products with bright pixels are not
    let images = Tensor::full(255u8, images.dims(), &Device::Cpu).expect("images");
    let mut tensors = ann.parameters().tensors().clone();
    for tensor in tensors.values_mut() {
        *tensor = Tensor::full(1e38f32, tensor.dims(), &Device::Cpu).expect("a tensor");
    }
    let parameters = Parameters::new(ann.topology(), tensors).expect("finite weights");
    let error = logits(&Ann::new(topology(0.2), parameters), &images, 8).expect_err("overflow");
    assert!(error.to_string().contains("not finite"), "{error}");
    assert!(
        evaluate(
            &ann,
            &images,
            &Tensor::new(&[0u32], &Device::Cpu).expect("a tensor"),
            8
        )
        .is_err()
    );
}

#[test]
fn bad_input_is_refused() {
    let (images, labels) = data(12);
    let fresh = || start(config(), Seed::new(1));
    let refused = |images: &Tensor, labels: &Tensor, expected: &str| {
        let error = fresh()
            .epoch(images, labels, None, &mut silent)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(expected), "{error}");
    };
    let cast = |tensor: &Tensor, dtype| tensor.to_dtype(dtype).expect("cast");
    refused(&cast(&images, DType::F32), &labels, "images: needs u8");
    refused(
        &images.flatten_from(2).expect("flat"),
        &labels,
        "images: needs u8",
    );
    refused(&images, &cast(&labels, DType::U8), "labels: needs u32");
    refused(
        &images,
        &labels.narrow(0, 0, 5).expect("part"),
        "labels: needs u32 [12]",
    );
    refused(&images, &(&labels + 1.0).expect("sum"), "is not below 3");
    let one = (
        images.narrow(0, 0, 1).expect("part"),
        labels.narrow(0, 0, 1).expect("part"),
    );
    refused(&one.0, &one.1, "batch norm needs at least 2 images");

    // bad validation data is found before the first step
    let refused = |validation: (&Tensor, &Tensor), expected: &str| {
        let mut trainer = fresh();
        let mut watch = |_: &Progress| panic!("a step was made");
        let error = trainer
            .epoch(&images, &labels, Some(validation), &mut watch)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(expected), "{error}");
        // nothing has happened yet
        trainer
            .epoch(&images, &labels, None, &mut silent)
            .expect("an epoch");
    };
    let message = "validation images: needs u8 or f32 [N, 2, 8, 8]";
    refused((&cast(&images, DType::F64), &labels), message);
    refused((&images.narrow(2, 0, 4).expect("part"), &labels), message);
    let few = labels.narrow(0, 0, 5).expect("part");
    refused((&images, &few), "validation labels: needs u32 [12]");
    let beyond = (&labels + 1.0).expect("sum");
    refused((&images, &beyond), "is not below 3");

    let ann = Ann::initialise(topology(0.0), Seed::new(1), &Device::Cpu).expect("a network");
    let wrong: [(&str, Change); 8] = [
        ("epochs", |c| c.epochs = 0),
        ("batch", |c| c.batch = 0),
        ("batch: batch norm needs", |c| c.batch = 1),
        ("learning_rate", |c| c.learning_rate = f64::NAN),
        ("label_smoothing", |c| c.label_smoothing = 1.0),
        ("gradient_clip", |c| c.gradient_clip = Some(0.0)),
        ("augment.crop_padding", |c| c.augment.crop_padding = 9),
        ("batch_norm_momentum", |c| c.batch_norm_momentum = 0.0),
    ];
    for (name, change) in wrong {
        let mut config = config();
        change(&mut config);
        let error = Trainer::new(&ann, config, Seed::new(1))
            .expect_err("refused")
            .to_string();
        assert!(error.starts_with(name), "{error}");
    }
    for smoothing in [1.0, f64::NAN, f64::NEG_INFINITY] {
        let scores = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).expect("a tensor");
        assert!(
            loss::cross_entropy(&scores, &labels.narrow(0, 0, 1).expect("part"), smoothing)
                .is_err()
        );
    }
}

#[test]
fn a_last_batch_of_one_is_left_out_with_batch_norm() {
    // 17 images in batches of 16
    let (images, labels) = data(17);
    let count = |topology: Topology| {
        let ann = Ann::initialise(topology, Seed::new(1), &Device::Cpu).expect("a network");
        let mut batches = 0;
        let mut watch = |progress: &Progress| {
            batches = progress.total;
            Flow::Continue
        };
        let mut trainer = Trainer::new(&ann, config(), Seed::new(1)).expect("a trainer");
        trainer
            .epoch(&images, &labels, None, &mut watch)
            .expect("an epoch");
        batches
    };
    assert_eq!(count(topology(0.0)), 1);
    let linear = Layer::Linear {
        in_features: 128,
        out_features: 3,
        bias: true,
    };
    assert_eq!(
        count(
            Topology::new("linear", [2, 8, 8], vec![Layer::Flatten, linear]).expect("layers fit")
        ),
        2
    );
}

/// See `golden/training.py`.
#[test]
fn ten_epochs_follow_pytorch() -> candle_core::Result<()> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/training.safetensors"
    );
    let golden = candle_core::safetensors::load(path, &Device::Cpu)?;
    // their network has no dropout: its linear layer is the sixth
    let mut layers = topology(0.0).layers().to_vec();
    layers.remove(4);
    let topology = Topology::new("golden", [2, 8, 8], layers).expect("layers fit");
    let part = |prefix: &str| -> BTreeMap<String, Tensor> {
        let wanted = golden.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(prefix)?.to_string(), tensor.clone()))
        });
        wanted.collect()
    };
    let parameters = Parameters::new(&topology, part("first/")).expect("their first weights");
    let config = TrainConfig {
        epochs: 10,
        batch: 24,
        learning_rate: 0.2,
        augment: Augment::default(),
        label_smoothing: 0.1,
        ..TrainConfig::default()
    };
    let mut trainer =
        Trainer::new(&Ann::new(topology, parameters), config, Seed::new(0)).expect("a trainer");
    let labels = &golden["labels"];
    for theirs in golden["losses"].to_vec1::<f64>()? {
        let log = trainer
            .epoch(&golden["images"], labels, None, &mut silent)
            .expect("an epoch");
        assert!(
            (log.loss - theirs).abs() < 1e-4 * theirs.max(1.0),
            "{log:?}: {theirs}"
        );
    }
    let largest = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f32>();
    for (name, theirs) in part("last/") {
        let error = largest(&trainer.ann().parameters().tensors()[&name], &theirs)?;
        assert!(error < 2e-4, "{name}: {error}");
    }
    let ours = logits(trainer.ann(), &golden["images"], 24).expect("logits");
    let error = largest(&ours, &golden["logits"])?;
    assert!(error < 2e-3, "logits: {error}");
    Ok(())
}

#[test]
fn a_vgg_trains() {
    for levels in [0, 8] {
        let vgg = NetworkConfig {
            width: 0.05,
            hidden: 8,
            batch_norm: true,
            levels,
            ..NetworkConfig::paper(Depth::Vgg5)
        };
        let topology = vgg.topology([2, 8, 8], 3).expect("a network");
        let activations = topology.activations();
        let ann = Ann::initialise(topology, Seed::new(1), &Device::Cpu).expect("weights");
        let mut trainer = Trainer::new(&ann, config(), Seed::new(1)).expect("a trainer");
        let logs = epochs(&mut trainer, 4, &data(40));
        let losses: Vec<f64> = logs.iter().map(|log| log.loss).collect();
        assert!(losses[3] < 0.9 * losses[0], "{levels} levels: {losses:?}");
        // a trained threshold for each activation of the staircase, which has moved
        for layer in activations {
            let [before, after] = [&ann, trainer.ann()].map(|ann| {
                let threshold = ann.parameters().threshold(layer);
                threshold
                    .ok()
                    .map(|t| t.to_vec1::<f32>().expect("one number")[0])
            });
            assert_eq!(before.is_some(), levels > 0);
            assert!(levels == 0 || before != after, "layer {layer}: {before:?}");
        }
    }
}
