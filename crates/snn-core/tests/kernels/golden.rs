//! Against PyTorch and SpikingJelly; the generators lie beside the files in `tests/golden`.

use candle_core::{Tensor, Var};
use snn_core::neuron::{Firing, NeuronSettings, Reset, scan};
use snn_core::ops::{avg_pool, batch_norm, conv2d, qcfs, shortcut};
use snn_core::surrogate::Surrogate;
use testkit::{Golden, Tolerance, assert_close};

/// Sums of at most a hundred products, against f64 rounded once.
const SUMS: Tolerance = Tolerance::Rounding(50.0);

fn golden(name: &str) -> Golden {
    Golden::open(format!(
        "{}/tests/golden/{name}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    ))
}

fn variable(golden: &Golden, name: &str) -> Var {
    Var::from_tensor(&golden.tensor(name)).expect("a variable")
}

/// Compares a result and its gradients for the golden's `seed` with the golden's.
fn compare(golden: &Golden, case: &str, y: &Tensor, inputs: &[(&Var, &str)], tolerance: Tolerance) {
    assert_close(y, &golden.tensor(&format!("{case}.y")), tolerance, case);
    let loss = (y * golden.tensor(&format!("{case}.seed"))).and_then(|y| y.sum_all());
    let gradients = loss.and_then(|loss| loss.backward()).expect("backward");
    for (input, name) in inputs {
        let gradient = gradients.get(input).expect("a gradient");
        assert_close(
            gradient,
            &golden.tensor(&format!("{case}.{name}")),
            tolerance,
            &format!("{case}.{name}"),
        );
    }
}

#[test]
fn convolution() {
    let golden = golden("conv2d");
    for case in golden.cases("stride_padding") {
        let [x, w, b] =
            ["x", "weight", "bias"].map(|name| variable(&golden, &format!("{case}.{name}")));
        let settings: Vec<i64> = golden
            .tensor(&format!("{case}.stride_padding"))
            .to_vec1()
            .expect("two numbers");
        let y = conv2d::conv2d(&x, &w, Some(&b), settings[0] as usize, settings[1] as usize)
            .expect("forward");
        compare(
            &golden,
            &case,
            &y,
            &[(&x, "gx"), (&w, "gw"), (&b, "gb")],
            SUMS,
        );
    }
}

#[test]
fn batch_normalisation() {
    let golden = golden("batch_norm");
    for case in ["batch", "fixed"] {
        let [x, gamma, beta] =
            ["x", "gamma", "beta"].map(|name| variable(&golden, &format!("{case}.{name}")));
        let y = if case == "batch" {
            batch_norm::batch_norm(&x, &gamma, &beta, 1e-5)
                .expect("forward")
                .0
        } else {
            let statistics = batch_norm::BatchStatistics {
                mean: golden.tensor("fixed.mean"),
                variance: golden.tensor("fixed.variance"),
            };
            batch_norm::batch_norm_fixed(&x, &gamma, &beta, &statistics, 1e-5).expect("forward")
        };
        compare(
            &golden,
            case,
            &y,
            &[(&x, "gx"), (&gamma, "ggamma"), (&beta, "gbeta")],
            SUMS,
        );
    }
}

#[test]
fn average_pooling() {
    let golden = golden("batch_norm");
    for (case, kernel) in [("pool2", 2), ("pool3", 3)] {
        let x = variable(&golden, &format!("{case}.x"));
        let y = avg_pool::avg_pool2d(&x, kernel).expect("forward");
        compare(&golden, case, &y, &[(&x, "gx")], SUMS);
    }
}

#[test]
fn shortcuts() {
    let golden = golden("shortcut");
    let cases = golden.cases("kernel");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let [x, earlier] =
            ["x", "earlier"].map(|name| variable(&golden, &format!("{case}.{name}")));
        let scale = golden.tensor(&format!("{case}.scale"));
        let kernel: Vec<i64> = golden
            .tensor(&format!("{case}.kernel"))
            .to_vec1()
            .expect("a number");
        let y = shortcut::shortcut(&x, &earlier, &scale, kernel[0] as usize).expect("forward");
        let inputs = [(&x, "gx"), (&earlier, "gearlier")];
        compare(&golden, &case, &y, &inputs, SUMS);
    }
}

#[test]
fn neurons() {
    let golden = golden("neuron");
    let threshold = golden.tensor("threshold");
    let theta: Vec<f32> = threshold.to_vec1().expect("a number");
    let leak: Vec<f32> = golden.tensor("leak").to_vec1().expect("a number");
    let cases = golden.cases("currents");
    assert_eq!(cases.len(), 16);
    for case in cases {
        let has = |part: &str| case.split('.').any(|p| p == part);
        let settings = NeuronSettings {
            leak: if has("lif") { leak[0] } else { 1.0 },
            reset: if has("hard") {
                Reset::Hard
            } else {
                Reset::Soft
            },
            firing: Firing::AtOrAbove,
            // SpikingJelly's surrogate is a function of v - threshold, ours of v / threshold - 1
            surrogate: if has("sigmoid") {
                Surrogate::Sigmoid {
                    alpha: 4.0 * theta[0],
                }
            } else {
                Surrogate::Atan {
                    alpha: 2.0 * theta[0],
                }
            },
            detach_reset: has("detached"),
        };
        let tensor = |name: &str| golden.tensor(&format!("{case}.{name}"));
        let currents = variable(&golden, &format!("{case}.currents"));
        let membrane = tensor("membrane").zeros_like().expect("zeros");
        let scan = scan(&currents, &threshold, &membrane, &settings).expect("a scan");
        assert_close(&scan.spikes, &tensor("spikes"), Tolerance::Exact, &case);
        assert_close(
            &scan.membrane,
            &tensor("membrane"),
            Tolerance::Rounding(50.0),
            &case,
        );
        let of_spikes = (&scan.spikes * tensor("seed"))
            .and_then(|y| y.sum_all())
            .expect("a loss");
        let of_membrane = (&scan.membrane * tensor("seed_membrane"))
            .and_then(|y| y.sum_all())
            .expect("a loss");
        let gradients = (of_spikes + of_membrane)
            .and_then(|loss| loss.backward())
            .expect("backward");
        // ten steps of rounding in f32 on either side
        let gradient = gradients.get(&currents).expect("a gradient");
        assert_close(
            gradient,
            &tensor("gradient"),
            Tolerance::Rounding(200.0),
            &format!("{case}: gradient"),
        );
    }
}

#[test]
fn staircase() {
    let golden = golden("qcfs");
    for case in golden.cases("levels") {
        let [x, threshold] =
            ["x", "threshold"].map(|name| variable(&golden, &format!("{case}.{name}")));
        let levels: i64 = golden
            .tensor(&format!("{case}.levels"))
            .to_scalar()
            .expect("a number");
        let y = qcfs::qcfs(&x, &threshold, levels as usize).expect("forward");
        compare(
            &golden,
            &case,
            &y,
            &[(&x, "gx"), (&threshold, "gthreshold")],
            SUMS,
        );
    }
}
