//! The convolution on slices, for those who keep no graph.

use super::geometry::Geometry;
use super::winograd::Winograd;
use super::{Sums, cpu};

/// A convolution of given sizes on the CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution(Geometry);

impl Convolution {
    /// For an input `[..., C, H, W]` and a weight `[O, C, k, k]`; none if they do not fit.
    pub(crate) fn new(
        x: &[usize],
        weight: &[usize],
        stride: usize,
        padding: usize,
    ) -> Option<Self> {
        Geometry::new(x, weight, stride, padding).map(Self)
    }

    /// `[N, O, H', W']`
    pub(crate) fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        sums: Sums,
    ) -> Vec<f32> {
        cpu::forward(&self.0, x, weight, bias, sums)
    }

    /// Whether the forward pass with such sums is Winograd's.
    pub(crate) fn transforms(&self, sums: Sums) -> bool {
        sums == Sums::Fastest && Winograd::of(&self.0).is_some()
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
        cpu::backward_bias(self.0.out_channels, self.0.out_plane(), gy)
    }
}
