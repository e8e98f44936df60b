//! Product with a mask that is held over the leading axis (time).

pub mod reference;

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::{CHUNK, takes, values, with_values};
use crate::{Error, Result};

/// `y[t, ...] = x[t, ...] * mask[...]`: `x` `[T, N, ...]` and `mask` `[N, ...]`, or both of one shape. Differentiable in
/// `x`; the mask is a constant.
///
/// # Errors
/// Shapes that do not fit, with the shapes.
pub fn mask(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    if mask.elem_count() == 0 || (x.dims() != mask.dims() && x.dims().get(1..) != Some(mask.dims()))
    {
        return Err(Error::argument(
            "mask",
            format!("input {:?} and mask {:?} do not fit", x.dims(), mask.dims()),
        ));
    }
    if takes(&[x, mask]) {
        Ok(x.contiguous()?
            .apply_op2(&mask.detach().contiguous()?, Mask)?)
    } else {
        reference::mask(x, mask)
    }
}

struct Mask;

impl CustomOp2 for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        m: &CpuStorage,
        lm: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((
            CpuStorage::F32(held(values(x, lx)?, values(m, lm)?)),
            lx.shape().clone(),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        mask: &Tensor,
        _y: &Tensor,
        gy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let gx = with_values(gy, |gy| with_values(mask, |mask| held(gy, mask)))??;
        Ok((Some(Tensor::from_vec(gx, x.shape(), x.device())?), None))
    }
}

/// `x` times the mask, repeated as often as it fits.
fn held(x: &[f32], mask: &[f32]) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(mask.len())
        .zip(x.par_chunks(mask.len()))
        .for_each(|(y, x)| {
            let pieces = y
                .par_chunks_mut(CHUNK)
                .zip(x.par_chunks(CHUNK))
                .zip(mask.par_chunks(CHUNK));
            pieces.for_each(|((y, x), mask)| {
                for ((y, x), m) in y.iter_mut().zip(x).zip(mask) {
                    *y = x * m;
                }
            });
        });
    y
}
