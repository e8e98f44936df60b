//! The networks that can be asked for by name.

mod layers;
mod resnet;
mod vgg;

use serde::{Deserialize, Serialize};
use snn_core::Topology;

use self::layers::Layers;
use crate::{Error, Result};

/// Which network, and how deep it is.
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
    /// A convolution of 16 channels and nine residual blocks of two, three each of 16, 32 and 64 channels; see He et al.,
    /// "Deep residual learning for image recognition" (CVPR 2016), section 4.2.
    Resnet20,
}

/// A network to be built: 3x3 convolutions, activations (ReLU), average pools, shortcuts in a residual network, and a
/// classifier flatten, `hidden`, activation, dropout, classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which plan of convolutions and shortcuts.
    pub depth: Depth,
    /// Factor on every number of channels (rounded, at least 1).
    #[serde(default = "one")]
    pub width: f64,
    /// Width of the hidden layer of the classifier; 0 leaves the layer out, as the authors of residual networks do. The
    /// paper's is 4096, which is the default.
    #[serde(default = "paper_hidden")]
    pub hidden: usize,
    /// One constant per channel. Never with batch norm, whose shift takes that place.
    #[serde(default)]
    pub bias: bool,
    /// Batch norm after each convolution.
    #[serde(default)]
    pub batch_norm: bool,
    /// Steps of the activation: 0 for ReLU, else the staircase with a trained threshold
    /// ([`snn_core::ActivationFunction::Qcfs`]), whose values few time steps can stand for.
    #[serde(default)]
    pub levels: usize,
    /// Dropout after each convolution that no pool follows. Where it is not given it is 0, which suits batch norm; the
    /// paper's, and that of [`NetworkConfig::paper`], is 0.2.
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

impl NetworkConfig {
    /// This network with the paper's settings: no bias, no batch norm, hidden layer of 4096.
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
    /// A setting outside its domain, by name; sides that pools do not divide or shortcuts cannot halve; images that are not
    /// square for a residual network; no classes; layers too large to be counted.
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
        let mut layers = Layers::new(self, input);
        match self.depth {
            Depth::Vgg5 => vgg::build(vgg::VGG5, &mut layers),
            Depth::Vgg9 => vgg::build(vgg::VGG9, &mut layers),
            Depth::Vgg11 => vgg::build(vgg::VGG11, &mut layers),
            Depth::Vgg13 => vgg::build(vgg::VGG13, &mut layers),
            Depth::Vgg16 => vgg::build(vgg::VGG16, &mut layers),
            Depth::Vgg19 => vgg::build(vgg::VGG19, &mut layers),
            Depth::Resnet20 => resnet::build(3, &mut layers)?,
        }
        let name = format!("{:?}", self.depth).to_lowercase();
        Ok(Topology::new(name, input, layers.finish(classes))?)
    }
}
