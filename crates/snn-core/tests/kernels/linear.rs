use candle_core::{Tensor, Var};
use snn_core::ops::linear::{linear, reference};
use testkit::{Tolerance, assert_close, assert_thread_independent, check_gradient};

use crate::{AWKWARD, assert_twins, bytes, normal, scattered, weighted};

/// Sums of up to 520 products in another order.
const SUMS: Tolerance = Tolerance::Rounding(200.0);

fn inputs(n: usize, f: usize, o: usize) -> [Tensor; 3] {
    [normal(1, &[n, f]), normal(2, &[o, f]), normal(3, &[o])]
}

#[test]
fn equals_the_reference() {
    let mut sizes = vec![(3, 520, 7), (3, 7, 520), (16, 64, 10), (17, 1, 1)];
    for size in AWKWARD {
        sizes.extend([(size, 5, 6), (4, size, 6), (4, 5, size)]);
    }
    for (n, f, o) in sizes {
        let fast = |x: &[Tensor]| linear(&x[0], &x[1], x.get(2));
        let slow = |x: &[Tensor]| reference::linear(&x[0], &x[1], x.get(2));
        assert_twins(&format!("{n} {f} {o}"), &inputs(n, f, o), SUMS, fast, slow);
        assert_twins(
            &format!("{n} {f} {o} without bias"),
            &inputs(n, f, o)[..2],
            SUMS,
            fast,
            slow,
        );
    }
}

#[test]
fn gradients_are_slopes() {
    let [x, w, b] = inputs(5, 6, 4);
    let run = |x: &Tensor, w: &Tensor, b: &Tensor| weighted(&linear(x, w, Some(b))?);
    check_gradient(|x| run(x, &w, &b), &x, 1.0, SUMS, "x");
    check_gradient(|w| run(&x, w, &b), &w, 1.0, SUMS, "weight");
    check_gradient(|b| run(&x, &w, b), &b, 1.0, SUMS, "bias");
}

#[test]
fn a_row_does_not_see_its_batch() {
    for (f, o) in [(33, 10), (512, 129), (1, 1), (5, 700)] {
        let [x, w, b] = inputs(129, f, o);
        let all = linear(&x, &w, Some(&b)).expect("the batch");
        for n in [1, 2, 15, 16, 17, 64, 128] {
            let some = linear(&x.narrow(0, 0, n).expect("rows"), &w, Some(&b)).expect("some rows");
            assert_eq!(
                bytes(&some),
                bytes(&all.narrow(0, 0, n).expect("rows")),
                "{n} rows of {f} to {o}"
            );
        }
        let last = linear(&x.narrow(0, 128, 1).expect("a row"), &w, Some(&b)).expect("a row alone");
        assert_eq!(bytes(&last), bytes(&all.narrow(0, 128, 1).expect("a row")));
    }
}

#[test]
fn threads_do_not_matter() {
    assert_thread_independent("linear", || {
        let variables = inputs(70, 600, 70).map(|t| Var::from_tensor(&t).expect("a variable"));
        let [x, w, b] = &variables;
        let y = linear(x, w, Some(b)).expect("forward");
        let gradients = weighted(&y).expect("a loss").backward().expect("backward");
        let mut all = bytes(&y);
        variables
            .iter()
            .for_each(|v| all.extend(bytes(gradients.get(v).expect("a gradient"))));
        all
    });
}

#[test]
fn time_and_batch_are_one() {
    let [x, w, b] = inputs(6, 5, 4);
    let expected = linear(&x, &w, Some(&b))
        .and_then(|y| Ok(y.reshape((2, 3, 4))?))
        .expect("6 rows");
    let x = x.reshape((2, 3, 5)).expect("2 steps of 3 rows");
    for y in [
        linear(&x, &w, Some(&b)),
        reference::linear(&x, &w, Some(&b)),
    ] {
        assert_close(&y.expect("2 steps"), &expected, SUMS, "2 steps");
    }
}

#[test]
fn takes_views_and_refuses_misfits() {
    let [x, w, b] = inputs(5, 6, 4);
    let y = linear(&x, &w, Some(&b)).expect("contiguous");
    let views = linear(&scattered(&x), &scattered(&w), Some(&scattered(&b))).expect("views");
    assert_close(&views, &y, Tolerance::Exact, "views");
    let message = linear(&x, &normal(1, &[4, 7]), None)
        .expect_err("7 is not 6")
        .to_string();
    assert!(
        message.contains("[5, 6]") && message.contains("[4, 7]"),
        "{message}"
    );
    assert!(linear(&x, &w, Some(&normal(1, &[5]))).is_err());
}
