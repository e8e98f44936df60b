//! What the kernels on CUDA share, their numerical settings, and a count of launches.

use std::cell::Cell;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::result as driver;
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, LaunchArgs, LaunchConfig,
};
use candle_core::cuda_backend::{
    CudaDevice, CudaStorage, WrapErr, gemm_reduced_precision_f32, set_gemm_reduced_precision_f32,
};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Layout, Result, Shape, Storage, Tensor};

thread_local! {
    static LAUNCHES: Cell<usize> = const { Cell::new(0) };
}

/// How many kernels of this crate, cuDNN's convolutions among them, this thread has started: tells whether an operation
/// took them or its reference.
pub fn launches() -> usize {
    LAUNCHES.get()
}

/// Whether convolutions and matrix products of f32 tensors may round their inputs to TF32 (10 bits of mantissa), which
/// tensor cores multiply many times faster. Off until asked for; it holds for the whole process.
pub fn allow_tf32(allow: bool) {
    set_gemm_reduced_precision_f32(allow);
}

/// What [`allow_tf32`] was last told.
pub fn tf32_allowed() -> bool {
    gemm_reduced_precision_f32()
}

/// Lets a device keep the memory of freed tensors for the next ones. As the driver has it, whatever is free goes back at
/// each synchronisation, that is whenever a number is read, and has to be mapped anew.
///
/// # Errors
/// What the driver refuses; not a CUDA device.
pub fn keep_freed_memory(device: &Device) -> crate::Result<()> {
    let device = device.as_cuda_device()?.cuda_stream().context().cu_device();
    let mut threshold = u64::MAX;
    let value = std::ptr::from_mut(&mut threshold).cast();
    // SAFETY: the device is there, and the attribute is a u64 that is only read.
    unsafe {
        let pool = driver::device::get_default_mem_pool(device).w()?;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        driver::mem_pool::set_attribute(pool, attribute, value).w()?;
    }
    Ok(())
}

/// Threads of a block; as in the kernels' launch bounds.
const THREADS: u32 = 256;

/// Whether the kernels take these tensors: f32 on one CUDA device, none of them empty.
pub(crate) fn takes(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| {
        t.device().is_cuda()
            && t.device().same_device(tensors[0].device())
            && t.dtype() == DType::F32
            && t.elem_count() > 0
    })
}

/// The numbers of a contiguous f32 tensor, as a custom op receives them.
pub(crate) fn values<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, f32>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<f32>()?.slice(start..end)),
        None => candle_core::bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// Calls `f` with the numbers of an f32 tensor on a CUDA device, which is copied first if it is not contiguous.
pub(crate) fn with_values<R>(
    tensor: &Tensor,
    f: impl FnOnce(&CudaDevice, CudaView<f32>) -> Result<R>,
) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => f(&storage.device, values(storage, layout)?),
        _ => candle_core::bail!("a CUDA kernel was given a tensor on another device"),
    }
}

/// A tensor outside any graph.
pub(crate) fn tensor(
    values: CudaSlice<f32>,
    shape: impl Into<Shape>,
    device: &CudaDevice,
) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(values, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// Room for so many numbers, whatever they are.
///
/// # Safety
/// They are written before they are read.
pub(crate) unsafe fn room(device: &CudaDevice, len: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: the caller's promise.
    unsafe { device.alloc::<f32>(len) }
}

/// A size as the kernels take it.
pub(crate) fn size(what: &str, n: usize) -> Result<u32> {
    u32::try_from(n)
        .map_err(|_| candle_core::Error::Msg(format!("{n} {what} are too many for a kernel")))
}

/// A kernel on a device.
pub(crate) struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Kernel {
    /// The function `name` of a module, whose text is loaded when a device meets it first.
    pub(crate) fn new(
        device: &CudaDevice,
        (module, ptx): (&str, &str),
        name: &str,
    ) -> Result<Self> {
        let function = device.get_or_load_custom_func(name, module, ptx)?;
        Ok(Self {
            function: function.into_cuda_function(),
            stream: device.cuda_stream(),
        })
    }

    pub(crate) fn arguments(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

/// Blocks for so many threads.
pub(crate) fn blocks(threads: u32) -> u32 {
    threads.div_ceil(THREADS)
}

/// Starts a kernel on a grid of so many blocks by so many rows of them.
///
/// # Safety
/// The arguments are those of the kernel, and what it touches on such a grid is there.
pub(crate) unsafe fn launch(mut arguments: LaunchArgs, blocks: u32, rows: u32) -> Result<()> {
    let config = LaunchConfig {
        grid_dim: (blocks, rows, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    };
    count();
    // SAFETY: the caller's promise.
    unsafe { arguments.launch(config) }.w()?;
    Ok(())
}

/// Adds to [`launches`].
pub(crate) fn count() {
    LAUNCHES.set(LAUNCHES.get() + 1);
}
