//! Inference over many images.

use candle_core::{DType, Device, Tensor};
use snn_core::evaluate::check_range;
use snn_core::parameters::is_finite;
use snn_core::progress::{self, Watch};

use crate::augment::normalise;
use crate::{Ann, Error, Mode, Result, loss};

/// Class scores `[N, K]` on the CPU of `images` `[N, C, H, W]`, u8 or f32 in [-1, 1], `batch` at a time. No gradient.
///
/// # Errors
/// No images, images of another shape than the network's input or outside [-1, 1], a batch of 0; a score that is not
/// finite.
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
        // a view would take its whole storage to the device
        let part = images
            .narrow(0, start, batch.min(n - start))?
            .force_contiguous()?;
        if part.dtype() == DType::F32 {
            check_range(&part, start)?;
        }
        let input = normalise(&part)?.to_device(&device)?;
        let scores = ann
            .forward(&input, Mode::Inference)?
            .to_device(&Device::Cpu)?;
        if !is_finite(&scores)? {
            return Err(Error::argument(
                "network",
                format!(
                    "gives images {start}.. a score that is not finite; its weights or running statistics are too large"
                ),
            ));
        }
        rows.push(scores);
        progress::report(
            watch,
            unit,
            start.saturating_add(batch).min(n) as u64,
            n as u64,
            "",
        )?;
    }
    Ok(Tensor::cat(&rows, 0)?)
}
