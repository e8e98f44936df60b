//! VGGs against the figures of the method's description, residual networks against those of their authors.

use ann::{Ann, Depth, Mode, NetworkConfig};
use candle_core::{Device, Tensor, Var};
use snn_core::rng::Seed;
use snn_core::{Layer, Topology};
use testkit::{Tolerance, assert_close};

fn plan(topology: &Topology) -> String {
    let word = |layer: &Layer| match layer {
        Layer::Conv2d { out_channels, .. } => Some(out_channels.to_string()),
        Layer::AvgPool2d { .. } => Some("P".into()),
        _ => None,
    };
    topology
        .layers()
        .iter()
        .filter_map(word)
        .collect::<Vec<_>>()
        .join(",")
}

type Change = fn(&mut NetworkConfig);

#[test]
fn vgg16_has_the_published_size() {
    let vgg16 = NetworkConfig::paper(Depth::Vgg16);
    let cifar = vgg16.topology([3, 32, 32], 10).expect("a network");
    assert_eq!((cifar.macs() as f64 / 1e6).round(), 315.0);
    assert_eq!((cifar.parameter_count() as f64 / 1e4).round(), 1685.0);
    assert_eq!(cifar.neuron_count(), 280_576);
    let tiny = vgg16.topology([3, 64, 64], 200).expect("a network");
    assert_eq!((tiny.macs() as f64 / 1e6).round(), 1262.0);
    assert_eq!((tiny.parameter_count() as f64 / 1e5).round(), 239.0);
}

#[test]
fn plans_are_as_described() {
    let expected = [
        (Depth::Vgg5, "64,P,128,128,P"),
        (Depth::Vgg9, "64,64,P,128,128,P,256,256,256,P"),
        (Depth::Vgg11, "64,P,128,P,256,256,P,512,512,P,512,512"),
        (
            Depth::Vgg13,
            "64,64,P,128,128,P,256,256,P,512,512,P,512,512,P",
        ),
        (
            Depth::Vgg16,
            "64,64,P,128,128,P,256,256,256,P,512,512,512,P,512,512,512,P",
        ),
        (
            Depth::Vgg19,
            "64,64,P,128,128,P,256,256,256,256,P,512,512,512,512,P,512,512,512,512,P",
        ),
    ];
    for (depth, layers) in expected {
        let topology = NetworkConfig::paper(depth)
            .topology([3, 32, 32], 10)
            .expect("a network");
        assert_eq!(plan(&topology), layers);
    }
    let half = NetworkConfig {
        width: 0.5,
        ..NetworkConfig::paper(Depth::Vgg5)
    };
    assert_eq!(
        plan(&half.topology([3, 32, 32], 10).expect("a network")),
        "32,P,64,64,P"
    );
}

#[test]
fn dropout_stands_where_no_pool_follows() {
    let topology = NetworkConfig::paper(Depth::Vgg5)
        .topology([3, 32, 32], 10)
        .expect("a network");
    let kinds: Vec<&str> = topology.layers().iter().map(Layer::kind).collect();
    let expected = [
        "conv2d",
        "activation",
        "avg_pool2d",
        "conv2d",
        "activation",
        "dropout",
        "conv2d",
        "activation",
        "avg_pool2d",
        "flatten",
        "linear",
        "activation",
        "dropout",
        "linear",
    ];
    assert_eq!(kinds, expected);
    assert!(
        topology
            .tensor_shapes()
            .iter()
            .all(|(name, _)| name.ends_with(".weight")),
        "the paper's has no bias"
    );
}

#[test]
fn bad_settings_are_refused() {
    let paper = || NetworkConfig::paper(Depth::Vgg16);
    let wrong: [(&str, Change); 6] = [
        ("width", |c| c.width = 0.0),
        ("width", |c| c.width = 1e300),
        ("hidden", |c| c.hidden = usize::MAX),
        ("conv_dropout", |c| c.conv_dropout = f64::NAN),
        ("hidden_dropout", |c| c.hidden_dropout = -0.5),
        ("hidden_dropout", |c| c.hidden_dropout = 1.0),
    ];
    for (name, change) in wrong {
        let mut config = paper();
        change(&mut config);
        let error = config
            .topology([3, 32, 32], 10)
            .expect_err("refused")
            .to_string();
        assert!(error.starts_with(name), "{error}");
    }
    assert!(
        paper().topology([3, 28, 28], 10).is_err(),
        "the pools do not divide 28"
    );
    assert!(paper().topology([3, 32, 32], 0).is_err());
    assert!(paper().topology([0, 32, 32], 10).is_err());
}

