//! The figures of a report; shares and accuracies in 0..1.

use ann::Ann;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use snn_core::SpikingNetwork;

use crate::metrics::judge;
use crate::weight_change::{LayerChange, weight_change_by_layer};
use crate::{Result, rate_reading, relu_reading};

/// What one attack got out of one network. See [`crate::Scorer::score`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackOutcome {
    /// Name of the attack.
    pub attack: String,
    /// Name of the attacked network.
    pub target: String,
    /// Number of reconstructions.
    pub samples: usize,
    /// How many of them had no gradient to follow in more than half of their iterations: they say nothing of what the network
    /// hides.
    pub without_gradient: usize,
    /// Share of the reconstructions in which the judge sees their class.
    pub judge_top1: f64,
    /// Share whose class is among the judge's five highest.
    pub judge_top5: f64,
    /// `judge_top1` of each class; none for a class without reconstructions.
    pub per_class_top1: Vec<Option<f64>>,
    /// Mean probability of the class for the network that was ascended on: for A1 on a spiking network that is its reading.
    pub target_confidence: f64,
    /// Fréchet distance between reconstructions and real images, on the judge's features.
    pub fid: f64,
    /// The same between real images and other real images.
    pub fid_floor: f64,
    /// The same between uniform noise and real images.
    pub fid_ceiling: f64,
    /// Samples on the reconstructions' side of `fid` and `fid_ceiling`.
    pub fid_samples: usize,
    /// Samples on the same side of `fid_floor`.
    pub fid_floor_samples: usize,
    /// Real images on the other side of all three.
    pub fid_reference_samples: usize,
    /// Length of the feature vectors.
    pub feature_dimension: usize,
    /// Mean feature distance to the nearest real image of the class.
    pub nearest_distance: f64,
    /// Its median.
    pub nearest_distance_median: f64,
    /// The mean for as many real images, each against all other real images of its class: what a new real picture would score,
    /// or less where the judge was trained on these. None if there is but one of each class.
    pub nearest_distance_real: Option<f64>,
    /// Position of each reconstruction's nearest image in the real set.
    pub nearest_indices: Vec<usize>,
    /// Mean structural similarity to that image; none for images below 11x11.
    pub nearest_ssim: Option<f64>,
}

/// What the weights of a released network give away before any attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leakage {
    /// Name of the network.
    pub target: String,
    /// Accuracy of its weights read as a plain ReLU network. While it stays high, nothing has been hidden.
    pub relu_reading_accuracy: f64,
    /// Accuracy of its weights read as a network of rates, which are clipped at the thresholds. The same holds of it.
    pub rate_reading_accuracy: f64,
    /// Distance of its weights from the source's.
    pub weight_change_by_layer: Vec<LayerChange>,
}

/// Leakage of a released network whose source, batch norm folded, is `source`, on images `[N, C, H, W]` in [-1, 1] with
/// `labels` `[N]` u32.
///
/// # Errors
/// Networks of different layers, images or labels that do not fit.
pub fn leakage(
    target: &str,
    source: &Ann,
    network: &SpikingNetwork,
    images: &Tensor,
    labels: &Tensor,
    batch: usize,
) -> Result<Leakage> {
    let reading = relu_reading(network)?;
    let rates = rate_reading(network)?;
    Ok(Leakage {
        target: target.into(),
        relu_reading_accuracy: judge(&reading, images, labels, batch)?.top1,
        rate_reading_accuracy: judge(&rates, images, labels, batch)?.top1,
        weight_change_by_layer: weight_change_by_layer(source, &reading)?,
    })
}
