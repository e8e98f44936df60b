//! What follows a normalisation number by number, in the same pass over memory.

use crate::ops::qcfs::Staircase;

/// A function of single numbers and its gradients.
pub(super) trait Elementwise: Sync {
    /// `y(z)`
    fn value(&self, z: f32) -> f32;
    /// The gradient of z, from that of y.
    fn gradient(&self, z: f32, gy: f32) -> f32;
    /// What this number gives to the gradient of the function's threshold, times the threshold.
    fn of_threshold(&self, z: f32, gy: f32) -> f64;
}

/// Nothing follows.
pub(super) struct Nothing;

impl Elementwise for Nothing {
    #[inline(always)]
    fn value(&self, z: f32) -> f32 {
        z
    }

    #[inline(always)]
    fn gradient(&self, _z: f32, gy: f32) -> f32 {
        gy
    }

    #[inline(always)]
    fn of_threshold(&self, _z: f32, _gy: f32) -> f64 {
        0.0
    }
}

/// [`crate::ops::relu::relu`]
pub(super) struct Relu;

impl Elementwise for Relu {
    #[inline(always)]
    fn value(&self, z: f32) -> f32 {
        if z < 0.0 { 0.0 } else { z }
    }

    #[inline(always)]
    fn gradient(&self, z: f32, gy: f32) -> f32 {
        if z > 0.0 { gy } else { 0.0 }
    }

    #[inline(always)]
    fn of_threshold(&self, _z: f32, _gy: f32) -> f64 {
        0.0
    }
}

impl Elementwise for Staircase {
    #[inline(always)]
    fn value(&self, z: f32) -> f32 {
        self.at(z)
    }

    #[inline(always)]
    fn gradient(&self, z: f32, gy: f32) -> f32 {
        if self.passes(z) { gy } else { 0.0 }
    }

    #[inline(always)]
    fn of_threshold(&self, z: f32, gy: f32) -> f64 {
        self.of_threshold(z, self.at(z), gy)
    }
}
