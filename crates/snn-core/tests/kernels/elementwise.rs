//! Rectifier, staircase, mask and average pooling.

use candle_core::{DType, Device, Tensor, Var};
use snn_core::neuron::{Firing, NeuronSettings, scan};
use snn_core::ops::{avg_pool, linear, mask, qcfs, relu, shortcut, time};
use testkit::{Tolerance, assert_close, assert_thread_independent, check_gradient};

use crate::{AWKWARD, assert_twins, bytes, normal, scattered, weighted};

#[test]
fn relu_equals_the_reference() {
    for n in AWKWARD.into_iter().chain([40_000]) {
        assert_twins(
            &format!("{n}"),
            &[normal(1, &[n, 3])],
            Tolerance::Exact,
            |x| relu::relu(&x[0]),
            |x| relu::reference::relu(&x[0]),
        );
    }
    let edge = Tensor::new(
        &[f32::NAN, 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY],
        &Device::Cpu,
    )
    .expect("edges");
    let y: Vec<f32> = relu::relu(&edge)
        .and_then(|y| Ok(y.to_vec1()?))
        .expect("edges");
    assert!(y[0].is_nan());
    assert_eq!(y[1..], [0.0, 0.0, f32::INFINITY, 0.0]);
}

#[test]
fn qcfs_equals_the_reference() {
    for n in AWKWARD.into_iter().chain([40_000]) {
        for (threshold, levels) in [(1.5f32, 4), (0.3, 1), (2.0, 1 << 20)] {
            let threshold = Tensor::new(&[threshold], &Device::Cpu).expect("a threshold");
            assert_twins(
                &format!("{n} {threshold} {levels}"),
                &[normal(1, &[n, 3]), threshold],
                Tolerance::Rounding(256.0),
                |x| qcfs::qcfs(&x[0], &x[1], levels),
                |x| qcfs::reference::qcfs(&x[0], &x[1], levels),
            );
        }
    }
    let (x, one) = (
        normal(1, &[5, 3]),
        Tensor::ones(1, DType::F32, &Device::Cpu).expect("one"),
    );
    assert_close(
        &qcfs::qcfs(&scattered(&x), &one, 4).expect("a view"),
        &qcfs::qcfs(&x, &one, 4).expect("contiguous"),
        Tolerance::Exact,
        "a view",
    );
    let edge =
        Tensor::new(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN], &Device::Cpu).expect("edges");
    for y in [
        qcfs::qcfs(&edge, &one, 4),
        qcfs::reference::qcfs(&edge, &one, 4),
    ] {
        let y: Vec<f32> = y.and_then(|y| Ok(y.to_vec1()?)).expect("edges");
        assert_eq!(y[..2], [1.0, 0.0]);
        assert!(y[2].is_nan());
    }
    for levels in [0, qcfs::MAX_LEVELS + 1] {
        assert!(qcfs::qcfs(&x, &one, levels).is_err(), "{levels} levels");
    }
    assert!(qcfs::qcfs(&x, &normal(1, &[3]), 4).is_err());
    for bad in [0.0, -1.0, f32::NAN] {
        let bad = Tensor::new(&[bad], &Device::Cpu).expect("a number");
        let error = qcfs::qcfs(&x, &bad, 4).expect_err("no positive threshold");
        assert!(error.to_string().contains("threshold"), "{error}");
    }
}

/// Beyond the threshold and below zero the threshold's gradient is a slope, which finite differences find; between them
/// gradients pass straight through steps that have none, which the golden holds to other code.
#[test]
fn the_threshold_gradient_of_qcfs_is_a_slope_outside() {
    let x = Tensor::new(&[-3f32, -0.2, 1.3, 2.0, 7.0], &Device::Cpu).expect("numbers");
    let at = |threshold: f32| {
        let threshold = Tensor::new(&[threshold], &Device::Cpu).and_then(|t| Var::from_tensor(&t));
        let threshold = threshold.expect("a variable");
        let loss = qcfs::qcfs(&x, &threshold, 4).and_then(|y| weighted(&y));
        let loss = loss.expect("forward");
        let gradients = loss.backward().expect("backward");
        let slope = gradients
            .get(&threshold)
            .and_then(|g| g.to_vec1::<f32>().ok());
        let slope = slope.expect("a gradient")[0];
        (loss.to_scalar::<f32>().expect("a number"), slope)
    };
    let difference = (at(1.0625).0 - at(0.9375).0) / 0.125;
    assert!((difference - at(1.0).1).abs() < 1e-5, "{difference}");
}

