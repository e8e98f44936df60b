//! The layer list of a network, shared by the source network and the spiking one and stored with the weights.

use serde::{Deserialize, Deserializer, Serialize};

use crate::ops::qcfs::MAX_LEVELS;
use crate::{Error, Result};

/// One layer. In the source network an [`Layer::Activation`] is its function; in the spiking network it is a
/// population of neurons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Layer {
    /// Cross-correlation with a square kernel: `[C, H, W]` to `[O, H', W']`, `H' = (H + 2 padding - kernel) / stride + 1`.
    Conv2d {
        /// Channels in, C.
        in_channels: usize,
        /// Channels out, O.
        out_channels: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step between output positions.
        stride: usize,
        /// Zeros added at each border.
        padding: usize,
        /// Whether there is one constant per output channel.
        bias: bool,
    },
    /// Fully connected: `[F]` to `[O]`.
    Linear {
        /// Features in, F.
        in_features: usize,
        /// Features out, O.
        out_features: usize,
        /// Whether there is one constant per output feature.
        bias: bool,
    },
    /// Batch normalisation over channels; folded into the preceding weights at conversion.
    BatchNorm {
        /// Channels.
        channels: usize,
        /// Added to the variance; positive.
        epsilon: f64,
    },
    /// The non-linearity.
    Activation {
        /// Which function the source network applies.
        function: ActivationFunction,
    },
    /// Mean over non-overlapping squares.
    AvgPool2d {
        /// Side and stride of the square.
        kernel: usize,
    },
    /// Maximum over non-overlapping squares. It has no spiking counterpart here: conversion refuses it.
    MaxPool2d {
        /// Side and stride of the square.
        kernel: usize,
    },
    /// Adds the output of an earlier activation to the first channels, see [`crate::ops::shortcut`]. It follows a
    /// convolution, its batch norm or another shortcut, and an activation or another shortcut follows it.
    Shortcut {
        /// Index of the activation.
        from: usize,
        /// Its channels, C'.
        channels: usize,
        /// Side of the squares whose means are added; 1 for each number itself.
        kernel: usize,
    },
    /// `[C, H, W]` to `[C * H * W]`.
    #[serde(deserialize_with = "no_fields")]
    Flatten,
    /// Random silencing during training; the identity otherwise.
    Dropout {
        /// Probability of silencing a unit, in `[0, 1)`.
        probability: f64,
    },
}

/// Activation function of a source network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActivationFunction {
    /// `max(0, x)`.
    Relu,
    /// `x * sigmoid(x)`; conversion refuses it.
    Silu,
    /// A staircase from 0 to a trained threshold, see [`crate::ops::qcfs`]. In the spiking network it is a plain population,
    /// see [`Topology::spiking`].
    Qcfs {
        /// Number of steps, L.
        levels: usize,
    },
}

/// Refuses the unknown fields that serde lets pass beside a unit variant.
fn no_fields<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoFields {}
    NoFields::deserialize(deserializer).map(|_| ())
}

/// Whether training changes a tensor of this name: not running statistics and the scales of shortcuts.
pub(crate) fn is_trained(name: &str) -> bool {
    !name.contains(".running_") && !name.ends_with(".scale")
}

/// Most numbers in a tensor or an activation: beyond any network that could be run, and so far from overflow that a
/// batch, the steps and the bytes of a number fit on top.
const MAX_NUMBERS: usize = usize::MAX >> 24;

/// Number of entries of a shape, unless there are too many.
fn count(shape: &[usize]) -> std::result::Result<usize, String> {
    shape
        .iter()
        .try_fold(1usize, |product, &side| product.checked_mul(side))
        .filter(|&product| product <= MAX_NUMBERS)
        .ok_or_else(|| format!("{shape:?} is more than {MAX_NUMBERS} numbers"))
}

