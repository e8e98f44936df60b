//! The fully connected layer on slices, for those who keep no graph.

use super::cpu::{self, Sizes};

/// A fully connected layer of given sizes on the CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection(Sizes);

impl Connection {
    /// For `rows` inputs and a weight `[O, F]`.
    pub(crate) fn new(rows: usize, [outputs, inputs]: [usize; 2]) -> Self {
        Self(Sizes {
            rows,
            inputs,
            outputs,
        })
    }

    /// `[rows, O]`
    pub(crate) fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        cpu::forward(&self.0, x, weight, bias)
    }

    /// Gradient of the input.
    pub(crate) fn backward_data(&self, weight: &[f32], gy: &[f32]) -> Vec<f32> {
        cpu::backward_data(&self.0, weight, gy)
    }

    /// Gradient of the weight.
    pub(crate) fn backward_weight(&self, x: &[f32], gy: &[f32]) -> Vec<f32> {
        cpu::backward_weight(&self.0, x, gy)
    }

    /// Gradient of the bias.
    pub(crate) fn backward_bias(&self, gy: &[f32]) -> Vec<f32> {
        cpu::backward_bias(self.0.outputs, gy)
    }
}
