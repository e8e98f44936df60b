//! Attack accuracy: the share of reconstructions in which an independent judge sees the class they were made for.

use ann::Ann;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::{Result, check};

/// What the judge saw; shares in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Number of images.
    pub samples: usize,
    /// Share whose class the judge scores highest.
    pub top1: f64,
    /// Share whose class is among the judge's five highest (all, if there are fewer than five classes).
    pub top5: f64,
    /// `top1` of each class; none for a class without images.
    pub per_class_top1: Vec<Option<f64>>,
    /// `top5` of each class; none for a class without images.
    pub per_class_top5: Vec<Option<f64>>,
}

/// Shows `images` `[N, C, H, W]` of `classes` `[N]` to the judge, `batch` at a time. A class's rank is one more than
/// the number of classes with a higher score or an equal score and a lower number; a score that is not finite counts as
/// not recognised.
///
/// # Errors
/// Images that are not finite or not of the judge's shape, classes that are not the judge's, a batch of none.
pub fn judge(judge: &Ann, images: &Tensor, classes: &Tensor, batch: usize) -> Result<Judged> {
    let n = check::images("images", images)?;
    let k = judge.topology().classes();
    let labels = check::labels("classes", classes, n, k)?;
    let batch = check::batch(batch)?;
    let judge = judge.detached();
    let device = judge.parameters().device();
    let (mut counts, mut first, mut five) = (vec![0usize; k], vec![0usize; k], vec![0usize; k]);
    for start in (0..n).step_by(batch) {
        let part = images
            .detach()
            .narrow(0, start, batch.min(n - start))?
            .force_contiguous()?
            .to_device(&device)?;
        let rows: Vec<Vec<f32>> = judge.forward(&part, ann::Mode::Inference)?.to_vec2()?;
        for (row, &label) in rows.iter().zip(&labels[start..]) {
            let label = label as usize;
            counts[label] += 1;
            if row.iter().any(|v| !v.is_finite()) {
                continue;
            }
            let own = row[label];
            let rank = (0..k)
                .filter(|&i| row[i] > own || (row[i] == own && i < label))
                .count();
            first[label] += usize::from(rank == 0);
            five[label] += usize::from(rank < 5);
        }
    }
    let share = |hits: &[usize]| hits.iter().sum::<usize>() as f64 / n as f64;
    let by_class = |hits: &[usize]| {
        let pairs = hits.iter().zip(&counts);
        pairs
            .map(|(&hit, &count)| (count > 0).then(|| hit as f64 / count as f64))
            .collect()
    };
    Ok(Judged {
        samples: n,
        top1: share(&first),
        top5: share(&five),
        per_class_top1: by_class(&first),
        per_class_top5: by_class(&five),
    })
}