impl Layer {
    /// The layer's kind, as in its serialised form.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Conv2d { .. } => "conv2d",
            Layer::Linear { .. } => "linear",
            Layer::BatchNorm { .. } => "batch_norm",
            Layer::Activation { .. } => "activation",
            Layer::AvgPool2d { .. } => "avg_pool2d",
            Layer::MaxPool2d { .. } => "max_pool2d",
            Layer::Shortcut { .. } => "shortcut",
            Layer::Flatten => "flatten",
            Layer::Dropout { .. } => "dropout",
        }
    }

    /// Whether the layer multiplies its input with trained weights (convolution or linear).
    pub fn is_weighted(&self) -> bool {
        matches!(self, Layer::Conv2d { .. } | Layer::Linear { .. })
    }

    /// Whether training changes a tensor of the layer.
    pub fn is_trained(&self) -> bool {
        let mut tensors = self.tensors().into_iter();
        tensors.any(|(name, _)| is_trained(&format!(".{name}")))
    }

    /// Names and shapes of the layer's tensors, without the layer's index.
    pub fn tensors(&self) -> Vec<(&'static str, Vec<usize>)> {
        match *self {
            Layer::Conv2d {
                in_channels,
                out_channels,
                kernel,
                bias,
                ..
            } => {
                let mut tensors = vec![("weight", vec![out_channels, in_channels, kernel, kernel])];
                if bias {
                    tensors.push(("bias", vec![out_channels]));
                }
                tensors
            }
            Layer::Linear {
                in_features,
                out_features,
                bias,
            } => {
                let mut tensors = vec![("weight", vec![out_features, in_features])];
                if bias {
                    tensors.push(("bias", vec![out_features]));
                }
                tensors
            }
            Layer::BatchNorm { channels, .. } => ["gamma", "beta", "running_mean", "running_var"]
                .map(|name| (name, vec![channels]))
                .to_vec(),
            Layer::Activation {
                function: ActivationFunction::Qcfs { .. },
            } => vec![("threshold", vec![1])],
            Layer::Shortcut { channels, .. } => vec![("scale", vec![channels])],
            _ => Vec::new(),
        }
    }

    /// Shape after the layer, without the batch; `Err` says what the input should have been.
    fn output_shape(&self, input: &[usize]) -> std::result::Result<Vec<usize>, String> {
        let image = || match *input {
            [c, h, w] => Ok((c, h, w)),
            _ => Err(format!("needs an input [C, H, W], got {input:?}")),
        };
        match *self {
            Layer::Conv2d {
                in_channels,
                out_channels,
                kernel,
                stride,
                padding,
                ..
            } => {
                let (c, h, w) = image()?;
                if c != in_channels {
                    return Err(format!("needs {in_channels} channels, got {c}"));
                }
                if kernel == 0 || stride == 0 || out_channels == 0 {
                    return Err("kernel, stride and out_channels must be at least 1".into());
                }
                let side = |n: usize| {
                    padding
                        .checked_mul(2)
                        .and_then(|both| both.checked_add(n)?.checked_sub(kernel))
                        .map(|last| last / stride + 1)
                        .ok_or_else(|| {
                            format!(
                                "kernel {kernel} does not fit into {h}x{w} with padding {padding}"
                            )
                        })
                };
                Ok(vec![out_channels, side(h)?, side(w)?])
            }
            Layer::Linear {
                out_features: 0, ..
            } => Err("out_features must be at least 1".into()),
            Layer::Linear {
                in_features,
                out_features,
                ..
            } => match *input {
                [features] if features == in_features => Ok(vec![out_features]),
                _ => Err(format!("needs an input [{in_features}], got {input:?}")),
            },
            Layer::BatchNorm { epsilon, .. } if !(epsilon.is_finite() && epsilon > 0.0) => {
                Err(format!("epsilon must be positive, got {epsilon}"))
            }
            Layer::BatchNorm { channels, .. } => match input.first() {
                Some(&c) if c == channels => Ok(input.to_vec()),
                _ => Err(format!("needs {channels} channels, got {input:?}")),
            },
            Layer::AvgPool2d { kernel } | Layer::MaxPool2d { kernel } => {
                let (c, h, w) = image()?;
                if kernel == 0 || !h.is_multiple_of(kernel) || !w.is_multiple_of(kernel) {
                    return Err(format!("kernel {kernel} must divide {h}x{w}"));
                }
                Ok(vec![c, h / kernel, w / kernel])
            }
            Layer::Flatten => Ok(vec![count(input)?]),
            Layer::Dropout { probability } => {
                if !(0.0..1.0).contains(&probability) {
                    return Err(format!("probability must be in [0, 1), got {probability}"));
                }
                Ok(input.to_vec())
            }
            Layer::Activation {
                function: ActivationFunction::Qcfs { levels },
            } if !(1..=MAX_LEVELS).contains(&levels) => {
                Err(format!("levels must be in 1..={MAX_LEVELS}, got {levels}"))
            }
            Layer::Activation { .. } => Ok(input.to_vec()),
            Layer::Shortcut { .. } => image().map(|_| input.to_vec()),
        }
    }
}

