//! Surrogate derivatives: the spike is a step function of the membrane, its gradient that of a smooth stand-in.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A smooth stand-in for the step `H(x)` at `x = v / threshold - 1`. Each is a pair: a primitive and its derivative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Surrogate {
    /// Derivative `scale * max(0, 1 - |x|)`: the paper's, with `scale` 0.3.
    PiecewiseLinear {
        /// Height at the threshold.
        scale: f32,
    },
    /// Derivative `alpha / 2 / (1 + (pi / 2 * alpha * x)^2)` (Fang et al. 2021).
    Atan {
        /// Steepness.
        alpha: f32,
    },
    /// Derivative `alpha * s * (1 - s)`, `s = sigmoid(alpha * x)`.
    Sigmoid {
        /// Steepness.
        alpha: f32,
    },
    /// Derivative `1 / width` where `|x| < width / 2`, else 0.
    Rectangular {
        /// Width of the window.
        width: f32,
    },
    /// Derivative `1 / (1 + beta * |x|)^2` (Zenke and Ganguli 2018).
    SuperSpike {
        /// Steepness.
        beta: f32,
    },
}

impl Default for Surrogate {
    fn default() -> Self {
        Self::PiecewiseLinear { scale: 0.3 }
    }
}

impl Surrogate {
    /// Refuses parameters that are not positive and finite.
    pub fn check(&self) -> Result<()> {
        let (name, value) = match *self {
            Self::PiecewiseLinear { scale } => ("surrogate.scale", scale),
            Self::Atan { alpha } | Self::Sigmoid { alpha } => ("surrogate.alpha", alpha),
            Self::Rectangular { width } => ("surrogate.width", width),
            Self::SuperSpike { beta } => ("surrogate.beta", beta),
        };
        if value.is_finite() && value > 0.0 {
            Ok(())
        } else {
            Err(Error::argument(
                name,
                format!("must be positive, got {value}"),
            ))
        }
    }

    /// The derivative at `x = v / threshold - 1`, with respect to `x`.
    #[inline(always)]
    pub fn derivative(&self, x: f32) -> f32 {
        match *self {
            Self::PiecewiseLinear { scale } => scale * (1.0 - x.abs()).max(0.0),
            Self::Atan { alpha } => {
                let y = std::f32::consts::FRAC_PI_2 * alpha * x;
                0.5 * alpha / (1.0 + y * y)
            }
            Self::Sigmoid { alpha } => {
                let s = 1.0 / (1.0 + (-alpha * x).exp());
                alpha * s * (1.0 - s)
            }
            Self::Rectangular { width } => {
                if x.abs() < 0.5 * width {
                    1.0 / width
                } else {
                    0.0
                }
            }
            Self::SuperSpike { beta } => {
                let y = 1.0 + beta * x.abs();
                1.0 / (y * y)
            }
        }
    }

    /// The smooth function whose derivative [`Surrogate::derivative`] is, in f64; its value at 0 is a half, or 0 for
    /// [`Surrogate::PiecewiseLinear`] and [`Surrogate::SuperSpike`], which are not normalised to a step of one.
    pub fn primitive(&self, x: f64) -> f64 {
        match *self {
            Self::PiecewiseLinear { scale } => {
                let y = x.clamp(-1.0, 1.0);
                f64::from(scale) * (y - 0.5 * y * y.abs())
            }
            Self::Atan { alpha } => {
                (std::f64::consts::FRAC_PI_2 * f64::from(alpha) * x).atan() / std::f64::consts::PI
                    + 0.5
            }
            Self::Sigmoid { alpha } => 1.0 / (1.0 + (-f64::from(alpha) * x).exp()),
            Self::Rectangular { width } => (x / f64::from(width) + 0.5).clamp(0.0, 1.0),
            Self::SuperSpike { beta } => x / (1.0 + f64::from(beta) * x.abs()),
        }
    }
}
