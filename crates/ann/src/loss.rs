//! Losses over logits `[N, K]`, averaged over N.

use candle_core::{D, Tensor};
use candle_nn::ops::{log_softmax, softmax};

use crate::{Error, Result};

pub use snn_core::evaluate::argmax;

/// Cross-entropy with distributions as targets: `- mean over n of sum over k of target[n, k] * log softmax(logits[n])[k]`.
/// `logits` and `target` `[N, K]`.
///
/// # Errors
/// Shapes or types that differ.
pub fn soft_cross_entropy(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    if logits.dims() != target.dims() {
        return Err(Error::argument(
            "target",
            format!(
                "needs the shape of the logits {:?}, got {:?}",
                logits.dims(),
                target.dims()
            ),
        ));
    }
    let n = logits.dim(0)? as f64;
    Ok((log_softmax(logits, D::Minus1)?.mul(target)?.sum_all()? * (-1.0 / n))?)
}

/// Cross-entropy with class numbers `[N]` u32 and label smoothing s below 1: the target is `(1 - s) onehot + s / K`.
///
/// A negative s pushes the other classes below zero weight (negative label smoothing, a cheap defence against model
/// inversion: Struppek et al., ICLR 2024). The loss then has no lower bound.
///
/// # Errors
/// A smoothing that is not finite or not below 1; a label outside `0..K`; more or fewer labels than rows.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    check_smoothing(smoothing)?;
    let (_, classes) = logits.dims2()?;
    let target = one_hot(labels, classes)?.to_device(logits.device())?;
    let target = ((target * (1.0 - smoothing))? + smoothing / classes as f64)?;
    soft_cross_entropy(logits, &target)
}

pub(crate) fn check_smoothing(smoothing: f64) -> Result<()> {
    if !(smoothing.is_finite() && smoothing < 1.0) {
        let message =
            format!("must be a finite number below 1 (negative is allowed), got {smoothing}");
        return Err(Error::argument("label_smoothing", message));
    }
    Ok(())
}

/// `[N]` u32 to `[N, K]` f32.
///
/// # Errors
/// A label outside `0..K`; labels of another shape or type.
pub fn one_hot(labels: &Tensor, classes: usize) -> Result<Tensor> {
    let labels: Vec<u32> = labels.to_vec1()?;
    let mut rows = vec![0f32; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        if label as usize >= classes {
            return Err(Error::argument(
                "labels",
                format!("label {label} of sample {row} is not below {classes}"),
            ));
        }
        rows[row * classes + label as usize] = 1.0;
    }
    Ok(Tensor::from_vec(
        rows,
        (labels.len(), classes),
        &candle_core::Device::Cpu,
    )?)
}

/// Distillation: `mean over n of KL(softmax(teacher / temperature) || softmax(student / temperature))`; no gradient to
/// the teacher. Hinton et al. scale it by the square of the temperature: the caller does.
///
/// # Errors
/// Shapes or types that differ; a temperature that is not positive and finite.
pub fn distillation(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(Error::argument(
            "temperature",
            format!("must be positive, got {temperature}"),
        ));
    }
    let n = student.dim(0)? as f64;
    let teacher = (teacher.detach() / temperature)?;
    let p = softmax(&teacher, D::Minus1)?;
    let log_p = log_softmax(&teacher, D::Minus1)?;
    let log_q = log_softmax(&(student / temperature)?, D::Minus1)?;
    Ok((p.mul(&(log_p - log_q)?)?.sum_all()? * (1.0 / n))?)
}

/// Share of rows of `logits` `[N, K]` whose largest entry is at `labels` `[N]`. The first of equal entries counts; a
/// row with NaN is wrong.
///
/// # Errors
/// Those of [`correct`].
pub fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    let correct = correct(logits, labels)?;
    Ok(correct as f64 / logits.dim(0)?.max(1) as f64)
}

/// Number of rows of `logits` `[N, K]` whose largest entry is at `labels` `[N]`.
///
/// # Errors
/// More or fewer labels than rows; logits or labels of another rank or type than f32 and u32.
pub fn correct(logits: &Tensor, labels: &Tensor) -> Result<usize> {
    let rows: Vec<Vec<f32>> = logits.to_vec2()?;
    let labels: Vec<u32> = labels.to_vec1()?;
    if rows.len() != labels.len() {
        return Err(Error::argument(
            "labels",
            format!("{} labels for {} rows", labels.len(), rows.len()),
        ));
    }
    Ok(rows
        .iter()
        .zip(labels)
        .filter(|(row, label)| argmax(row) == Some(*label as usize))
        .count())
}
