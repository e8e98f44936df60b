//! cuDNN's convolutions. The algorithms are named, not sought: these sum the products themselves (no transform), in an
//! order that is the same every time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::result::CudnnError;
use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
    cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
    cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
    cudnnMathType_t::{CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH},
    cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, FilterDescriptor,
    TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, PushKernelArg};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{CudaStorage, Layout, Result, Shape, Tensor};

use super::geometry::Geometry;
use crate::ops::cuda::{self, Kernel};

const MODULE: (&str, &str) = (
    "snn-core-conv2d",
    include_str!(concat!(env!("OUT_DIR"), "/conv2d.ptx")),
);

/// Shares of the images whose gradients of the bias are added apart. A constant: the order of additions is one.
const SHARES: usize = 64;

/// A tensor as a custom op receives it.
type View<'a> = (&'a CudaStorage, &'a Layout);

thread_local! {
    /// A handle is for one thread.
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
}

fn handle(device: &CudaDevice) -> Result<Arc<Cudnn>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&device.id()) {
            return Ok(handle.clone());
        }
        let handle = Cudnn::new(device.cuda_stream())?;
        handles.insert(device.id(), handle.clone());
        Ok(handle)
    })
}

/// A convolution in cuDNN's terms.
struct Convolution<'a> {
    geometry: &'a Geometry,
    device: &'a CudaDevice,
    x: TensorDescriptor<f32>,
    weight: FilterDescriptor<f32>,
    y: TensorDescriptor<f32>,
    sizes: ConvDescriptor<f32>,
}

impl<'a> Convolution<'a> {
    fn new(geometry: &'a Geometry, device: &'a CudaDevice) -> Result<Self> {
        let g = geometry;
        let int = |n: usize| {
            i32::try_from(n).map_err(|_| candle_core::Error::Msg(format!("conv2d: {n} in {g:?}")))
        };
        let four =
            |[a, b, c, d]: [usize; 4]| -> Result<_> { Ok([int(a)?, int(b)?, int(c)?, int(d)?]) };
        let x = four([g.images, g.channels, g.height, g.width])?;
        let weight = four([g.out_channels, g.channels, g.kernel, g.kernel])?;
        let y = four([g.images, g.out_channels, g.out_height, g.out_width])?;
        for (what, numbers) in [
            ("input", g.images * g.channels * g.plane()),
            ("output", g.images * g.out_channels * g.out_plane()),
        ] {
            if i32::try_from(numbers).is_err() {
                candle_core::bail!(
                    "conv2d: cuDNN takes fewer than 2^31 numbers, the {what} has {numbers} of {} images (time steps \
                     included); take a smaller batch",
                    g.images
                );
            }
        }
        let (padding, stride) = (int(g.padding)?, int(g.stride)?);
        let handle = handle(device)?;
        let describe = || {
            let mut sizes = handle.create_conv2d::<f32>(
                [padding; 2],
                [stride; 2],
                [1; 2],
                CUDNN_CROSS_CORRELATION,
            )?;
            // the default rounds to TF32 where the card can
            sizes.set_math_type(match cuda::tf32_allowed() {
                true => CUDNN_DEFAULT_MATH,
                false => CUDNN_FMA_MATH,
            })?;
            Ok(Self {
                geometry,
                device,
                x: handle.create_4d_tensor(CUDNN_TENSOR_NCHW, x)?,
                weight: handle.create_4d_filter(CUDNN_TENSOR_NCHW, weight)?,
                y: handle.create_4d_tensor(CUDNN_TENSOR_NCHW, y)?,
                sizes,
            })
        };
        describe().map_err(|error| refused(geometry, error))
    }

    /// Gives `run` the memory that it needs beside its tensors.
    fn with_workspace(
        &self,
        bytes: std::result::Result<usize, CudnnError>,
        run: impl FnOnce(Option<&mut CudaSlice<u8>>) -> std::result::Result<(), CudnnError>,
    ) -> Result<()> {
        let bytes = bytes.map_err(|error| refused(self.geometry, error))?;
        let mut workspace = match bytes {
            0 => None,
            // SAFETY: cuDNN writes what it reads there.
            _ => Some(unsafe { self.device.alloc::<u8>(bytes)? }),
        };
        cuda::count();
        run(workspace.as_mut()).map_err(|error| refused(self.geometry, error))
    }
}

fn refused(geometry: &Geometry, error: CudnnError) -> candle_core::Error {
    candle_core::Error::Msg(format!("conv2d: cuDNN refuses {geometry:?}: {error}"))
}

/// What [`super::Conv2d`] computes, from (x, weight, bias).
pub(super) fn forward(
    g: &Geometry,
    (x, lx): View,
    (weight, lw): View,
    bias: Option<View>,
) -> Result<(CudaStorage, Shape)> {
    let device = &x.device;
    let len = g.images * g.out_channels * g.out_plane();
    let convolution = Convolution::new(g, device)?;
    let operation = ConvForward {
        conv: &convolution.sizes,
        x: &convolution.x,
        w: &convolution.weight,
        y: &convolution.y,
    };
    let algorithm = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    let (x, weight) = (cuda::values(x, lx)?, cuda::values(weight, lw)?);
    // SAFETY: the convolution writes all of them.
    let mut y = unsafe { cuda::room(device, len)? };
    convolution.with_workspace(operation.get_workspace_size(algorithm), |workspace| {
        // SAFETY: the tensors are contiguous and of the sizes that the descriptors say.
        unsafe { operation.launch(algorithm, workspace, (1.0, 0.0), &x, &weight, &mut y) }
    })?;
    if let Some((bias, lb)) = bias {
        add_bias(g, device, &mut y, &cuda::values(bias, lb)?)?;
    }
    let shape = Shape::from(g.out_shape(lx.dims()));
    Ok((CudaStorage::wrap_cuda_slice(y, device.clone()), shape))
}

