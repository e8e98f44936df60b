//! A weighted layer, forward and backward on slices.

use super::convolution::Convolution;
use crate::Result;
use crate::ops::conv2d::{Sums, slices};
use crate::ops::cpu::{with_values, with_weights};
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
    Conv2d(Convolution),
    Linear,
}

/// Its kernels for a number of rows.
#[derive(Clone, Copy)]
enum Kernels {
    Conv2d(slices::Convolution),
    Linear(Connection),
}

impl Weighted {
    pub(super) fn conv2d(layer: usize, convolution: Convolution) -> Self {
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
            Kind::Conv2d(convolution) => Kernels::Conv2d(convolution.kernels(weight, rows)),
            Kind::Linear => Kernels::Linear(connection(weight, rows)),
        }
    }

    /// The output of `rows` inputs.
    pub(super) fn forward(
        &self,
        parameters: &Parameters,
        x: &[f32],
        rows: usize,
        sums: Sums,
    ) -> Result<Vec<f32>> {
        let (weight, bias) = (parameters.weight(self.layer)?, parameters.bias(self.layer));
        match &self.kind {
            Kind::Conv2d(convolution) => convolution.forward(weight, bias, x, rows, sums),
            Kind::Linear => {
                let connection = connection(weight.dims(), rows);
                let forward =
                    |weight: &[f32], bias: Option<&[f32]>| connection.forward(x, weight, bias);
                Ok(with_weights(weight, bias, forward)?)
            }
        }
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

/// The kernels of a fully connected layer for a number of rows and a weight `[O, F]`.
fn connection(weight: &[usize], rows: usize) -> Connection {
    Connection::new(rows, [weight[0], weight[1]])
}
