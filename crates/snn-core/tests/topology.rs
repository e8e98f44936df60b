//! What a layer list may not be, whether made in code or read from a file.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use serde_json::json;
use snn_core::{ActivationFunction, Layer, Parameters, Topology};

const RELU: Layer = Layer::Activation {
    function: ActivationFunction::Relu,
};

fn conv(kernel: usize, padding: usize) -> Layer {
    Layer::Conv2d {
        in_channels: 2,
        out_channels: 3,
        kernel,
        stride: 1,
        padding,
        bias: false,
    }
}

fn linear(in_features: usize, out_features: usize) -> Layer {
    Layer::Linear {
        in_features,
        out_features,
        bias: false,
    }
}

fn refused(input: [usize; 3], layers: Vec<Layer>) -> String {
    Topology::new("bad", input, layers)
        .expect_err("a bad topology")
        .to_string()
}

#[test]
fn settings_outside_their_domain_are_refused() {
    let message = refused([2, 4, 4], vec![Layer::Flatten, linear(32, 0)]);
    assert!(
        message.contains("layer 1 (linear): out_features"),
        "{message}"
    );
    // also where it is not the last layer
    let message = refused([2, 4, 4], vec![Layer::Flatten, linear(32, 0), linear(0, 3)]);
    assert!(
        message.contains("layer 1 (linear): out_features"),
        "{message}"
    );
    for epsilon in [0.0, -1e-5, f64::NAN, f64::INFINITY] {
        let norm = Layer::BatchNorm {
            channels: 2,
            epsilon,
        };
        let message = refused([2, 4, 4], vec![norm, Layer::Flatten, linear(32, 3)]);
        assert!(
            message.contains("layer 0 (batch_norm): epsilon must be positive"),
            "{message}"
        );
    }
}

#[test]
fn sizes_that_overflow_are_refused() {
    let half = usize::MAX / 2 + 1;
    for padding in [half, usize::MAX, half - 2] {
        let message = refused(
            [2, 4, 4],
            vec![conv(3, padding), Layer::Flatten, linear(1, 3)],
        );
        assert!(message.contains("layer 0 (conv2d)"), "{padding}: {message}");
    }
    // an output that is too large without a layer that would have to count it
    let message = refused(
        [2, 4, 4],
        vec![conv(3, 1 << 30), Layer::AvgPool2d { kernel: 2 }],
    );
    assert!(message.contains("layer 0 (conv2d): output"), "{message}");
    let message = refused(
        [1 << 22, 1 << 21, 1 << 21],
        vec![Layer::Flatten, linear(1, 3)],
    );
    assert!(message.contains("input"), "{message}");
    let message = refused([2, 4, 4], vec![Layer::Flatten, linear(32, usize::MAX)]);
    assert!(message.contains("layer 1 (linear): weight"), "{message}");
    let wide = Layer::Conv2d {
        in_channels: 1,
        out_channels: 1,
        kernel: 1 << 19,
        stride: 1,
        padding: (1 << 19) - 1,
        bias: false,
    };
    // 2^38 weights at more than 2^38 places
    let message = refused([1, 2, 2], vec![wide, Layer::Flatten]);
    assert!(
        message.contains("layer 0 (conv2d): the network is too large"),
        "{message}"
    );
}

#[test]
fn unknown_fields_are_refused() {
    let whole = json!({
        "name": "tiny",
        "input": [2, 4, 4],
        "layers": [
            { "kind": "flatten" },
            { "kind": "linear", "in_features": 32, "out_features": 3, "bias": true },
        ],
    });
    let topology: Topology = serde_json::from_value(whole.clone()).expect("a topology");
    assert_eq!(serde_json::to_value(&topology).expect("JSON"), whole);
    for place in ["", "/layers/0", "/layers/1"] {
        let mut json = whole.clone();
        json.pointer_mut(place).expect("an object")["extra"] = 1.into();
        let error = serde_json::from_value::<Topology>(json).expect_err("an unknown field");
        assert!(
            error.to_string().contains("unknown field `extra`"),
            "`{place}`: {error}"
        );
    }
}