fn add_bias(
    g: &Geometry,
    device: &CudaDevice,
    y: &mut CudaSlice<f32>,
    bias: &CudaView<f32>,
) -> Result<()> {
    let plane = cuda::size("positions", g.out_plane())?;
    let channels = cuda::size("channels", g.out_channels)?;
    let count = cuda::size("results of a convolution", y.len())?;
    let kernel = Kernel::new(device, MODULE, "add_bias")?;
    let mut arguments = kernel.arguments();
    arguments.arg(y).arg(bias);
    arguments.arg(&plane).arg(&channels).arg(&count);
    // SAFETY: a thread per result; the bias has a number for each channel.
    unsafe { cuda::launch(arguments, cuda::blocks(count), 1) }
}

/// Gradients of x and weight, each if it is wanted.
pub(super) fn backward(
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    gy: &Tensor,
    [of_x, of_weight]: [bool; 2],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    cuda::with_values(gy, |device, gy| {
        let convolution = Convolution::new(g, device)?;
        let gx = match of_x {
            true => {
                let gx = cuda::with_values(weight, |_, weight| {
                    backward_data(&convolution, &weight, &gy)
                })?;
                Some(cuda::tensor(gx, x.shape(), device))
            }
            false => None,
        };
        let gw = match of_weight {
            true => {
                let gw = cuda::with_values(x, |_, x| backward_weight(&convolution, &x, &gy))?;
                Some(cuda::tensor(gw, weight.shape(), device))
            }
            false => None,
        };
        Ok((gx, gw))
    })
}

fn backward_data(
    convolution: &Convolution,
    weight: &CudaView<f32>,
    gy: &CudaView<f32>,
) -> Result<CudaSlice<f32>> {
    let operation = ConvBackwardData {
        conv: &convolution.sizes,
        dx: &convolution.x,
        w: &convolution.weight,
        dy: &convolution.y,
    };
    let algorithm = CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
    let len = convolution.geometry.images * convolution.geometry.image();
    // SAFETY: the convolution writes all of them.
    let mut gx = unsafe { cuda::room(convolution.device, len)? };
    convolution.with_workspace(operation.get_workspace_size(algorithm), |workspace| {
        // SAFETY: the tensors are contiguous and of the sizes that the descriptors say.
        unsafe { operation.launch(algorithm, workspace, (1.0, 0.0), &mut gx, weight, gy) }
    })?;
    Ok(gx)
}

fn backward_weight(
    convolution: &Convolution,
    x: &CudaView<f32>,
    gy: &CudaView<f32>,
) -> Result<CudaSlice<f32>> {
    let operation = ConvBackwardFilter {
        conv: &convolution.sizes,
        x: &convolution.x,
        dw: &convolution.weight,
        dy: &convolution.y,
    };
    let algorithm = CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
    let g = convolution.geometry;
    // SAFETY: the convolution writes all of them.
    let mut gw = unsafe { cuda::room(convolution.device, g.out_channels * g.channels * g.taps())? };
    convolution.with_workspace(operation.get_workspace_size(algorithm), |workspace| {
        // SAFETY: the tensors are contiguous and of the sizes that the descriptors say.
        unsafe { operation.launch(algorithm, workspace, (1.0, 0.0), x, &mut gw, gy) }
    })?;
    Ok(gw)
}

/// Gradient of the bias: the sums of gy over images and positions, of at least one of each.
pub(super) fn backward_bias(out_channels: usize, out_plane: usize, gy: &Tensor) -> Result<Tensor> {
    let count = gy.elem_count() / (out_channels * out_plane);
    let share = count.div_ceil(SHARES);
    let images = cuda::size("images", count)?;
    let channels = cuda::size("channels", out_channels)?;
    let plane = cuda::size("positions", out_plane)?;
    cuda::size("positions of a share", share * out_plane)?;
    let (share, shares) = (share as u32, count.div_ceil(share) as u32);
    cuda::with_values(gy, |device, gy| {
        // SAFETY: the kernels below write all of them.
        let (mut partial, mut whole) = unsafe {
            (
                cuda::room(device, out_channels * shares as usize)?,
                cuda::room(device, out_channels)?,
            )
        };
        let kernel = Kernel::new(device, MODULE, "partial_sums")?;
        let mut arguments = kernel.arguments();
        arguments.arg(&gy).arg(&mut partial);
        arguments
            .arg(&images)
            .arg(&channels)
            .arg(&plane)
            .arg(&share);
        // SAFETY: a block per channel and share; gy has whole images.
        unsafe { cuda::launch(arguments, channels, shares)? };
        let kernel = Kernel::new(device, MODULE, "whole_sums")?;
        let mut arguments = kernel.arguments();
        arguments.arg(&partial).arg(&mut whole);
        arguments.arg(&shares).arg(&channels);
        // SAFETY: a thread per channel.
        unsafe { cuda::launch(arguments, cuda::blocks(channels), 1)? };
        Ok(cuda::tensor(whole, out_channels, device))
    })
}
