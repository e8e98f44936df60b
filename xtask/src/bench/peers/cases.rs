//! What is compared, and on which sizes.

use std::path::Path;

use serde_json::{Value, json};

/// One work, done by several sides.
#[derive(Debug, Clone)]
pub struct Work {
    /// The work and its sizes.
    pub id: String,
    /// Those who do it besides us.
    pub peers: Vec<&'static str>,
    /// Which side writes the inputs.
    pub provider: &'static str,
    /// What the sides are told, the same for all.
    pub work: Value,
    /// By how much outputs may differ, relative to the largest number, by the first word of their names.
    pub tolerances: &'static [(&'static str, f64)],
}

/// The side that is compared with the others.
pub const OURS: &str = "ours";
/// Stock candle, by the same program as ours.
pub const CANDLE: &str = "candle";
/// PyTorch.
pub const TORCH: &str = "torch";
/// SpikingJelly in multi-step mode, over PyTorch.
pub const SPIKINGJELLY: &str = "spikingjelly";

/// Sums of some thousand products in f32, in another order or from a transformed convolution.
const SUMS: f64 = 1e-4;

/// Where a membrane is at the threshold but for rounding, sides differ by a spike now and then.
const RATES: &[(&str, f64)] = &[("rates", 5e-3), ("logits", 2e-1), ("predictions", 0.07)];

const VGG11: [usize; 13] = [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0];
const VGG16: [usize; 18] = [
    64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0,
];

/// All cases that need nothing but the programs.
pub fn all() -> Vec<Work> {
    let mut all = vec![convolutions(16)];
    all.extend([("if", 1.0, 0.8), ("lif", 0.5, 1.2)].map(neurons));
    all.extend([converted("vgg11", &VGG11), converted("vgg16", &VGG16)]);
    all.push(Work {
        id: "bptt/vgg11/T8xN16".into(),
        peers: vec![SPIKINGJELLY],
        provider: OURS,
        work: json!({
            "kind": "bptt", "topology": topology("vgg11", &VGG11), "timesteps": 8, "batch": 16,
            "learning_rate": 1e-3, "momentum": 0.0,
        }),
        // a membrane that is at the threshold but for rounding spikes on one side only, and in a random network one spike
        // changes most of what follows in its image: the gradients are those of ordered sums, and of what is timed the loss
        // is compared
        tolerances: &[("loss", SUMS), ("timed", 1e-2), ("gradient", 1e-3)],
    });
    all.push(Work {
        id: "train/vgg16/N64".into(),
        peers: vec![TORCH],
        provider: OURS,
        work: json!({
            "kind": "ann", "topology": topology("vgg16", &VGG16), "batch": 64,
            "learning_rate": 1e-3, "momentum": 0.9,
        }),
        // a rectifier passes on an input that is zero but for rounding on one side only
        tolerances: &[("loss", SUMS), ("gradient", 5e-2)],
    });
    all.push(Work {
        id: "train/resnet20/N128".into(),
        peers: vec![TORCH],
        provider: OURS,
        work: json!({
            "kind": "ann", "topology": residual(3), "batch": 128, "learning_rate": 1e-3,
            "momentum": 0.9,
        }),
        tolerances: &[("loss", SUMS), ("gradient", 5e-2)],
    });
    all.push(scaling());
    all
}

/// A random network that SpikingJelly has converted.
fn converted(name: &str, plan: &[usize]) -> Work {
    Work {
        id: format!("infer/{name}/T32xN16"),
        peers: vec![SPIKINGJELLY],
        provider: SPIKINGJELLY,
        work: json!({
            "kind": "convert", "topology": topology(name, plan), "timesteps": 32, "batch": 16,
        }),
        tolerances: RATES,
    }
}

/// A network that the program has saved, on images of CIFAR-10.
pub fn stored(network: &Path, images: &Path) -> [Work; 2] {
    [32, 100].map(|timesteps| Work {
        id: format!("infer/network/T{timesteps}xN16"),
        peers: vec![SPIKINGJELLY],
        provider: OURS,
        work: json!({
            "kind": "network", "network": network, "images": images, "timesteps": timesteps,
            "batch": 16,
        }),
        tolerances: RATES,
    })
}

/// Our event-driven engine against itself: its time should grow with the events; and beside the dense engine.
fn scaling() -> Work {
    let rates = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0].map(|rate| (rate, 32, false));
    let windows = [8, 16, 64, 128].map(|timesteps| (0.1, timesteps, false));
    let dense = [0.1, 1.0].map(|rate| (rate, 32, true));
    let points = rates.iter().chain(&windows).chain(&dense);
    let points = points.map(|&(rate, timesteps, dense)| {
        let kind = if dense { "dense-" } else { "" };
        let name = format!("{kind}rate{:.0}%xT{timesteps}", rate * 100.0);
        json!({ "name": name, "rate": rate, "timesteps": timesteps, "dense": dense })
    });
    Work {
        id: "scaling/events/C128x16x16-k3xN16".into(),
        peers: Vec::new(),
        provider: OURS,
        work: json!({
            "kind": "scaling", "channels": 128, "side": 16, "batch": 16,
            "points": points.collect::<Vec<_>>(),
        }),
        tolerances: &[],
    }
}

