use candle_core::{Tensor, Var};
use snn_core::ops::batch_norm::{
    BatchStatistics, batch_norm, batch_norm_fixed, reference, statistics,
};
use testkit::{Tolerance, assert_close, assert_thread_independent, check_gradient};

use crate::{assert_twins, bytes, normal, scattered, weighted};

const EPSILON: f64 = 1e-5;
/// Sums over some thousand numbers, in f32 in the reference.
const SUMS: Tolerance = Tolerance::Rounding(500.0);

fn shapes() -> Vec<Vec<usize>> {
    vec![
        vec![5, 1],
        vec![3, 4],
        vec![129, 33],
        vec![2, 3, 4, 5],
        vec![33, 31, 3, 3],
        vec![2, 2, 127, 129],
    ]
}

fn inputs(shape: &[usize]) -> [Tensor; 3] {
    let x = (normal(1, shape) * 2.0)
        .and_then(|x| x + 0.5)
        .expect("some numbers");
    [x, normal(2, &shape[1..2]), normal(3, &shape[1..2])]
}

fn given(channels: usize) -> BatchStatistics {
    BatchStatistics {
        mean: normal(4, &[channels]),
        variance: normal(5, &[channels]).sqr().expect("squares"),
    }
}

#[test]
fn equals_the_reference() {
    for shape in shapes() {
        let given = given(shape[1]);
        assert_twins(
            &format!("batch {shape:?}"),
            &inputs(&shape),
            SUMS,
            |x| Ok(batch_norm(&x[0], &x[1], &x[2], EPSILON)?.0),
            |x| Ok(reference::batch_norm(&x[0], &x[1], &x[2], EPSILON)?.0),
        );
        // a variance near zero makes steep slopes: keep it away
        assert_twins(
            &format!("fixed {shape:?}"),
            &inputs(&shape),
            SUMS,
            |x| batch_norm_fixed(&x[0], &x[1], &x[2], &given, 0.1),
            |x| reference::batch_norm_fixed(&x[0], &x[1], &x[2], &given, 0.1),
        );
        let x = &inputs(&shape)[0];
        let (fast, slow) = (
            statistics(x).expect("fast"),
            reference::statistics(x).expect("slow"),
        );
        assert_close(&fast.mean, &slow.mean, SUMS, "mean");
        assert_close(&fast.variance, &slow.variance, SUMS, "variance");
    }
}

#[test]
fn variance_of_a_large_mean() {
    // the difference of squares would lose every digit
    let x = (normal(1, &[64, 2, 8, 8]) + 10_000.0).expect("far from zero");
    let variance: Vec<f32> = statistics(&x)
        .and_then(|s| Ok(s.variance.to_vec1()?))
        .expect("statistics");
    for v in variance {
        assert!((v - 1.0).abs() < 0.1, "variance {v}");
    }
}

#[test]
fn gradients_are_slopes() {
    let [x, gamma, beta] = inputs(&[3, 2, 4, 3]);
    let run = |x: &Tensor, gamma: &Tensor, beta: &Tensor| {
        weighted(&batch_norm(x, gamma, beta, EPSILON)?.0)
    };
    // curved in x: the third derivative times the step squared, against rounding over the step
    check_gradient(
        |x| run(x, &gamma, &beta),
        &x,
        2e-2,
        Tolerance::Rounding(20_000.0),
        "x",
    );
    check_gradient(|g| run(&x, g, &beta), &gamma, 1.0, SUMS, "gamma");
    check_gradient(|b| run(&x, &gamma, b), &beta, 1.0, SUMS, "beta");
    let given = given(2);
    let run = |x: &Tensor| weighted(&batch_norm_fixed(x, &gamma, &beta, &given, 0.1)?);
    check_gradient(run, &x, 1.0, SUMS, "x with given statistics");
}

#[test]
fn threads_do_not_matter() {
    assert_thread_independent("batch norm", || {
        let variables = inputs(&[33, 31, 9, 9]).map(|t| Var::from_tensor(&t).expect("a variable"));
        let [x, gamma, beta] = &variables;
        let (y, statistics) = batch_norm(x, gamma, beta, EPSILON).expect("forward");
        let gradients = weighted(&y).expect("a loss").backward().expect("backward");
        let mut all = bytes(&y);
        all.extend(bytes(&statistics.variance));
        variables
            .iter()
            .for_each(|v| all.extend(bytes(gradients.get(v).expect("a gradient"))));
        all
    });
}

#[test]
fn takes_views_and_refuses_misfits() {
    let [x, gamma, beta] = inputs(&[3, 2, 4, 3]);
    let y = batch_norm(&x, &gamma, &beta, EPSILON)
        .expect("contiguous")
        .0;
    let views = batch_norm(
        &scattered(&x),
        &scattered(&gamma),
        &scattered(&beta),
        EPSILON,
    )
    .expect("views")
    .0;
    assert_close(&views, &y, Tolerance::Exact, "views");
    assert!(batch_norm(&x, &normal(1, &[3]), &beta, EPSILON).is_err());
    assert!(batch_norm(&x.narrow(0, 0, 0).expect("nothing"), &gamma, &beta, EPSILON).is_err());
    assert!(statistics(&beta).is_err());
}
