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
    let sizes = match (x.dims(), weight.dims()) {
        (&[ref leading @ .., inputs], &[outputs, f])
            if !leading.is_empty() && inputs == f && inputs > 0 && outputs > 0 =>
        {
            Sizes {
                rows: leading.iter().product(),
                inputs,
                outputs,
            }
        }
        (x, weight) => {
            return Err(Error::argument(
                "linear",
                format!("input {x:?} and weight {weight:?} do not fit"),
            ));
        }
    };
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
        let gx = if x.track_op() {
            let gx = with_values(&gy, |gy| {
                with_values(weight, |weight| cpu::backward_data(&self.0, weight, gy))
            })??;
            Some(Tensor::from_vec(gx, x.shape(), x.device())?)
        } else {
            None
        };
        let gw = if weight.track_op() {
            let gw = with_values(&gy, |gy| {
                with_values(x, |x| cpu::backward_weight(&self.0, x, gy))
            })??;
            Some(Tensor::from_vec(gw, weight.shape(), weight.device())?)
        } else {
            None
        };
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
            let gb = with_values(gy, |gy| cpu::backward_bias(&self.0, gy))?;
            Some(Tensor::from_vec(gb, bias.shape(), bias.device())?)
        } else {
            None
        };
        Ok((gx, gw, gb))
    }
}