fn convolutions(batch: usize) -> Work {
    let (mut layers, mut from, mut side) = (Vec::new(), 3, 32);
    for to in VGG16 {
        if to == 0 {
            side /= 2;
        } else {
            layers.push([from, to, side]);
            from = to;
        }
    }
    Work {
        id: format!("conv2d/vgg16/N{batch}"),
        peers: vec![TORCH, CANDLE],
        provider: OURS,
        work: json!({ "kind": "conv2d", "batch": batch, "layers": layers }),
        tolerances: &[("y", SUMS), ("to_input", SUMS), ("to_weight", SUMS)],
    }
}

/// The largest current makes a population fire at a rate near a third.
fn neurons((name, leak, largest_current): (&str, f64, f64)) -> Work {
    Work {
        id: format!("neuron/{name}/T16xN32xC128x16x16"),
        peers: vec![SPIKINGJELLY],
        provider: OURS,
        work: json!({
            "kind": "neuron", "shape": [16, 32, 128, 16, 16], "leak": leak,
            "largest_current": largest_current,
        }),
        // every operation of the membrane is rounded alike, so that the spikes are the same
        tolerances: &[("spikes", 0.0), ("gradient", 1e-5)],
    }
}

/// Convolutions with biases, each followed by an activation, average pools and a linear layer, for images `[3, 32, 32]`.
fn topology(name: &str, plan: &[usize]) -> Value {
    let (mut layers, mut channels) = (Vec::new(), 3);
    for &next in plan {
        if next == 0 {
            layers.push(json!({ "kind": "avg_pool2d", "kernel": 2 }));
            continue;
        }
        layers.push(json!({
            "kind": "conv2d", "in_channels": channels, "out_channels": next, "kernel": 3,
            "stride": 1, "padding": 1, "bias": true,
        }));
        layers.push(json!({ "kind": "activation", "function": "relu" }));
        channels = next;
    }
    layers.push(json!({ "kind": "flatten" }));
    layers.push(json!({
        "kind": "linear", "in_features": channels, "out_features": 10, "bias": true,
    }));
    json!({ "name": name, "input": [3, 32, 32], "layers": layers })
}

/// The residual network of so many blocks a stage, with batch norm, as `ann` builds it.
fn residual(blocks: usize) -> Value {
    fn convolution(layers: &mut Vec<Value>, [from, to]: [usize; 2], stride: usize) {
        layers.push(json!({
            "kind": "conv2d", "in_channels": from, "out_channels": to, "kernel": 3, "stride": stride,
            "padding": 1, "bias": false,
        }));
        layers.push(json!({ "kind": "batch_norm", "channels": to, "epsilon": 1e-5 }));
    }
    let activation = json!({ "kind": "activation", "function": "relu" });
    let (mut layers, mut channels) = (Vec::new(), 16);
    convolution(&mut layers, [3, channels], 1);
    layers.push(activation.clone());
    for next in [16, 32, 64] {
        for _ in 0..blocks {
            let (from, stride) = (layers.len() - 1, next / channels);
            convolution(&mut layers, [channels, next], stride);
            layers.push(activation.clone());
            convolution(&mut layers, [next, next], 1);
            layers.push(json!({
                "kind": "shortcut", "from": from, "channels": channels, "kernel": stride,
            }));
            layers.push(activation.clone());
            channels = next;
        }
    }
    layers.push(json!({ "kind": "avg_pool2d", "kernel": 8 }));
    layers.push(json!({ "kind": "flatten" }));
    layers.push(json!({
        "kind": "linear", "in_features": channels, "out_features": 10, "bias": true,
    }));
    json!({ "name": "resnet20", "input": [3, 32, 32], "layers": layers })
}

impl Work {
    /// All sides, ours first.
    pub fn sides(&self) -> impl Iterator<Item = &'static str> + '_ {
        std::iter::once(OURS).chain(self.peers.iter().copied())
    }

    /// By how much the output `name` may differ.
    pub fn tolerance(&self, name: &str) -> f64 {
        let first = name.split('.').next().unwrap_or(name);
        let given = self.tolerances.iter().find(|(output, _)| *output == first);
        given.map_or(0.0, |(_, tolerance)| *tolerance)
    }
}

/// Whether a side is a process of Python.
pub fn is_python(side: &str) -> bool {
    matches!(side, TORCH | SPIKINGJELLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_differ_by_id_and_are_provided_by_one_of_their_sides() {
        let all = all();
        for (i, case) in all.iter().enumerate() {
            assert!(
                case.sides().any(|side| side == case.provider),
                "{}",
                case.id
            );
            assert!(
                all[..i].iter().all(|other| other.id != case.id),
                "{}",
                case.id
            );
        }
    }

    #[test]
    fn the_convolutions_are_those_of_vgg16() {
        let layers = convolutions(16).work["layers"].clone();
        assert_eq!(layers.as_array().unwrap().len(), 13);
        assert_eq!(layers[0], json!([3, 64, 32]));
        assert_eq!(layers[12], json!([512, 512, 2]));
    }

    #[test]
    fn an_output_that_is_not_named_must_be_equal() {
        let case = convolutions(16);
        assert_eq!(case.tolerance("y.3"), SUMS);
        assert_eq!(case.tolerance("other"), 0.0);
    }
}
