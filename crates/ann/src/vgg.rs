//! The VGG family of the paper.

use serde::{Deserialize, Serialize};
use snn_core::{ActivationFunction, Layer, Topology};

use crate::{Error, Result};

/// Depth of a VGG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// `64,P,128,128,P`
    Vgg5,
    /// `64,64,P,128,128,P,256x3,P`
    Vgg9,
    /// `64,P,128,P,256,256,P,512,512,P,512,512`
    Vgg11,
    /// `64,64,P,128,128,P,256,256,P,512,512,P,512,512,P`
    Vgg13,
    /// `64,64,P,128,128,P,256x3,P,512x3,P,512x3,P`
    Vgg16,
    /// `64,64,P,128,128,P,256x4,P,512x4,P,512x4,P`
    Vgg19,
}

impl Depth {
    /// Channels of each convolution; 0 stands for an average pool.
    fn plan(self) -> &'static [usize] {
        match self {
            Depth::Vgg5 => &[64, 0, 128, 128, 0],
            Depth::Vgg9 => &[64, 64, 0, 128, 128, 0, 256, 256, 256, 0],
            Depth::Vgg11 => &[64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512],
            Depth::Vgg13 => &[
                64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0,
            ],
            Depth::Vgg16 => &[
                64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0,
            ],
            Depth::Vgg19 => &[
                64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512,
                512, 512, 0,
            ],
        }
    }
}

/// A VGG to be built: 3x3 convolutions, activations (ReLU), average pools, and a classifier
/// flatten, `hidden`, activation, dropout, classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VggConfig {
    /// Which plan of convolutions.
    pub depth: Depth,
    /// Factor on every number of channels (rounded, at least 1).
    #[serde(default = "one")]
    pub width: f64,
    /// Width of the hidden layer of the classifier; 0 leaves the layer out. The paper's is 4096.
    #[serde(default = "paper_hidden")]
    pub hidden: usize,
    /// One constant per channel. Never with batch norm, whose shift takes that place.
    #[serde(default)]
    pub bias: bool,
    /// Batch norm after each convolution.
    #[serde(default)]
    pub batch_norm: bool,
    /// Steps of the activation: 0 for ReLU, else the staircase with a trained threshold
    /// ([`ActivationFunction::Qcfs`]), whose values few time steps can stand for.
    #[serde(default)]
    pub levels: usize,
    /// Dropout after each convolution that no pool follows. Where it is not given it is 0, which suits batch norm; the
    /// paper's, and that of [`VggConfig::paper`], is 0.2.
    #[serde(default)]
    pub conv_dropout: f64,
    /// Dropout after the hidden layer.
    #[serde(default = "half")]
    pub hidden_dropout: f64,
}

// beyond any network that could be trained, and far from overflow
const MAX_WIDTH: f64 = 64.0;
const MAX_HIDDEN: usize = 1 << 20;

fn one() -> f64 {
    1.0
}
fn half() -> f64 {
    0.5
}
fn paper_hidden() -> usize {
    4096
}

impl VggConfig {
    /// The paper's network of this depth: no bias, no batch norm, hidden layer of 4096.
    pub fn paper(depth: Depth) -> Self {
        Self {
            depth,
            width: one(),
            hidden: paper_hidden(),
            bias: false,
            batch_norm: false,
            levels: 0,
            conv_dropout: 0.2,
            hidden_dropout: half(),
        }
    }

    /// The layer list for images `[C, H, W]`.
    ///
    /// # Errors
    /// A setting outside its domain, by name; sides that the pools do not divide, no classes.
    pub fn topology(&self, input: [usize; 3], classes: usize) -> Result<Topology> {
        if !(self.width > 0.0 && self.width <= MAX_WIDTH) {
            return Err(Error::argument(
                "width",
                format!(
                    "must be positive and at most {MAX_WIDTH}, got {}",
                    self.width
                ),
            ));
        }
        if self.hidden > MAX_HIDDEN {
            return Err(Error::argument(
                "hidden",
                format!("must be at most {MAX_HIDDEN}, got {}", self.hidden),
            ));
        }
        for (name, probability) in [
            ("conv_dropout", self.conv_dropout),
            ("hidden_dropout", self.hidden_dropout),
        ] {
            if !(0.0..1.0).contains(&probability) {
                return Err(Error::argument(
                    name,
                    format!("must be in [0, 1), got {probability}"),
                ));
            }
        }
        if classes == 0 {
            return Err(Error::argument("classes", "must be at least 1"));
        }
        let activation = Layer::Activation {
            function: match self.levels {
                0 => ActivationFunction::Relu,
                levels => ActivationFunction::Qcfs { levels },
            },
        };
        let mut layers = Vec::new();
        let [mut channels, mut height, mut width] = input;
        let plan = self.depth.plan();
        for (i, &entry) in plan.iter().enumerate() {
            if entry == 0 {
                layers.push(Layer::AvgPool2d { kernel: 2 });
                (height, width) = (height / 2, width / 2);
                continue;
            }
            let out_channels = ((entry as f64 * self.width).round() as usize).max(1);
            layers.push(Layer::Conv2d {
                in_channels: channels,
                out_channels,
                kernel: 3,
                stride: 1,
                padding: 1,
                bias: self.bias && !self.batch_norm,
            });
            if self.batch_norm {
                layers.push(Layer::BatchNorm {
                    channels: out_channels,
                    epsilon: 1e-5,
                });
            }
            layers.push(activation.clone());
            if self.conv_dropout > 0.0 && plan.get(i + 1) != Some(&0) {
                layers.push(Layer::Dropout {
                    probability: self.conv_dropout,
                });
            }
            channels = out_channels;
        }
        layers.push(Layer::Flatten);
        let mut features = channels * height * width;
        let linear = |in_features, out_features| Layer::Linear {
            in_features,
            out_features,
            bias: self.bias || self.batch_norm,
        };
        if self.hidden > 0 {
            layers.extend([linear(features, self.hidden), activation]);
            if self.hidden_dropout > 0.0 {
                layers.push(Layer::Dropout {
                    probability: self.hidden_dropout,
                });
            }
            features = self.hidden;
        }
        layers.push(linear(features, classes));
        let name = format!("{:?}", self.depth).to_lowercase();
        Ok(Topology::new(name, input, layers)?)
    }
}