#[test]
fn a_negative_variance_is_refused() {
    let norm = Layer::BatchNorm {
        channels: 2,
        epsilon: 1e-5,
    };
    let topology = Topology::new("norm", [2, 1, 1], vec![norm, Layer::Flatten, linear(2, 1)])
        .expect("a topology");
    let made = |variance: f32| {
        let tensors: BTreeMap<String, Tensor> = topology
            .tensor_shapes()
            .into_iter()
            .map(|(name, shape)| {
                let mut values = vec![-1f32; shape.iter().product()];
                if name.ends_with("running_var") {
                    values = vec![0.0, variance];
                }
                let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
                (name, tensor)
            })
            .collect();
        Parameters::new(&topology, tensors)
    };
    made(0.0).expect("no variance at all");
    let message = made(-0.5).expect_err("a negative variance").to_string();
    assert!(
        message.contains("layer 0 (batch_norm)") && message.contains("negative variance -0.5"),
        "{message}"
    );
}

#[test]
fn layers_are_named_after_their_weights() {
    let layers = vec![
        Layer::Dropout { probability: 0.5 },
        conv(3, 1),
        Layer::AvgPool2d { kernel: 2 },
        Layer::Flatten,
        linear(12, 5),
        linear(5, 3),
    ];
    let topology = Topology::new("named", [2, 4, 4], layers).expect("a topology");
    let names: Vec<String> = (0..6).map(|i| topology.layer_name(i)).collect();
    assert_eq!(
        names,
        ["input", "conv1", "conv1", "conv1", "linear1", "linear2"]
    );
}

fn shortcut(from: usize, channels: usize, kernel: usize) -> Layer {
    Layer::Shortcut {
        from,
        channels,
        kernel,
    }
}

/// Two populations of 2 and 3 channels, and a shortcut from the first to the second.
fn residual(shortcut: Layer) -> Vec<Layer> {
    let conv = |in_channels, out_channels, stride| Layer::Conv2d {
        in_channels,
        out_channels,
        kernel: 3,
        stride,
        padding: 1,
        bias: false,
    };
    let norm = Layer::BatchNorm {
        channels: 3,
        epsilon: 1e-5,
    };
    vec![
        conv(2, 2, 1),
        RELU,
        conv(2, 3, 2),
        norm,
        shortcut,
        RELU,
        Layer::Flatten,
        linear(12, 3),
    ]
}

#[test]
fn shortcuts_have_a_scale_and_a_name() {
    let topology = Topology::new("residual", [2, 4, 4], residual(shortcut(1, 2, 2)));
    let topology = topology.expect("a topology");
    assert_eq!(topology.shapes()[4], [3, 2, 2]);
    assert!(
        topology
            .tensor_shapes()
            .contains(&("4.scale".into(), vec![2]))
    );
    // two convolutions, batch norm, the classifier
    assert_eq!(topology.parameter_count(), 36 + 54 + 6 + 36);
    assert_eq!(
        (topology.shortcuts(), topology.last_shortcut_from(1)),
        (vec![4], Some(4))
    );
    assert_eq!(topology.last_shortcut_from(5), None);
    let names = [3, 4, 5].map(|i| topology.layer_name(i));
    assert_eq!(names, ["conv2", "shortcut1", "conv2"]);
    let json = serde_json::to_value(&topology).expect("JSON");
    let back: Topology = serde_json::from_value(json).expect("a topology");
    assert_eq!(back, topology);
}

#[test]
fn shortcuts_that_do_not_fit_are_refused() {
    let whole = residual(shortcut(1, 2, 2));
    for (bad, reason) in [
        (shortcut(0, 2, 2), "layer 0 is no activation before it"),
        (shortcut(5, 3, 1), "layer 5 is no activation before it"),
        (shortcut(99, 2, 2), "layer 99 is no activation before it"),
        (shortcut(1, 3, 2), "layer 1 gives [2, 4, 4]"),
        (shortcut(1, 4, 2), "adds 4 channels to 3"),
        (shortcut(1, 2, 1), "it must give [2, 2, 2]"),
        (shortcut(1, 2, 0), "the kernel 0"),
        (shortcut(1, 2, usize::MAX), "layer 1 gives"),
    ] {
        let message = refused([2, 4, 4], residual(bad));
        assert!(
            message.contains("layer 4 (shortcut)") && message.contains(reason),
            "{message}"
        );
    }
    for place in [2, 5] {
        let mut layers = whole.clone();
        let shortcut = layers.remove(4);
        layers.insert(place, shortcut);
        let message = refused([2, 4, 4], layers);
        assert!(message.contains("must stand between"), "{message}");
    }
}
