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
    /// Refuses values outside their domains.
    ///
    /// # Errors
    /// A parameter that is not positive and finite, by name.
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
                let s = 1.0 / (1.0 + exp(-alpha * x));
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

/// `e^x` for x cut to [-87, 88], to two units in the last place, without a call, so that loops over it become vector
/// instructions: `e^x = 2^n e^r` with n the whole number next to `x / ln 2`, and r at most `ln 2 / 2`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // added to a number, it moves the whole part to the last bits
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts: products of the first with whole numbers are exact
    const HIGH: f32 = 355.0 / 512.0;
    const LOW: f32 = (std::f64::consts::LN_2 - 355.0 / 512.0) as f32;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (x - n * HIGH) - n * LOW;
    let tail = 1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0)));
    let small = 1.0 + (r + r * r * (0.5 + r * tail));
    let exponent = shifted
        .to_bits()
        .wrapping_sub(SHIFT.to_bits())
        .wrapping_add(127);
    small * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_exact_to_two_units() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0 + 0.001_7;
            if (-87.0..=88.0).contains(&x) {
                let (own, exact) = (f64::from(super::exp(x)), f64::from(x).exp());
                assert!((own / exact - 1.0).abs() < 2.4e-7, "{x}: {own} for {exact}");
            }
        }
        assert_eq!(super::exp(0.0), 1.0);
        assert_eq!(super::exp(-1e30), super::exp(-87.0));
        assert_eq!(super::exp(1e30), super::exp(88.0));
        assert!(super::exp(f32::NAN).is_nan());
    }
}
