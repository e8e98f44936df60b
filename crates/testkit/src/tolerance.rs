use candle_core::{DType, Tensor};

/// How far two results may be apart, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// Not at all: the same operations in the same order, or integers.
    Exact,
    /// So many f32 roundings (units of 2^-24) of the largest expected magnitude: sums in another order.
    Rounding(f64),
    /// Five standard errors of a mean of `n` independent draws of deviation `sigma`.
    Statistical {
        /// Number of draws.
        n: usize,
        /// Deviation of one draw.
        sigma: f64,
    },
}

impl Tolerance {
    /// The greatest distance allowed, where `magnitude` is the largest expected one.
    ///
    /// # Panics
    /// If the bound is not finite, such as with `n` 0: nothing could exceed it.
    #[track_caller]
    pub fn bound(self, magnitude: f64) -> f64 {
        let bound = match self {
            Self::Exact => 0.0,
            Self::Rounding(n) => n * magnitude / f64::from(1 << 24),
            Self::Statistical { n, sigma } => {
                assert!(n > 0, "{self:?} is a mean of no draw");
                5.0 * sigma / (n as f64).sqrt()
            }
        };
        assert!(bound.is_finite(), "{self:?} bounds nothing: {bound}");
        bound
    }
}

/// Asserts that two tensors have one shape and are within the tolerance of one another everywhere. A NaN is within no
/// tolerance, and neither NaN nor infinity can be expected.
///
/// # Panics
/// If not, with `what` and the worst place.
#[track_caller]
pub fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: Tolerance, what: &str) {
    assert_eq!(actual.dims(), expected.dims(), "{what}: shapes");
    let (a, e) = (numbers(actual), numbers(expected));
    if let Some(place) = e.iter().position(|x| !x.is_finite()) {
        panic!("{what}: {} at {place} cannot be expected", e[place]);
    }
    let magnitude = e.iter().fold(0f64, |m, x| m.max(x.abs()));
    let bound = tolerance.bound(magnitude);
    let distance = |i: usize| {
        let distance = (a[i] - e[i]).abs();
        if distance.is_nan() {
            f64::INFINITY
        } else {
            distance
        }
    };
    if let Some(worst) = (0..a.len()).max_by(|&i, &j| distance(i).total_cmp(&distance(j))) {
        assert!(
            distance(worst) <= bound,
            "{what}: {} instead of {} at {worst} of {:?}: {:e} apart, {tolerance:?} allows {bound:e}",
            a[worst],
            e[worst],
            actual.dims(),
            distance(worst),
        );
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor
        .flatten_all()
        .and_then(|t| t.to_dtype(DType::F64)?.to_vec1())
        .expect("a tensor of numbers")
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).expect("a small tensor")
    }

    #[test]
    fn within() {
        assert_close(
            &tensor(&[1.0, 2.0]),
            &tensor(&[1.0, 2.0]),
            Tolerance::Exact,
            "same",
        );
        assert_close(
            &tensor(&[1.0, 2.0]),
            &tensor(&[1.0, 2.000_000_2]),
            Tolerance::Rounding(2.0),
            "an ulp",
        );
        assert_close(
            &tensor(&[0.52]),
            &tensor(&[0.5]),
            Tolerance::Statistical {
                n: 10_000,
                sigma: 0.5,
            },
            "a mean",
        );
    }

    #[test]
    #[should_panic(expected = "3 instead of 2 at 1")]
    fn apart() {
        assert_close(
            &tensor(&[1.0, 3.0]),
            &tensor(&[1.0, 2.0]),
            Tolerance::Rounding(100.0),
            "apart",
        );
    }

    #[test]
    #[should_panic(expected = "NaN instead of 2")]
    fn not_a_number() {
        let tolerance = Tolerance::Statistical { n: 1, sigma: 1e9 };
        assert_close(&tensor(&[f32::NAN]), &tensor(&[2.0]), tolerance, "nan");
    }

    #[test]
    #[should_panic(expected = "inf at 1 cannot be expected")]
    fn infinity_expected() {
        assert_close(
            &tensor(&[5.0, f32::INFINITY]),
            &tensor(&[1.0, f32::INFINITY]),
            Tolerance::Rounding(2.0),
            "infinite",
        );
    }

    #[test]
    #[should_panic(expected = "inf instead of 2")]
    fn infinity_found() {
        assert_close(
            &tensor(&[f32::INFINITY]),
            &tensor(&[2.0]),
            Tolerance::Rounding(2.0),
            "infinite",
        );
    }

    #[test]
    #[should_panic(expected = "a mean of no draw")]
    fn no_draw() {
        let tolerance = Tolerance::Statistical { n: 0, sigma: 1.0 };
        assert_close(&tensor(&[7.0]), &tensor(&[2.0]), tolerance, "no draw");
    }
}
