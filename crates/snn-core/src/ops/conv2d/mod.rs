//! Two-dimensional convolution (cross-correlation), batch and time folded together.

mod blocks;
mod cpu;
#[cfg(feature = "cudnn")]
mod cuda;
mod geometry;
mod layout;
mod pieces;
pub mod reference;
pub(crate) mod slices;
mod winograd;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor, Var};

use self::geometry::Geometry;
use super::cpu::{View, values, with_all, with_values};
use crate::{Error, Result};

/// `y[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] * x[n, c, i * stride + a - padding, j * stride + b - padding]`
///
/// `x` `[N, C, H, W]` (or `[T, N, C, H, W]`: the leading axes are one), `weight` `[O, C, k, k]`, `bias` `[O]`; result
/// `[N, O, H', W']`. Differentiable in all three; gradients of a tensor that is not part of the graph are not computed.
///
/// On the CPU an image's result does not depend on the batch it is in, byte for byte. On CUDA, with the feature `cudnn`,
/// cuDNN computes in f32; its inputs may be rounded to TF32 if `ops::cuda::allow_tf32` says so. Elsewhere the backward
/// pass is candle's, which fails where the stride does not reach the last positions of the padded input, that is where
/// `H + 2 padding - k` or `W + 2 padding - k` is not a multiple of the stride.
///
/// # Errors
/// Shapes that do not fit, with the shapes.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    conv2d_with(x, weight, bias, stride, padding, Sums::Ordered)
}

/// How the forward pass on the CPU adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// In the order of blocks of channels, taps and channels: what [`crate::event`] gives bit for bit.
    Ordered,
    /// As is fastest: a 3x3 convolution of stride 1 whose outputs have even sides of at least 4 by Winograd's
    /// F(4x4, 3x3) or F(2x2, 3x3), whose largest rounding error is up to six times that of ordered sums.
    Fastest,
}

/// [`conv2d`], with a choice of how it adds: for networks that no spiking network has to equal bit for bit.
///
/// # Errors
/// Those of [`conv2d`].
pub fn conv2d_with(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    sums: Sums,
) -> Result<Tensor> {
    let geometry = geometry(x, weight, stride, padding)?;
    if let Some(bias) = bias
        && bias.dims() != [geometry.out_channels]
    {
        return Err(Error::argument(
            "conv2d",
            format!(
                "bias needs [{}], got {:?}",
                geometry.out_channels,
                bias.dims()
            ),
        ));
    }
    match bias {
        Some(bias) if takes(&[x, weight, bias]) => Ok(x.contiguous()?.apply_op3(
            &weight.contiguous()?,
            &bias.contiguous()?,
            Conv2d(geometry, sums),
        )?),
        None if takes(&[x, weight]) => Ok(x
            .contiguous()?
            .apply_op2(&weight.contiguous()?, Conv2d(geometry, sums))?),
        bias => reference::conv2d(x, weight, bias, stride, padding),
    }
}

/// Gradients of a [`conv2d`]'s `x` and `weight`, from the gradient `gy` `[N, O, H', W']` (with the leading axes of `x`) of
/// its result: what the graph gives, without one. That of the bias is the sum of `gy` over all but the channels.
///
/// # Errors
/// Those of [`conv2d`]; a `gy` of another shape than the result's.
pub fn backward(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    gy: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let (gx, gw) = sought((x, weight), stride, padding, gy, [true, true])?;
    Ok((there(gx)?, there(gw)?))
}

/// The first of the gradients of [`backward`] alone, where no weight is trained.
///
/// # Errors
/// Those of [`backward`].
pub fn backward_data(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    gy: &Tensor,
) -> Result<Tensor> {
    there(sought((x, weight), stride, padding, gy, [true, false])?.0)
}

/// The second of the gradients of [`backward`] alone, for a layer whose `x` needs none.
///
/// # Errors
/// Those of [`backward`].
pub fn backward_weight(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    padding: usize,
    gy: &Tensor,
) -> Result<Tensor> {
    there(sought((x, weight), stride, padding, gy, [false, true])?.1)
}

fn there(gradient: Option<Tensor>) -> Result<Tensor> {
    gradient.ok_or_else(|| Error::argument("conv2d", "a gradient that was sought is missing"))
}

/// Gradients of x and weight, each if it is wanted.
fn sought(
    (x, weight): (&Tensor, &Tensor),
    stride: usize,
    padding: usize,
    gy: &Tensor,
    wanted: [bool; 2],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let geometry = geometry(x, weight, stride, padding)?;
    let shape = geometry.out_shape(x.dims());
    if gy.dims() != shape {
        return Err(Error::argument(
            "gy",
            format!("needs {shape:?} like the result, got {:?}", gy.dims()),
        ));
    }
    if takes(&[x, weight, gy]) {
        return Ok(gradients(&geometry, x, weight, &gy.contiguous()?, wanted)?);
    }
    // a variable of what is wanted alone, so that the graph gives no more
    let variables = [x, weight]
        .into_iter()
        .zip(wanted)
        .map(|(tensor, wanted)| wanted.then(|| Var::from_tensor(tensor)).transpose())
        .collect::<candle_core::Result<Vec<_>>>()?;
    let seen = |variable: &Option<Var>, constant: &Tensor| match variable {
        Some(variable) => variable.as_tensor().clone(),
        None => constant.detach(),
    };
    let (x, weight) = (seen(&variables[0], x), seen(&variables[1], weight));
    let y = reference::conv2d(&x, &weight, None, stride, padding)?;
    let mut gradients = (y * gy.detach())?.sum_all()?.backward()?;
    let mut of = |variable: &Option<Var>| {
        let variable = variable.as_ref()?;
        gradients.remove(variable.as_tensor())
    };
    Ok((of(&variables[0]), of(&variables[1])))
}

