//! Inference over many images.

use candle_core::{Device, Tensor};
use snn_core::progress::{self, Watch};

use crate::augment::normalise;
use crate::{Ann, Error, Mode, Result, loss};

/// Class scores `[N, K]` on the CPU of `images` `[N, C, H, W]`, u8 or f32 in [-1, 1], `batch` at a time. No gradient.
///
/// # Errors
/// No images, images of another shape than the network's input, a batch of 0.
pub fn logits(ann: &Ann, images: &Tensor, batch: usize) -> Result<Tensor> {
    watched(ann, images, batch, "image", &mut progress::silent)
}

/// Share of `images` `[N, C, H, W]` (u8 or f32 in [-1, 1]) whose largest score is at their label `[N]` u32.
///
/// # Errors
/// As [`logits`], and a number of labels other than N.
pub fn evaluate(ann: &Ann, images: &Tensor, labels: &Tensor, batch: usize) -> Result<f64> {
    loss::accuracy(&logits(ann, images, batch)?, labels)
}

pub(crate) fn watched(
    ann: &Ann,
    images: &Tensor,
    batch: usize,
    unit: &str,
    watch: &mut Watch,
) -> Result<Tensor> {
    let n = images.dims().first().copied().unwrap_or(0);
    if batch == 0 || n == 0 {
        return Err(Error::argument(
            "evaluate",
            format!("{n} images in batches of {batch}: needs at least 1 of each"),
        ));
    }
    // no graph: the activations of a batch are freed as soon as the next layer has them
    let ann = ann.detached();
    let device = ann.parameters().device();
    let mut rows = Vec::with_capacity(n.div_ceil(batch));
    for start in (0..n).step_by(batch) {
        let part = images.narrow(0, start, batch.min(n - start))?;
        let input = normalise(&part)?.to_device(&device)?;
        rows.push(
            ann.forward(&input, Mode::Inference)?
                .to_device(&Device::Cpu)?,
        );
        progress::report(watch, unit, (start + batch).min(n) as u64, n as u64, "")?;
    }
    Ok(Tensor::cat(&rows, 0)?)
}
