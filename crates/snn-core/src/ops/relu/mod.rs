//! Rectifier.

pub mod reference;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::cpu::{map, takes, values, with_values, zip};
use crate::{Error, Result};

/// `max(0, x)`; gradient 0 at 0. On the CPU a NaN stays a NaN.
///
/// # Errors
/// Those of the tensor library, for other types and devices than f32 on the CPU.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if takes(&[x]) {
        Ok(x.contiguous()?.apply_op1(Relu)?)
    } else {
        reference::relu(x)
    }
}

/// Gradient of [`relu`]'s `x`, from its result `y` and the gradient `gy` of that, all of one shape, without a graph.
///
/// # Errors
/// Unequal shapes.
pub fn backward(y: &Tensor, gy: &Tensor) -> Result<Tensor> {
    if y.dims() != gy.dims() {
        let message = format!(
            "{:?} is not the shape of the result {:?}",
            gy.dims(),
            y.dims()
        );
        return Err(Error::argument("gy", message));
    }
    if !takes(&[y, gy]) {
        return Ok(y.gt(0.0)?.where_cond(gy, &gy.zeros_like()?)?);
    }
    Ok(gradient(y, gy)?)
}

fn gradient(y: &Tensor, gy: &Tensor) -> candle_core::Result<Tensor> {
    let gx = with_values(y, |y| {
        with_values(gy, |gy| zip(y, gy, |y, g| if y > 0.0 { g } else { 0.0 }))
    })??;
    Tensor::from_vec(gx, y.shape(), y.device())
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = map(values(x, layout)?, |x| if x < 0.0 { 0.0 } else { x });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, gy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(gradient(y, gy)?))
    }
}
