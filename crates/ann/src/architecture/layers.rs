//! Layers in the making, with the shape that they have come to.

use snn_core::{ActivationFunction, Layer};

use super::NetworkConfig;

/// Layers so far, and the shape `[C, H, W]` of what they give.
pub(super) struct Layers<'a> {
    config: &'a NetworkConfig,
    layers: Vec<Layer>,
    shape: [usize; 3],
}

impl<'a> Layers<'a> {
    pub(super) fn new(config: &'a NetworkConfig, input: [usize; 3]) -> Self {
        Self {
            config,
            layers: Vec::new(),
            shape: input,
        }
    }

    pub(super) fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// A 3x3 convolution to so many channels times the width, with its batch norm.
    pub(super) fn convolution(&mut self, channels: usize, stride: usize) {
        let [in_channels, height, width] = self.shape;
        let out_channels = ((channels as f64 * self.config.width).round() as usize).max(1);
        self.layers.push(Layer::Conv2d {
            in_channels,
            out_channels,
            kernel: 3,
            stride,
            padding: 1,
            bias: self.config.bias && !self.config.batch_norm,
        });
        if self.config.batch_norm {
            self.layers.push(Layer::BatchNorm {
                channels: out_channels,
                epsilon: 1e-5,
            });
        }
        self.shape = [
            out_channels,
            height.div_ceil(stride),
            width.div_ceil(stride),
        ];
    }

    fn activation(&mut self) {
        let function = match self.config.levels {
            0 => ActivationFunction::Relu,
            levels => ActivationFunction::Qcfs { levels },
        };
        self.layers.push(Layer::Activation { function });
    }

    /// The activation of a convolution, with its dropout if no pool follows.
    pub(super) fn activate(&mut self, pool_follows: bool) -> Activated {
        self.activation();
        let activated = Activated {
            index: self.layers.len() - 1,
            shape: self.shape,
        };
        if !pool_follows {
            self.dropout(self.config.conv_dropout);
        }
        activated
    }

    fn dropout(&mut self, probability: f64) {
        if probability > 0.0 {
            self.layers.push(Layer::Dropout { probability });
        }
    }

    /// Adds what an activation gave, averaged over squares if the map has become smaller; for square maps.
    pub(super) fn shortcut(&mut self, from: &Activated) {
        let [channels, height, _] = from.shape;
        self.layers.push(Layer::Shortcut {
            from: from.index,
            channels,
            kernel: height / self.shape[1].max(1),
        });
    }

    pub(super) fn pool(&mut self, kernel: usize) {
        self.layers.push(Layer::AvgPool2d { kernel });
        let [_, height, width] = &mut self.shape;
        (*height, *width) = (*height / kernel.max(1), *width / kernel.max(1));
    }

    /// A pool over the whole of a square map.
    pub(super) fn pool_all(&mut self) {
        self.pool(self.shape[1]);
    }

    /// The classifier.
    pub(super) fn finish(mut self, classes: usize) -> Vec<Layer> {
        self.layers.push(Layer::Flatten);
        // a network too large to be counted is refused by the check of the topology
        let features = self.shape.into_iter().fold(1, usize::saturating_mul);
        let bias = self.config.bias || self.config.batch_norm;
        let linear = |in_features, out_features| Layer::Linear {
            in_features,
            out_features,
            bias,
        };
        match self.config.hidden {
            0 => self.layers.push(linear(features, classes)),
            hidden => {
                self.layers.push(linear(features, hidden));
                self.activation();
                self.dropout(self.config.hidden_dropout);
                self.layers.push(linear(hidden, classes));
            }
        }
        self.layers
    }
}

/// Where a shortcut can begin.
pub(super) struct Activated {
    index: usize,
    shape: [usize; 3],
}
