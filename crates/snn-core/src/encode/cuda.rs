//! The Poisson coder on CUDA.

use candle_core::cuda_backend::CudaStorage;
use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, PushKernelArg};
use candle_core::{Layout, Result, Shape, Tensor};

use super::Coder;
use crate::ops::cuda::{self, Kernel};

const MODULE: (&str, &str) = (
    "snn-core-encode",
    include_str!(concat!(env!("OUT_DIR"), "/encode.ptx")),
);

/// Rows of a grid; more steps are taken in turn.
const ROWS: u32 = 65_535;

/// What the kernel is told of the spikes, field for field as there.
#[derive(Clone, Copy)]
#[repr(C)]
struct Draw {
    pixels: u32,
    samples: u32,
    first: u32,
    steps: u32,
    key: [u32; 2],
}

// SAFETY: plain numbers in the layout of the kernel's structure.
unsafe impl DeviceRepr for Draw {}

/// [`Coder::draw`].
pub(super) fn draw(
    coder: &Coder,
    images: &CudaStorage,
    layout: &Layout,
) -> Result<(CudaStorage, Shape)> {
    let device = &images.device;
    let images = cuda::values(images, layout)?;
    let (samples, seed) = (coder.ids.len(), coder.seed.value());
    let pixels = images.len() / samples;
    let draw = Draw {
        pixels: cuda::size("pixels", pixels)?,
        samples: cuda::size("images", samples)?,
        first: coder.first_step as u32,
        steps: cuda::size("steps", coder.steps)?,
        key: [seed as u32, (seed >> 32) as u32],
    };
    let threads = cuda::size("pixels", samples * pixels.div_ceil(4))?;
    let ids = device.clone_htod(&coder.ids)?;
    // SAFETY: the kernel below writes all of them.
    let mut spikes = unsafe { cuda::room(device, coder.steps * images.len())? };
    let kernel = Kernel::new(device, MODULE, "poisson")?;
    let mut arguments = kernel.arguments();
    arguments.arg(&images).arg(&ids).arg(&mut spikes).arg(&draw);
    // SAFETY: a thread per four pixels; the buffers have the sizes that `draw` says.
    unsafe { cuda::launch(arguments, cuda::blocks(threads), draw.steps.min(ROWS))? };
    let spikes = CudaStorage::wrap_cuda_slice(spikes, device.clone());
    Ok((spikes, Shape::from(coder.shape(layout.dims()))))
}

/// Sum of `[T, ...]` over the steps.
pub(super) fn total(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    cuda::with_values(x, |device, x| {
        let len = cuda::size("pixels", shape.elem_count())?;
        let steps = cuda::size("steps", x.len() / shape.elem_count())?;
        // SAFETY: the kernel below writes all of them.
        let mut sum = unsafe { cuda::room(device, shape.elem_count())? };
        let kernel = Kernel::new(device, MODULE, "total")?;
        let mut arguments = kernel.arguments();
        arguments.arg(&x).arg(&mut sum).arg(&steps).arg(&len);
        // SAFETY: a thread per sum of so many steps.
        unsafe { cuda::launch(arguments, cuda::blocks(len), 1)? };
        Ok(cuda::tensor(sum, shape, device))
    })
}
