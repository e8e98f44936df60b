//! The kernels: one folder per operation, with a slow reference beside the fast one.
//!
//! The public function of each folder checks its arguments and takes the fast path for f32 on the CPU, else the
//! reference. The fast paths run on rayon's current pool; what they compute depends neither on the number of its
//! threads nor, row by row or image by image, on the size of the batch. With the feature `cuda` the neuron scan (and the
//! Poisson coder) has a fast path for f32 on CUDA, with `cudnn` the convolution has one too.

pub(crate) mod aligned;
pub mod avg_pool;
pub mod batch_norm;
pub(crate) mod bits;
pub mod conv2d;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub(crate) mod events;
pub(crate) mod level;
pub mod linear;
pub mod mask;
pub mod mean;
pub(crate) mod memory;
pub mod neuron;
pub(crate) mod packed;
pub mod qcfs;
pub mod relu;
pub mod shortcut;
mod simd;
mod tile;
pub mod time;
pub(crate) mod transpose;
pub(crate) mod widest;

pub use self::level::limit_instructions;

/// The instructions that the kernels use: `avx512`, `avx2` or `portable`. They are the widest that the processor has, up to
/// [`limit_instructions`].
pub fn instructions() -> &'static str {
    tile::Instructions::best().name
}
