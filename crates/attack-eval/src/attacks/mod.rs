//! Attacks on a released network: pictures of its classes from its weights.

pub mod ascent;
pub mod back_conversion;
mod pixels;
mod rate_target;
pub mod spike_gradient;
mod target;

use candle_core::Tensor;

pub use ascent::{AscentConfig, Objective, Update};
pub use back_conversion::{BackConversionConfig, Reading};
pub use rate_target::RateTarget;
pub use spike_gradient::{SpikeGradientConfig, Through};
pub use target::{SpikingTarget, Target};

/// What an attack rebuilt. Image i is of class `i % K`, and the `i / K`-th of that class.
#[derive(Debug, Clone)]
pub struct Reconstruction {
    /// `[N, C, H, W]` f32 in [-1, 1], on the CPU.
    pub images: Tensor,
    /// The class that each image was made for, `[N]` u32, on the CPU.
    pub classes: Tensor,
    /// The attacked network's own softmax probability of that class on the final image. A high one says that the
    /// ascent arrived, not that a person would recognise anything.
    pub confidence: Vec<f32>,
    /// In how many of its iterations each image had a gradient to follow. With none it is still its starting noise, at
    /// most blurred or faded.
    pub guided: Vec<u32>,
    /// Number of iterations.
    pub iterations: usize,
}

impl Reconstruction {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.confidence.len()
    }

    /// Number of images that had no gradient in more than half of the iterations.
    pub fn without_gradient(&self) -> usize {
        let few = |&&steps: &&u32| (steps as usize) * 2 < self.iterations;
        self.guided.iter().filter(few).count()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.confidence.is_empty()
    }
}