/// The gradient of a [`conv2d`]'s bias `[O]`: the sum of `gy` `[N, O, H', W']` (or `[T, N, O, H', W']`) over all but the
/// channels.
///
/// # Errors
/// Another shape.
pub fn backward_bias(gy: &Tensor) -> Result<Tensor> {
    let (channels, plane) = match *gy.dims() {
        [ref leading @ .., channels, h, w] if !leading.is_empty() && gy.elem_count() > 0 => {
            (channels, h * w)
        }
        ref dims => {
            let message = format!("needs [N, O, H, W] with at least one number, got {dims:?}");
            return Err(Error::argument("gy", message));
        }
    };
    if super::cpu::takes(&[gy]) {
        let gb = with_values(gy, |gy| cpu::backward_bias(channels, plane, gy))?;
        return Ok(Tensor::from_vec(gb, channels, gy.device())?);
    }
    #[cfg(feature = "cudnn")]
    if super::cuda::takes(&[gy]) {
        return Ok(cuda::backward_bias(channels, plane, &gy.contiguous()?)?);
    }
    Ok(gy.reshape(((), channels, plane))?.sum((0, 2))?)
}

/// The sizes, if they fit.
fn geometry(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Geometry> {
    Geometry::new(x.dims(), weight.dims(), stride, padding).ok_or_else(|| {
        Error::argument(
            "conv2d",
            format!(
                "input {:?} and weight {:?} do not fit (stride {stride}, padding {padding})",
                x.dims(),
                weight.dims()
            ),
        )
    })
}

/// Gradients of x and weight by the kernels, each if it is wanted; `gy` is contiguous.
fn gradients(
    g: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    gy: &Tensor,
    wanted: [bool; 2],
) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
    #[cfg(feature = "cudnn")]
    if gy.device().is_cuda() {
        return cuda::backward(g, x, weight, gy, wanted);
    }
    let (gx, gw) = with_all([x, weight, gy], |[x, weight, gy]| match wanted {
        [true, true] => {
            let (gx, gw) = cpu::backward(g, x, weight, gy);
            (Some(gx), Some(gw))
        }
        [of_x, of_weight] => (
            of_x.then(|| cpu::backward_data(g, weight, gy)),
            of_weight.then(|| cpu::backward_weight(g, x, gy)),
        ),
    })?;
    let like = |values: Option<Vec<f32>>, tensor: &Tensor| {
        values
            .map(|values| Tensor::from_vec(values, tensor.shape(), tensor.device()))
            .transpose()
    };
    Ok((like(gx, x)?, like(gw, weight)?))
}

/// Whether there is a kernel for these tensors.
fn takes(tensors: &[&Tensor]) -> bool {
    #[cfg(feature = "cudnn")]
    if super::cuda::takes(tensors) {
        return true;
    }
    super::cpu::takes(tensors)
}

struct Conv2d(Geometry, Sums);

impl Conv2d {
    fn forward(
        &self,
        x: View,
        weight: View,
        bias: Option<View>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let bias = bias.map(|(b, l)| values(b, l)).transpose()?;
        let y = cpu::forward(
            &self.0,
            values(x.0, x.1)?,
            values(weight.0, weight.1)?,
            bias,
            self.1,
        );
        Ok((
            CpuStorage::F32(y),
            Shape::from(self.0.out_shape(x.1.dims())),
        ))
    }

    /// Gradients of x and weight, each if it is part of the graph.
    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let wanted = [x.track_op(), weight.track_op()];
        gradients(&self.0, x, weight, &gy.contiguous()?, wanted)
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward((x, lx), (w, lw), None)
    }

    #[cfg(feature = "cudnn")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        w: &candle_core::CudaStorage,
        lw: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        cuda::forward(&self.0, (x, lx), (w, lw), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        self.backward(x, weight, gy)
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward((x, lx), (w, lw), Some((b, lb)))
    }

    #[cfg(feature = "cudnn")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        w: &candle_core::CudaStorage,
        lw: &Layout,
        b: &candle_core::CudaStorage,
        lb: &Layout,
    ) -> candle_core::Result<(candle_core::CudaStorage, Shape)> {
        cuda::forward(&self.0, (x, lx), (w, lw), Some((b, lb)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (gx, gw) = self.backward(x, weight, gy)?;
        let gb = if bias.track_op() {
            #[cfg(feature = "cudnn")]
            if gy.device().is_cuda() {
                return Ok((
                    gx,
                    gw,
                    Some(cuda::backward_bias(
                        self.0.out_channels,
                        self.0.out_plane(),
                        gy,
                    )?),
                ));
            }
            let gb = with_values(gy, |gy| {
                cpu::backward_bias(self.0.out_channels, self.0.out_plane(), gy)
            })?;
            Some(Tensor::from_vec(gb, bias.shape(), bias.device())?)
        } else {
            None
        };
        Ok((gx, gw, gb))
    }
}
