//! A weighted layer, forward and backward on slices.

use super::events::{self, FEW, share};
use crate::Result;
use crate::ops::conv2d::slices::Convolution;
use crate::ops::cpu::with_values;
use crate::ops::linear::slices::Connection;
use crate::parameters::Parameters;

/// A convolution or a fully connected layer.
#[derive(Debug)]
pub(super) struct Weighted {
    /// Index in the topology.
    pub(super) layer: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Conv2d(events::Convolution),
    Linear,
}

/// Its kernels for a number of rows.
#[derive(Clone, Copy)]
enum Kernels {
    Conv2d(Convolution),
    Linear(Connection),
}

impl Weighted {
    pub(super) fn conv2d(layer: usize, convolution: events::Convolution) -> Self {
        Self {
            layer,
            kind: Kind::Conv2d(convolution),
        }
    }

    pub(super) fn linear(layer: usize) -> Self {
        Self {
            layer,
            kind: Kind::Linear,
        }
    }

    fn kernels(&self, weight: &[usize], rows: usize) -> Kernels {
        match &self.kind {
            Kind::Conv2d(c) => {
                let x = [&[rows], &c.input[..]].concat();
                let sizes = Convolution::new(&x, weight, c.stride, c.padding);
                Kernels::Conv2d(sizes.expect("sizes that the topology checked"))
            }
            Kind::Linear => Kernels::Linear(Connection::new(rows, [weight[0], weight[1]])),
        }
    }

    /// The output of `rows` inputs, `images` of each step after those of another.
    pub(super) fn forward(
        &self,
        parameters: &Parameters,
        x: &[f32],
        rows: usize,
        images: usize,
    ) -> Result<Vec<f32>> {
        let (weight, bias) = (parameters.weight(self.layer)?, parameters.bias(self.layer));
        if let Kind::Conv2d(convolution) = &self.kind
            && share(x) < FEW
        {
            return events::forward(convolution, weight, bias, x, rows, images);
        }
        let kernels = self.kernels(weight.dims(), rows);
        let run = |bias: Option<&[f32]>| {
            with_values(weight, |weight| match kernels {
                Kernels::Conv2d(conv) => conv.forward(x, weight, bias),
                Kernels::Linear(linear) => linear.forward(x, weight, bias),
            })
        };
        Ok(match bias {
            Some(bias) => with_values(bias, |bias| run(Some(bias)))??,
            None => run(None)?,
        })
    }

    /// Gradient of the input.
    pub(super) fn backward_data(
        &self,
        parameters: &Parameters,
        gy: &[f32],
        rows: usize,
    ) -> Result<Vec<f32>> {
        let weight = parameters.weight(self.layer)?;
        let kernels = self.kernels(weight.dims(), rows);
        Ok(with_values(weight, |weight| match kernels {
            Kernels::Conv2d(conv) => conv.backward_data(weight, gy),
            Kernels::Linear(linear) => linear.backward_data(weight, gy),
        })?)
    }

    /// Gradients of the weight and of the bias, by name.
    pub(super) fn backward_parameters(
        &self,
        parameters: &Parameters,
        x: &[f32],
        gy: &[f32],
        rows: usize,
    ) -> Result<Vec<(String, Vec<f32>)>> {
        let weight = parameters.weight(self.layer)?;
        let kernels = self.kernels(weight.dims(), rows);
        let g_weight = match kernels {
            Kernels::Conv2d(conv) => conv.backward_weight(x, gy),
            Kernels::Linear(linear) => linear.backward_weight(x, gy),
        };
        let mut gradients = vec![(format!("{}.weight", self.layer), g_weight)];
        if parameters.bias(self.layer).is_some() {
            let g_bias = match kernels {
                Kernels::Conv2d(conv) => conv.backward_bias(gy),
                Kernels::Linear(linear) => linear.backward_bias(gy),
            };
            gradients.push((format!("{}.bias", self.layer), g_bias));
        }
        Ok(gradients)
    }
}
