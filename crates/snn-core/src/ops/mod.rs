//! The kernels: one folder per operation, with a slow reference beside the fast one.

pub mod avg_pool;
pub mod batch_norm;
pub mod conv2d;
pub mod linear;
pub mod neuron;
pub mod relu;