/// The steps of the staircase are the spikes of a neuron that starts half a threshold up.
#[test]
fn qcfs_is_the_rate_of_a_neuron() {
    let (theta, steps, neurons) = (1.25f32, 8, 500);
    let x = normal(3, &[1, neurons]);
    let threshold = Tensor::new(&[theta], &Device::Cpu).expect("a threshold");
    let currents = x
        .unsqueeze(0)
        .and_then(|x| x.broadcast_as((steps, 1, neurons)));
    let membrane = Tensor::full(theta / 2.0, (1, neurons), &Device::Cpu).expect("membranes");
    let settings = NeuronSettings {
        firing: Firing::AtOrAbove,
        ..NeuronSettings::default()
    };
    let currents = currents.and_then(|c| c.contiguous()).expect("currents");
    let scan = scan(&currents, &threshold, &membrane, &settings).expect("a scan");
    let rates = scan.spikes.sum(0);
    let rates = rates.and_then(|s| s.affine(f64::from(theta) / steps as f64, 0.0));
    assert_close(
        &rates.expect("rates"),
        &qcfs::qcfs(&x, &threshold, steps).expect("the staircase"),
        Tolerance::Rounding(8.0),
        "rates",
    );
}

#[test]
fn mask_equals_the_reference() {
    for (t, n, c) in [(1, 1, 1), (3, 2, 31), (5, 33, 129), (2, 200, 100)] {
        let held = normal(2, &[n, c]);
        assert_twins(
            &format!("{t} {n} {c}"),
            &[normal(1, &[t, n, c])],
            Tolerance::Exact,
            |x| mask::mask(&x[0], &held.to_device(x[0].device())?),
            |x| mask::reference::mask(&x[0], &held),
        );
    }
    let (x, held) = (normal(1, &[2, 3]), normal(2, &[2, 3]));
    let y = mask::mask(&scattered(&x), &scattered(&held)).expect("views of one shape");
    assert_close(
        &y,
        &(&x * &held).expect("a product"),
        Tolerance::Exact,
        "one shape",
    );
    assert!(mask::mask(&x, &normal(1, &[2])).is_err());
}

#[test]
fn avg_pool_equals_the_reference() {
    for (n, c, h, w, k) in [
        (1, 1, 1, 1, 1),
        (2, 3, 4, 6, 2),
        (3, 33, 9, 3, 3),
        (2, 129, 8, 8, 8),
        (1, 2, 128, 130, 2),
    ] {
        assert_twins(
            &format!("{n} {c} {h} {w} {k}"),
            &[normal(1, &[n, c, h, w])],
            Tolerance::Rounding(64.0),
            |x| avg_pool::avg_pool2d(&x[0], k),
            |x| avg_pool::reference::avg_pool2d(&x[0], k),
        );
    }
    let x = normal(1, &[2, 3, 4, 6]);
    let y = avg_pool::avg_pool2d(&scattered(&x), 2).expect("a view");
    assert_close(
        &y,
        &avg_pool::avg_pool2d(&x, 2).expect("contiguous"),
        Tolerance::Exact,
        "a view",
    );
    let steps = x.unsqueeze(0).expect("one step");
    for y in [
        avg_pool::avg_pool2d(&steps, 2),
        avg_pool::reference::avg_pool2d(&steps, 2),
    ] {
        let y = y.and_then(|y| Ok(y.squeeze(0)?)).expect("one step");
        assert_close(
            &y,
            &avg_pool::avg_pool2d(&x, 2).expect("no time"),
            Tolerance::Rounding(8.0),
            "one step",
        );
    }
    for kernel in [0, 3, 4] {
        assert!(avg_pool::avg_pool2d(&x, kernel).is_err(), "kernel {kernel}");
    }
}