/// A network as a list of layers, each fed by the one before it and shortcuts by an earlier activation too: input shape
/// `[C, H, W]`, layers, classes. Built by [`Topology::new`], which checks that the layers fit together, so that a `Topology`
/// in hand is always a valid one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawTopology")]
pub struct Topology {
    name: String,
    input: [usize; 3],
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTopology {
    name: String,
    input: [usize; 3],
    layers: Vec<Layer>,
}

impl TryFrom<RawTopology> for Topology {
    type Error = Error;

    fn try_from(raw: RawTopology) -> Result<Self> {
        Topology::new(raw.name, raw.input, raw.layers)
    }
}

impl Topology {
    /// Checks the layers against one another.
    ///
    /// # Errors
    /// A layer that does not fit its input, has a setting outside its domain or is too large to be counted, or a shortcut that
    /// begins or ends where it cannot, by index and kind; a last layer that is not linear.
    pub fn new(name: impl Into<String>, input: [usize; 3], layers: Vec<Layer>) -> Result<Self> {
        let topology = Self {
            name: name.into(),
            input,
            layers,
        };
        if input.contains(&0) {
            return Err(Error::argument(
                "input",
                format!("a side of {input:?} is zero"),
            ));
        }
        count(&input).map_err(|message| Error::argument("input", message))?;
        let shapes = topology.try_shapes()?;
        topology.check_shortcuts(&shapes)?;
        topology.check_sizes(&shapes)?;
        match topology.layers.last() {
            Some(Layer::Linear { .. }) => Ok(topology),
            _ => Err(Error::argument(
                "layers",
                "the last layer must be linear (the class scores)",
            )),
        }
    }

    /// The architecture's name, such as `vgg9`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Input shape `[C, H, W]`.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// The layers, from the input on.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Number of classes: width of the last layer.
    pub fn classes(&self) -> usize {
        match self.layers.last() {
            Some(Layer::Linear { out_features, .. }) => *out_features,
            _ => unreachable!("checked by Topology::new"),
        }
    }

    /// The layers of the spiking network made of this one: in place of trained staircases plain activations, whose
    /// populations carry the thresholds.
    pub fn spiking(&self) -> Self {
        let mut spiking = self.clone();
        for layer in &mut spiking.layers {
            if let Layer::Activation { function } = layer
                && let ActivationFunction::Qcfs { .. } = function
            {
                *function = ActivationFunction::Relu;
            }
        }
        spiking
    }

    /// Output shape of each layer, without the batch.
    pub fn shapes(&self) -> Vec<Vec<usize>> {
        self.try_shapes().expect("checked by Topology::new")
    }

    fn try_shapes(&self) -> Result<Vec<Vec<usize>>> {
        let mut shape = self.input.to_vec();
        let mut shapes = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            shape = layer.output_shape(&shape).map_err(|message| Error::Layer {
                index,
                kind: layer.kind(),
                message,
            })?;
            shapes.push(shape.clone());
        }
        Ok(shapes)
    }

    /// Checks where shortcuts begin and end.
    fn check_shortcuts(&self, shapes: &[Vec<usize>]) -> Result<()> {
        for (index, layer) in self.layers.iter().enumerate() {
            let Layer::Shortcut {
                from,
                channels,
                kernel,
            } = *layer
            else {
                continue;
            };
            let fail = |message: String| Error::Layer {
                index,
                kind: layer.kind(),
                message,
            };
            let before = index.checked_sub(1).map(|before| &self.layers[before]);
            if !matches!(
                before,
                Some(Layer::Conv2d { .. } | Layer::BatchNorm { .. } | Layer::Shortcut { .. })
            ) || !matches!(
                self.layers.get(index + 1),
                Some(Layer::Activation { .. } | Layer::Shortcut { .. })
            ) {
                let message =
                    "must stand between a convolution or its batch norm and an activation";
                return Err(fail(message.into()));
            }
            if from >= index || !matches!(self.layers[from], Layer::Activation { .. }) {
                return Err(fail(format!("layer {from} is no activation before it")));
            }
            let to = &shapes[index];
            if channels > to[0] {
                return Err(fail(format!("adds {channels} channels to {}", to[0])));
            }
            let [height, width] = [1, 2].map(|side| to[side].saturating_mul(kernel));
            let wanted = [channels, height, width];
            if shapes[from] != wanted {
                return Err(fail(format!(
                    "layer {from} gives {:?}; with the kernel {kernel} it must give {wanted:?}",
                    shapes[from]
                )));
            }
        }
        Ok(())
    }

