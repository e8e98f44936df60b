use std::fmt::Debug;

use candle_core::{DType, Tensor, Var};

use crate::{Tolerance, assert_close};

/// Most places of a tensor that are looked at.
const PLACES: usize = 64;

/// Compares the gradient of the scalar function `f` at `x` by backpropagation with central differences
/// `(f(x + h) - f(x - h)) / 2h` at up to 64 places spread over `x`.
///
/// Take a step on which `f` has no corner, and as long as its curvature allows: the rounding of `f` is divided by it.
/// For a function that is linear or quadratic in every single number any step will do.
///
/// # Panics
/// If the two are further apart than the tolerance, or `f` fails.
#[track_caller]
pub fn check_gradient<E: Debug>(
    f: impl Fn(&Tensor) -> Result<Tensor, E>,
    x: &Tensor,
    step: f32,
    tolerance: Tolerance,
    what: &str,
) {
    let variable = Var::from_tensor(x).expect("a variable");
    let loss = f(variable.as_tensor()).expect("the function at x");
    let gradients = loss.backward().expect("a backward pass");
    let gradient = gradients
        .get(&variable)
        .unwrap_or_else(|| panic!("{what}: no gradient"))
        .clone();
    assert_eq!(gradient.dims(), x.dims(), "{what}: shape of the gradient");
    let gradient: Vec<f32> = flat(&gradient);
    let values: Vec<f32> = flat(x);
    let places: Vec<usize> = match values.len() {
        n if n <= PLACES => (0..n).collect(),
        // a stride without a common factor with the usual sizes visits all corners of the tensor
        n => (0..PLACES).map(|i| i * 104_729 % n).collect(),
    };
    let at = |place: usize, value: f32| -> f64 {
        let mut values = values.clone();
        values[place] = value;
        let x = Tensor::from_vec(values, x.dims(), x.device()).expect("a tensor like x");
        let loss = f(&x).expect("the function near x");
        loss.to_dtype(DType::F64)
            .and_then(|loss| loss.to_scalar())
            .expect("a scalar")
    };
    let mut differences = Vec::new();
    for &place in &places {
        let (above, below) = (values[place] + step, values[place] - step);
        let slope = (at(place, above) - at(place, below)) / (f64::from(above) - f64::from(below));
        differences.push(slope as f32);
    }
    let analytic: Vec<f32> = places.iter().map(|&place| gradient[place]).collect();
    let tensor =
        |values: Vec<f32>| Tensor::new(values, &candle_core::Device::Cpu).expect("a tensor");
    assert_close(&tensor(analytic), &tensor(differences), tolerance, what);
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor
        .flatten_all()
        .and_then(|t| t.to_vec1())
        .expect("a tensor of f32")
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    #[should_panic(expected = "half the slope")]
    fn a_wrong_gradient_is_found() {
        let x = Tensor::new(&[1f32, 2.0], &Device::Cpu).expect("a small tensor");
        // the value of x^2 with half its gradient
        let f = |x: &Tensor| -> candle_core::Result<Tensor> {
            let square = x.sqr()?;
            ((&square * 0.5)? + (square.detach() * 0.5)?)?.sum_all()
        };
        check_gradient(f, &x, 0.25, Tolerance::Rounding(64.0), "half the slope");
    }
}