#[test]
fn threads_do_not_matter() {
    assert_thread_independent("elementwise", || {
        let x = normal(1, &[4, 33, 32, 32]);
        let y = relu::relu(&x)
            .and_then(|y| avg_pool::avg_pool2d(&y, 2))
            .expect("forward");
        let [x, threshold] = [x, normal(1, &[1]).abs().expect("a threshold")]
            .map(|x| Var::from_tensor(&x).expect("a variable"));
        let loss = qcfs::qcfs(&x, &threshold, 4).and_then(|y| weighted(&y));
        let gradients = loss
            .and_then(|loss| Ok(loss.backward()?))
            .expect("backward");
        let gradients = [&x, &threshold].map(|x| bytes(gradients.get(x).expect("a gradient")));
        [bytes(&y), gradients.concat()].concat()
    });
}

#[test]
fn shortcut_equals_the_reference() {
    // rows, channels of the result and of what is added, sides, kernel
    for (rows, c, few, h, w, kernel) in [
        (&[1][..], 1, 1, 1, 1, 1),
        (&[3], 5, 5, 4, 7, 1),
        (&[2, 3], 8, 3, 5, 6, 2),
        (&[2], 67, 33, 3, 2, 3),
        (&[40], 16, 16, 32, 32, 1),
    ] {
        let shape = |c: usize, k: usize| [rows, &[c, h * k, w * k]].concat();
        let scale = |device: &Device| {
            let scale = normal(3, &[few]).to_device(device);
            scale.expect("numbers on the device")
        };
        assert_twins(
            &format!("{rows:?} {c} {few} {h} {w} {kernel}"),
            &[normal(1, &shape(c, 1)), normal(2, &shape(few, kernel))],
            Tolerance::Rounding(16.0),
            |x| shortcut::shortcut(&x[0], &x[1], &scale(x[0].device()), kernel),
            |x| shortcut::reference::shortcut(&x[0], &x[1], &scale(x[0].device()), kernel),
        );
    }
    let (x, earlier, scale) = (
        normal(1, &[2, 3, 4, 4]),
        normal(2, &[2, 2, 8, 8]),
        normal(3, &[2]),
    );
    let y = shortcut::shortcut(&x, &earlier, &scale, 2).expect("contiguous");
    let view = shortcut::shortcut(&scattered(&x), &scattered(&earlier), &scale, 2);
    assert_eq!(bytes(&view.expect("views")), bytes(&y));
    assert_thread_independent("shortcut", || {
        let y = shortcut::shortcut(&x, &earlier, &scale, 2).expect("a sum");
        bytes(&y)
    });
    for (bad, scale, kernel) in [
        (normal(2, &[2, 2, 8, 8]), normal(3, &[2]), 1),
        (normal(2, &[2, 2, 8, 8]), normal(3, &[3]), 2),
        (normal(2, &[1, 2, 8, 8]), normal(3, &[2]), 2),
        (normal(2, &[2, 4, 8, 8]), normal(3, &[4]), 2),
        (normal(2, &[2, 2, 8, 8]), normal(3, &[2]), 0),
        (normal(2, &[2, 2, 8, 8]), normal(3, &[2]), usize::MAX),
    ] {
        let error = shortcut::shortcut(&x, &bad, &scale, kernel).expect_err("must be refused");
        assert!(error.to_string().contains("shortcut"), "{error}");
    }
}

#[test]
fn the_gradient_of_a_shortcut_is_a_difference() {
    let (x, scale) = (normal(1, &[1, 3, 2, 2]), normal(3, &[2]));
    check_gradient(
        |earlier| shortcut::shortcut(&x, earlier, &scale, 2).and_then(|y| weighted(&y)),
        &normal(2, &[1, 2, 4, 4]),
        1.0,
        Tolerance::Rounding(100.0),
        "shortcut",
    );
}

#[test]
fn an_empty_batch_makes_an_empty_result() {
    let [x, w] = [[0, 6, 4, 4], [5, 6, 1, 1]].map(|s| normal(1, &s));
    let w = w.flatten_from(1).expect("a matrix");
    let rows = x
        .narrow(2, 0, 1)
        .and_then(|x| x.narrow(3, 0, 1)?.flatten_from(1));
    let currents = x.unsqueeze(0).expect("one step");
    let results = [
        relu::relu(&x),
        avg_pool::avg_pool2d(&x, 2),
        linear::linear(&rows.expect("no rows"), &w, None),
        time::hold(&currents, 3),
        time::events(&currents),
    ];
    for (i, y) in results.into_iter().enumerate() {
        let y = y.expect("an empty result");
        assert_eq!(y.elem_count(), 0, "{i}: {:?}", y.dims());
    }
}