    /// Checks that [`Topology::macs`], [`Topology::parameter_count`] and [`Topology::neuron_count`] do not overflow.
    fn check_sizes(&self, shapes: &[Vec<usize>]) -> Result<()> {
        let (mut macs, mut numbers) = (0u64, 0usize);
        for (index, (layer, shape)) in self.layers.iter().zip(shapes).enumerate() {
            let fail = |message: String| Error::Layer {
                index,
                kind: layer.kind(),
                message,
            };
            let mut weights = 0;
            for (name, shape) in layer.tensors() {
                let entries = count(&shape).map_err(|m| fail(format!("{name} {m}")))?;
                if name == "weight" {
                    weights = entries;
                }
                numbers = numbers.saturating_add(entries);
            }
            let units = count(shape).map_err(|m| fail(format!("output {m}")))?;
            numbers = numbers.saturating_add(units);
            // each weight acts once at each place of a channel
            let places = (units / shape[0]) as u64;
            let total = (weights as u64)
                .checked_mul(places)
                .and_then(|product| macs.checked_add(product));
            macs = total
                .filter(|_| numbers < usize::MAX)
                .ok_or_else(|| fail("the network is too large to be counted".into()))?;
        }
        Ok(())
    }

    /// The name by which reports call layer `index`: that of the weighted layer which feeds it or which it is, such as
    /// `conv1`, `conv2`, `linear1`, each kind counted from 1; `input` before the first of them. A shortcut has a name of
    /// its own, such as `shortcut1`.
    pub fn layer_name(&self, index: usize) -> String {
        let (mut convolutions, mut linears, mut shortcuts) = (0, 0, 0);
        let mut name = "input".to_string();
        for (i, layer) in self.layers.iter().take(index.saturating_add(1)).enumerate() {
            match layer {
                Layer::Shortcut { .. } => {
                    shortcuts += 1;
                    if i == index {
                        return format!("shortcut{shortcuts}");
                    }
                }
                Layer::Conv2d { .. } => {
                    convolutions += 1;
                    name = format!("conv{convolutions}");
                }
                Layer::Linear { .. } => {
                    linears += 1;
                    name = format!("linear{linears}");
                }
                _ => {}
            }
        }
        name
    }

    /// Multiply-accumulates per image of each layer; zero for layers without weights.
    pub fn macs_by_layer(&self) -> Vec<u64> {
        self.layers
            .iter()
            .zip(self.shapes())
            .map(|(layer, shape)| match *layer {
                Layer::Conv2d {
                    in_channels,
                    kernel,
                    ..
                } => (in_channels * kernel * kernel * shape.iter().product::<usize>()) as u64,
                Layer::Linear {
                    in_features,
                    out_features,
                    ..
                } => (in_features * out_features) as u64,
                _ => 0,
            })
            .collect()
    }

    /// Multiply-accumulates per image.
    pub fn macs(&self) -> u64 {
        self.macs_by_layer().iter().sum()
    }

    /// Trained numbers: weights, biases, batch-norm scales and shifts, and trained thresholds.
    pub fn parameter_count(&self) -> usize {
        self.tensor_shapes()
            .iter()
            .filter(|(name, _)| is_trained(name))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Name (`"{layer}.weight"`, ...) and shape of every tensor, in layer order.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.layers
            .iter()
            .enumerate()
            .flat_map(|(index, layer)| {
                layer
                    .tensors()
                    .into_iter()
                    .map(move |(name, shape)| (format!("{index}.{name}"), shape))
            })
            .collect()
    }

    /// Indices of the activation layers: the neuron populations of the spiking network.
    pub fn activations(&self) -> Vec<usize> {
        self.indices(|layer| matches!(layer, Layer::Activation { .. }))
    }

    /// Indices of the layers with weights.
    pub fn weighted(&self) -> Vec<usize> {
        self.indices(Layer::is_weighted)
    }

    /// Indices of the shortcuts.
    pub fn shortcuts(&self) -> Vec<usize> {
        self.indices(|layer| matches!(layer, Layer::Shortcut { .. }))
    }

    /// Index of the last layer that takes the output of activation `index` as a shortcut.
    pub fn last_shortcut_from(&self, index: usize) -> Option<usize> {
        let takes = |layer: &Layer| matches!(layer, Layer::Shortcut { from, .. } if *from == index);
        self.layers.iter().rposition(takes)
    }

    fn indices(&self, wanted: impl Fn(&Layer) -> bool) -> Vec<usize> {
        (0..self.layers.len())
            .filter(|&i| wanted(&self.layers[i]))
            .collect()
    }

    /// Neurons: units of all activation layers.
    pub fn neuron_count(&self) -> usize {
        let shapes = self.shapes();
        self.activations()
            .iter()
            .map(|&i| shapes[i].iter().product::<usize>())
            .sum()
    }
}