#[test]
fn resnet20_has_the_published_size() {
    let config = NetworkConfig {
        hidden: 0,
        conv_dropout: 0.0,
        batch_norm: true,
        ..NetworkConfig::paper(Depth::Resnet20)
    };
    let topology = config.topology([3, 32, 32], 10).expect("a network");
    // 0.27 M parameters, as its authors count; 41 M multiply-adds is what others quote
    assert_eq!((topology.parameter_count() as f64 / 1e4).round(), 27.0);
    assert_eq!((topology.macs() as f64 / 1e6).round(), 41.0);
    assert_eq!(topology.weighted().len(), 20);
    let shapes = topology.shapes();
    let shortcuts = topology.shortcuts();
    let kernels: Vec<usize> = shortcuts
        .iter()
        .map(|&index| match topology.layers()[index] {
            Layer::Shortcut { kernel, .. } => kernel,
            _ => 0,
        })
        .collect();
    assert_eq!(kernels, [1, 1, 1, 2, 1, 1, 2, 1, 1]);
    let sides: Vec<&[usize]> = shortcuts.iter().map(|&index| &shapes[index][..]).collect();
    assert_eq!(
        [sides[0], sides[3], sides[8]],
        [[16, 32, 32], [32, 16, 16], [64, 8, 8]]
    );
    let with = |change: Change| {
        let mut config = config.clone();
        change(&mut config);
        config.topology([3, 32, 32], 10)
    };
    let half = with(|c| c.width = 0.5).expect("half the width");
    assert_eq!(half.shapes()[half.shortcuts()[8]], [32, 8, 8]);
    let regular = with(|c| c.conv_dropout = 0.1).expect("with dropout");
    let dropouts = regular
        .layers()
        .iter()
        .filter(|layer| layer.kind() == "dropout");
    assert_eq!(dropouts.count(), 18, "after each activation but the last");
    config.topology([3, 64, 64], 200).expect("larger images");
    let error = config.topology([3, 32, 64], 10).expect_err("not square");
    assert!(error.to_string().contains("square"), "{error}");
    let error = config
        .topology([3, 30, 30], 10)
        .expect_err("15 cannot be halved");
    assert!(error.to_string().contains("shortcut"), "{error}");
}

/// Block after block as its authors write it, with the tensor library's operations.
fn residual_by_hand(ann: &Ann, images: &Tensor) -> candle_core::Result<Tensor> {
    let tensor = |index: usize, name: &str| ann.parameters().get(index, name).expect("a tensor");
    let normalised = |index: usize, x: &Tensor, stride: usize| {
        let x = x.conv2d(tensor(index, "weight"), 1, stride, 1, 1)?;
        let of = |name: &str| tensor(index + 1, name).reshape((1, (), 1, 1));
        let x = x.broadcast_sub(&of("running_mean")?)?;
        let x = x.broadcast_div(&(of("running_var")? + 1e-5)?.sqrt()?)?;
        x.broadcast_mul(&of("gamma")?)?.broadcast_add(&of("beta")?)
    };
    let mut x = normalised(0, images, 1)?.relu()?;
    for block in 0..9 {
        let first = 3 + 7 * block;
        let halves = block == 3 || block == 6;
        let inner = normalised(first, &x, if halves { 2 } else { 1 })?.relu()?;
        let mut beside = x.clone();
        if halves {
            let channels = x.dim(1)?;
            beside = beside.avg_pool2d(2)?.pad_with_zeros(1, 0, channels)?;
        }
        x = (normalised(first + 3, &inner, 1)? + beside)?.relu()?;
    }
    let pooled = x.mean(3)?.mean(2)?;
    let last = ann.topology().layers().len() - 1;
    let scores = pooled.matmul(&tensor(last, "weight").t()?)?;
    scores.broadcast_add(tensor(last, "bias"))
}

#[test]
fn images_too_large_to_be_counted_are_refused() {
    for depth in [Depth::Vgg5, Depth::Resnet20] {
        for input in [[3, 1 << 34, 1 << 34], [1, 1 << 63, 1 << 63]] {
            let network = NetworkConfig {
                width: 64.0,
                ..NetworkConfig::paper(depth)
            };
            let refused = network.topology(input, 10);
            assert!(refused.is_err(), "{depth:?} of {input:?}");
        }
    }
}

#[test]
fn resnet20_equals_its_blocks_written_out() {
    let config = NetworkConfig {
        width: 0.25,
        hidden: 0,
        conv_dropout: 0.0,
        batch_norm: true,
        ..NetworkConfig::paper(Depth::Resnet20)
    };
    let topology = config.topology([3, 8, 8], 5).expect("a network");
    let ann = Ann::initialise(topology, Seed::new(2), &Device::Cpu).expect("weights");
    let (ann, variables) = ann.trainable().expect("variables");
    assert!(variables.iter().all(|(name, _)| !name.ends_with(".scale")));
    let images = Seed::new(3).uniform(&[4, 3, 8, 8], -1.0, 1.0, &Device::Cpu);
    let images = Var::from_tensor(&images.expect("images")).expect("a variable");
    let ours = ann.forward(&images, Mode::Inference).expect("scores");
    let theirs = residual_by_hand(&ann, &images).expect("scores");
    assert_close(&ours, &theirs, Tolerance::Rounding(2e3), "scores");
    let gradients = |scores: &Tensor| {
        let loss = scores.sqr().and_then(|scores| scores.sum_all());
        loss.and_then(|loss| loss.backward()).expect("gradients")
    };
    let (ours, theirs) = (gradients(&ours), gradients(&theirs));
    for (name, variable) in variables.iter().chain([&("images".into(), images)]) {
        let of = |gradients: &candle_core::backprop::GradStore| {
            gradients.get(variable).expect("a gradient").clone()
        };
        assert_close(&of(&ours), &of(&theirs), Tolerance::Rounding(2e4), name);
    }
}
