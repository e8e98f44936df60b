//! Fully connected layer.

mod cpu;
pub mod reference;
pub(crate) mod slices;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor};

use self::cpu::Sizes;
use super::cpu::{View, takes, values, with_values};
use crate::{Error, Result};

/// `y = x weight^T + bias`: `x` `[N, F]` (or `[T, N, F]`: the leading axes are one), `weight` `[O, F]`, `bias` `[O]`;
/// result `[N, O]`. Differentiable in all three; gradients of a tensor that is not part of the graph are not computed.
///
/// On the CPU a row's result does not depend on the batch it is in, byte for byte.
///
/// # Errors
/// Shapes that do not fit, with the shapes.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let sizes = sizes(x, weight)?;
    if let Some(bias) = bias
        && bias.dims() != [sizes.outputs]
    {
        return Err(Error::argument(
            "linear",
            format!("bias needs [{}], got {:?}", sizes.outputs, bias.dims()),
        ));
    }
    match bias {
        Some(bias) if takes(&[x, weight, bias]) => Ok(x.contiguous()?.apply_op3(
            &weight.contiguous()?,
            &bias.contiguous()?,
            Linear(sizes),
        )?),
        None if takes(&[x, weight]) => Ok(x
            .contiguous()?
            .apply_op2(&weight.contiguous()?, Linear(sizes))?),
        bias => reference::linear(x, weight, bias),
    }
}

/// Gradients of [`linear`]'s `x` and `weight`, from the gradient `gy` `[N, O]` (with the leading axes of `x`) of its result,
/// without a graph.
///
/// # Errors
/// Shapes that do not fit, with the shapes.
pub fn backward(x: &Tensor, weight: &Tensor, gy: &Tensor) -> Result<(Tensor, Tensor)> {
    let sizes = sizes_with(x, weight, gy)?;
    if takes(&[x, weight, gy]) {
        return Ok((sizes.of_x(x, weight, gy)?, sizes.of_weight(x, weight, gy)?));
    }
    let rows = gy.reshape((sizes.rows, sizes.outputs))?;
    let gw = rows.t()?.matmul(&x.reshape((sizes.rows, sizes.inputs))?)?;
    Ok((rows.matmul(weight)?.reshape(x.shape())?, gw))
}

/// The first of the gradients of [`backward`] alone, where no weight is trained.
///
/// # Errors
/// Those of [`backward`].
pub fn backward_data(x: &Tensor, weight: &Tensor, gy: &Tensor) -> Result<Tensor> {
    let sizes = sizes_with(x, weight, gy)?;
    if takes(&[x, weight, gy]) {
        return Ok(sizes.of_x(x, weight, gy)?);
    }
    let rows = gy.reshape((sizes.rows, sizes.outputs))?;
    Ok(rows.matmul(weight)?.reshape(x.shape())?)
}

/// The gradient of a [`linear`]'s bias `[O]`: the sum of `gy` `[N, O]` (or `[T, N, O]`) over all but the outputs.
///
/// # Errors
/// A `gy` without rows or outputs.
pub fn backward_bias(gy: &Tensor) -> Result<Tensor> {
    let outputs = match *gy.dims() {
        [ref leading @ .., outputs] if !leading.is_empty() && gy.elem_count() > 0 => outputs,
        ref dims => {
            let message = format!("needs [N, O] with at least one number, got {dims:?}");
            return Err(Error::argument("gy", message));
        }
    };
    if takes(&[gy]) {
        let gb = with_values(gy, |gy| cpu::backward_bias(outputs, gy))?;
        return Ok(Tensor::from_vec(gb, outputs, gy.device())?);
    }
    Ok(gy.reshape(((), outputs))?.sum(0)?)
}

/// The sizes, if the gradient of the result fits too.
fn sizes_with(x: &Tensor, weight: &Tensor, gy: &Tensor) -> Result<Sizes> {
    let sizes = sizes(x, weight)?;
    let shape = [&x.dims()[..x.dims().len() - 1], &[sizes.outputs]].concat();
    match gy.dims() == shape {
        true => Ok(sizes),
        false => Err(Error::argument(
            "gy",
            format!("needs {shape:?} like the result, got {:?}", gy.dims()),
        )),
    }
}

/// The sizes, if they fit.
fn sizes(x: &Tensor, weight: &Tensor) -> Result<Sizes> {
    match (x.dims(), weight.dims()) {
        (&[ref leading @ .., inputs], &[outputs, f])
            if !leading.is_empty() && inputs == f && inputs > 0 && outputs > 0 =>
        {
            Ok(Sizes {
                rows: leading.iter().product(),
                inputs,
                outputs,
            })
        }
        (x, weight) => Err(Error::argument(
            "linear",
            format!("input {x:?} and weight {weight:?} do not fit"),
        )),
    }
}

impl Sizes {
    fn of_x(&self, x: &Tensor, weight: &Tensor, gy: &Tensor) -> candle_core::Result<Tensor> {
        let gx = with_values(gy, |gy| {
            with_values(weight, |weight| cpu::backward_data(self, weight, gy))
        })??;
        Tensor::from_vec(gx, x.shape(), x.device())
    }

    fn of_weight(&self, x: &Tensor, weight: &Tensor, gy: &Tensor) -> candle_core::Result<Tensor> {
        let gw = with_values(gy, |gy| {
            with_values(x, |x| cpu::backward_weight(self, x, gy))
        })??;
        Tensor::from_vec(gw, weight.shape(), weight.device())
    }
}

struct Linear(Sizes);

impl Linear {
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
        );
        let mut shape = x.1.dims().to_vec();
        shape[x.1.dims().len() - 1] = self.0.outputs;
        Ok((CpuStorage::F32(y), Shape::from(shape)))
    }

    /// Gradients of x and weight, each if it is part of the graph.
    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gy = gy.contiguous()?;
        let gx = x.track_op().then(|| self.0.of_x(x, weight, &gy));
        let gw = weight.track_op().then(|| self.0.of_weight(x, weight, &gy));
        let (gx, gw) = (gx.transpose()?, gw.transpose()?);
        Ok((gx, gw))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
            let gb = with_values(gy, |gy| cpu::backward_bias(self.0.outputs, gy))?;
            Some(Tensor::from_vec(gb, bias.shape(), bias.device())?)
        } else {
            None
        };
        Ok((gx, gw, gb))
    }
}
