//! Soft targets from Dirichlet distributions.

use snn_core::rng::Stream;

use crate::{Error, Result};

/// Added to every concentration: the least similar class has similarity 0, for which the distribution is undefined.
pub const CONCENTRATION_FLOOR: f64 = 1e-4;

/// Far below this the logarithm of a variate, down to `-53 ln 2 / concentration`, would leave the numbers of f64.
const SMALLEST_CONCENTRATION: f64 = 1e-300;

/// A draw from the Dirichlet distribution with the given concentrations: non-negative, summing to 1.
///
/// It is a vector of gamma variates divided by their sum. The division is done on logarithms, so that concentrations so
/// small that every variate underflows still give a distribution (then close to one class alone).
///
/// # Errors
/// No concentration, or one that is below 1e-300 or not finite.
pub fn dirichlet(concentrations: &[f64], stream: &mut Stream) -> Result<Vec<f64>> {
    if concentrations.is_empty() {
        return Err(Error::argument("concentrations", "needs at least one"));
    }
    if let Some(bad) = concentrations
        .iter()
        .find(|a| !(a.is_finite() && **a >= SMALLEST_CONCENTRATION))
    {
        return Err(Error::argument(
            "concentrations",
            format!("must be finite and at least {SMALLEST_CONCENTRATION:e}, got {bad}"),
        ));
    }
    let logs: Vec<f64> = concentrations
        .iter()
        .map(|&a| ln_gamma_variate(a, stream))
        .collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    Ok(weights.iter().map(|weight| weight / sum).collect())
}

/// Logarithm of a draw from the gamma distribution of this shape (positive) and scale 1.
///
/// Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26 (2000). Below 1 the shape is
/// raised by one and the draw multiplied with `u^(1 / shape)`, here as a sum of logarithms.
pub(crate) fn ln_gamma_variate(shape: f64, stream: &mut Stream) -> f64 {
    if shape < 1.0 {
        let u = 1.0 - stream.uniform_f64();
        return ln_gamma_variate(shape + 1.0, stream) + u.ln() / shape;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = stream.normal();
        let root = 1.0 + c * x;
        if root <= 0.0 {
            continue;
        }
        let v = root * root * root;
        let u = 1.0 - stream.uniform_f64();
        if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d.ln() + v.ln();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snn_core::rng::Seed;

    const DRAWS: usize = 40_000;

    fn mean_and_variance(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        (mean, variance)
    }

    /// Mean and variance of the gamma distribution are its shape. Five standard errors; the fourth central moment is
    /// `3 a^2 + 6 a`.
    #[test]
    fn gamma_moments() {
        for (i, shape) in [0.2, 0.9, 1.0, 3.5, 40.0].into_iter().enumerate() {
            let mut stream = Seed::new(11).index(i as u64).stream();
            let draws: Vec<f64> = (0..DRAWS)
                .map(|_| ln_gamma_variate(shape, &mut stream).exp())
                .collect();
            let (mean, variance) = mean_and_variance(&draws);
            let n = DRAWS as f64;
            assert!(
                (mean - shape).abs() < 5.0 * (shape / n).sqrt(),
                "shape {shape}: mean {mean}"
            );
            let of_variance = ((3.0 * shape * shape + 6.0 * shape - shape * shape) / n).sqrt();
            assert!(
                (variance - shape).abs() < 5.0 * of_variance,
                "shape {shape}: variance {variance}"
            );
        }
    }

    /// The mean of ln G is digamma(shape), its variance trigamma(shape): values from Abramowitz and Stegun 6.3 and 6.4,
    /// and for the smallest shape from `digamma(a) = -1/a - 0.57722 + O(a)`, `trigamma(a) = 1/a^2 + 1.64493 + O(a)`.
    #[test]
    fn gamma_of_small_shape_in_logarithms() {
        let euler = 0.577_215_664_901_532_9;
        for (i, (shape, digamma, trigamma)) in [
            (1.0, -euler, 1.644_934_066_848_226_4),
            (0.5, -1.963_510_026_021_423_5, 4.934_802_200_544_679),
            (1e-4, -1e4 - euler, 1e8 + 1.644_9),
        ]
        .into_iter()
        .enumerate()
        {
            let mut stream = Seed::new(12).index(i as u64).stream();
            let draws: Vec<f64> = (0..DRAWS)
                .map(|_| ln_gamma_variate(shape, &mut stream))
                .collect();
            let (mean, variance) = mean_and_variance(&draws);
            let error = 5.0 * (trigamma / DRAWS as f64).sqrt();
            assert!((mean - digamma).abs() < error, "shape {shape}: mean {mean}");
            assert!(
                (variance / trigamma - 1.0).abs() < 0.1,
                "shape {shape}: variance {variance}"
            );
        }
    }

    #[test]
    fn dirichlet_moments() -> Result<()> {
        let concentrations = [0.05, 1.0001, 0.4, 2.0];
        let total: f64 = concentrations.iter().sum();
        let mut stream = Seed::new(13).stream();
        let mut draws = vec![Vec::with_capacity(DRAWS); concentrations.len()];
        for _ in 0..DRAWS {
            let y = dirichlet(&concentrations, &mut stream)?;
            assert!((y.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for (column, value) in draws.iter_mut().zip(y) {
                column.push(value);
            }
        }
        for (column, a) in draws.iter().zip(concentrations) {
            let (mean, variance) = mean_and_variance(column);
            let expected = a * (total - a) / (total * total * (total + 1.0));
            let error = 5.0 * (expected / DRAWS as f64).sqrt();
            assert!(
                (mean - a / total).abs() < error,
                "concentration {a}: mean {mean}"
            );
            assert!(
                (variance / expected - 1.0).abs() < 0.08,
                "concentration {a}: variance {variance}, expected {expected}"
            );
        }
        Ok(())
    }

    /// With concentrations at the floor every gamma variate underflows in f64 in most draws.
    #[test]
    fn nothing_underflows_to_a_division_by_zero() -> Result<()> {
        let mut stream = Seed::new(14).stream();
        let mut wins = [0usize; 5];
        for _ in 0..1_000 {
            let y = dirichlet(&[CONCENTRATION_FLOOR; 5], &mut stream)?;
            assert!((y.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{y:?}");
            wins[(0..5)
                .reduce(|a, b| if y[b] > y[a] { b } else { a })
                .expect("five")] += 1;
        }
        // 200 each, deviation 12.6
        assert!(
            wins.iter().all(|&w| (137..=263).contains(&w)),
            "not symmetric: {wins:?}"
        );
        Ok(())
    }

    #[test]
    fn refuses_bad_concentrations() {
        let mut stream = Seed::new(0).stream();
        for bad in [
            &[][..],
            &[0.0],
            &[1.0, -1.0],
            &[f64::NAN],
            &[f64::INFINITY],
            &[1e-310; 3],
        ] {
            assert!(dirichlet(bad, &mut stream).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn extreme_concentrations_give_distributions() -> Result<()> {
        let mut stream = Seed::new(15).stream();
        for a in [SMALLEST_CONCENTRATION, f64::MAX] {
            for _ in 0..100 {
                let y = dirichlet(&[a; 3], &mut stream)?;
                assert!((y.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{a}: {y:?}");
            }
        }
        Ok(())
    }
}
