//! Checks of what comes in from outside.

use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// Number of images of a finite f32 `[N, C, H, W]` with N at least 1.
pub(crate) fn images(name: &'static str, images: &Tensor) -> Result<usize> {
    let n = match *images.dims() {
        [n, _, _, _] if images.elem_count() > 0 && images.dtype() == DType::F32 => n,
        ref dims => {
            return Err(Error::argument(
                name,
                format!(
                    "needs f32 [N, C, H, W] with N at least 1, got {:?} {dims:?}",
                    images.dtype()
                ),
            ));
        }
    };
    // any NaN or infinity makes the sum of 0 x something else than zero
    let residue = (images * 0.0)?.sum_all()?.to_scalar::<f32>()?;
    if residue != 0.0 {
        return Err(Error::argument(name, "holds a value that is not finite"));
    }
    Ok(n)
}

/// The class numbers of `[N]` u32, each below `classes`.
pub(crate) fn labels(
    name: &'static str,
    labels: &Tensor,
    n: usize,
    classes: usize,
) -> Result<Vec<u32>> {
    if labels.dims() != [n] || labels.dtype() != DType::U32 {
        return Err(Error::argument(
            name,
            format!(
                "needs u32 [{n}], got {:?} {:?}",
                labels.dtype(),
                labels.dims()
            ),
        ));
    }
    let labels: Vec<u32> = labels.to_vec1()?;
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(i) => Err(Error::argument(
            name,
            format!("label {} of image {i} is not below {classes}", labels[i]),
        )),
        None => Ok(labels),
    }
}

/// A batch size of at least 1.
pub(crate) fn batch(batch: usize) -> Result<usize> {
    match batch {
        0 => Err(Error::argument("batch", "must be at least 1")),
        batch => Ok(batch),
    }
}
