//! Gradients that are asked for without a graph, against those of the graph, on f32 (the kernels) and on f64 (tensor
//! operations, as on devices without a kernel).

use candle_core::{DType, Tensor, Var};
use snn_core::Result;
use snn_core::ops::batch_norm::BatchStatistics;
use snn_core::ops::batch_norm::fused::{After, NormActivation, StatisticsGradients};
use snn_core::ops::{avg_pool, batch_norm, conv2d, linear, mean, qcfs, relu, shortcut};
use testkit::{Tolerance, assert_close, assert_thread_independent};

use crate::{AWKWARD, bytes, normal, weighted};

const SUMS: Tolerance = Tolerance::Rounding(500.0);
const EPSILON: f64 = 1e-5;
const LEVELS: usize = 4;

/// Result, its gradient, and the gradients of `inputs` by the graph of the kernels.
fn graph(
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> (Tensor, Tensor, Vec<Tensor>) {
    let variables: Vec<Var> = inputs
        .iter()
        .map(|input| Var::from_tensor(input).expect("a variable"))
        .collect();
    let tensors: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors).expect("a result");
    let gradients = weighted(&y).unwrap().backward().expect("gradients");
    let of = |variable| gradients.get(variable).expect("a gradient").clone();
    let gy = normal(99, y.dims());
    (
        y.detach(),
        gy,
        variables.iter().map(|v| of(v.as_tensor())).collect(),
    )
}

/// The same numbers in both types.
fn types(tensors: &[&Tensor]) -> [Vec<Tensor>; 2] {
    [DType::F32, DType::F64].map(|dtype| {
        let of = |tensor: &&Tensor| tensor.to_dtype(dtype).expect("numbers");
        tensors.iter().map(of).collect()
    })
}

#[track_caller]
fn same(what: &str, actual: &[&Tensor], expected: &[Tensor]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (i, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert_close(actual, expected, SUMS, &format!("{what}: gradient {i}"));
    }
}

#[test]
fn of_activations() {
    for n in AWKWARD {
        let x = normal(1, &[2, n, 3]);
        let (y, gy, expected) = graph(std::slice::from_ref(&x), |x| relu::relu(&x[0]));
        for tensors in types(&[&y, &gy]) {
            let gx = relu::backward(&tensors[0], &tensors[1]).expect("a gradient");
            same(&format!("relu {n}"), &[&gx], &expected);
        }
        let threshold = Tensor::new(&[0.9f32], x.device()).unwrap();
        let (y, gy, expected) = graph(&[x.clone(), threshold.clone()], |x| {
            qcfs::qcfs(&x[0], &x[1], LEVELS)
        });
        for t in types(&[&x, &threshold, &y, &gy]) {
            let (gx, of_threshold) = qcfs::backward(&t[0], &t[1], &t[2], &t[3]).unwrap();
            same(&format!("qcfs {n}"), &[&gx, &of_threshold], &expected);
        }
    }
}

#[test]
fn of_pools_and_shortcuts() {
    for (kernel, shape) in [(1, [2, 3, 4, 5]), (2, [3, 5, 8, 6]), (3, [1, 33, 3, 9])] {
        let x = normal(1, &shape);
        let (_, gy, expected) = graph(&[x], |x| avg_pool::avg_pool2d(&x[0], kernel));
        for tensors in types(&[&gy]) {
            let gx = avg_pool::backward(&tensors[0], kernel).expect("a gradient");
            same(&format!("pool {kernel}"), &[&gx], &expected);
        }
    }
    for (kernel, channels) in [(1, 7), (2, 7), (2, 4)] {
        let (x, earlier) = (
            normal(1, &[3, 7, 4, 5]),
            normal(2, &[3, channels, 4 * kernel, 5 * kernel]),
        );
        let scale = normal(3, &[channels]);
        let (_, gy, expected) = graph(&[x, earlier], |x| {
            shortcut::shortcut(&x[0], &x[1], &scale, kernel)
        });
        for tensors in types(&[&gy, &scale]) {
            let of_earlier = shortcut::backward(&tensors[0], &tensors[1], kernel).unwrap();
            let what = format!("shortcut {kernel} {channels}");
            same(&what, &[&tensors[0], &of_earlier], &expected);
        }
    }
}

#[test]
fn of_weights() {
    for (rows, inputs, outputs) in [(1, 1, 1), (33, 31, 129), (128, 127, 2)] {
        let (x, weight) = (normal(1, &[rows, inputs]), normal(2, &[outputs, inputs]));
        let given = [x.clone(), weight.clone(), normal(3, &[outputs])];
        let (_, gy, expected) = graph(&given, |x| linear::linear(&x[0], &x[1], Some(&x[2])));
        for t in types(&[&x, &weight, &gy]) {
            let (gx, gw) = linear::backward(&t[0], &t[1], &t[2]).expect("gradients");
            let alone = linear::backward_data(&t[0], &t[1], &t[2]).expect("a gradient");
            assert_close(&alone, &gx, Tolerance::Exact, "the input's alone");
            let gb = linear::backward_bias(&t[2]).expect("a gradient");
            same(
                &format!("linear {rows} {inputs} {outputs}"),
                &[&gx, &gw, &gb],
                &expected,
            );
        }
    }
    for (kernel, stride, padding) in [(3, 1, 1), (1, 1, 0), (3, 2, 1)] {
        let (x, weight) = (normal(1, &[3, 5, 9, 9]), normal(2, &[4, 5, kernel, kernel]));
        let given = [x.clone(), weight.clone(), normal(3, &[4])];
        let (_, gy, expected) = graph(&given, |x| {
            conv2d::conv2d(&x[0], &x[1], Some(&x[2]), stride, padding)
        });
        for t in types(&[&x, &weight, &gy]) {
            let (gx, gw) = conv2d::backward(&t[0], &t[1], stride, padding, &t[2]).unwrap();
            let alone = conv2d::backward_weight(&t[0], &t[1], stride, padding, &t[2]).unwrap();
            assert_close(&alone, &gw, Tolerance::Exact, "the weight's alone");
            let alone = conv2d::backward_data(&t[0], &t[1], stride, padding, &t[2]).unwrap();
            assert_close(&alone, &gx, Tolerance::Exact, "the input's alone");
            let gb = conv2d::backward_bias(&t[2]).expect("a gradient");
            same(
                &format!("conv2d {kernel} {stride}"),
                &[&gx, &gw, &gb],
                &expected,
            );
        }
    }
}

/// A normalisation and what follows, as operations of the graph and in one pass.
fn normalised(
    shape: &[usize],
    after: impl Fn(&Tensor) -> After<'_>,
    follow: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) {
    let x = (normal(1, shape) * 2.0).and_then(|x| x + 0.5).unwrap();
    let (gamma, beta) = (normal(2, &shape[1..2]), normal(3, &shape[1..2]));
    let threshold = Tensor::new(&[0.8f32], x.device()).unwrap();
    let followed = matches!(after(&threshold), After::Qcfs { .. });
    let mut inputs = vec![x.clone(), gamma.clone(), beta.clone()];
    if followed {
        inputs.push(threshold.clone());
    }
    let (expected, gy, gradients) = graph(&inputs, |x| {
        let (z, _) = batch_norm::batch_norm(&x[0], &x[1], &x[2], EPSILON)?;
        follow(&z, x.get(3).unwrap_or(&threshold))
    });
    for t in types(&[&x, &gamma, &beta, &threshold, &gy]) {
        let what = format!("{shape:?} {:?} {:?}", after(&threshold), t[0].dtype());
        let fused = NormActivation {
            gamma: &t[1],
            beta: &t[2],
            epsilon: EPSILON,
            after: after(&t[3]),
        };
        let (y, statistics) = fused.forward_training(&t[0]).expect("a result");
        if t[0].dtype() == DType::F32 {
            assert_close(&y, &expected, Tolerance::Exact, &what);
        }
        let found = fused
            .backward(&t[0], &statistics, &t[4])
            .expect("gradients");
        let found: Vec<&Tensor> = [&found.x, &found.gamma, &found.beta]
            .into_iter()
            .chain(&found.threshold)
            .collect();
        same(&what, &found, &gradients);
    }

    // with given statistics, and a loss that looks at the batch's own
    let given = BatchStatistics {
        mean: normal(4, &shape[1..2]),
        variance: normal(5, &shape[1..2]).sqr().and_then(|x| x + 0.5).unwrap(),
    };
    let (of_mean, of_variance) = (normal(6, &shape[1..2]), normal(7, &shape[1..2]));
    let image = Var::from_tensor(&x).unwrap();
    let z = batch_norm::batch_norm_fixed(&image, &gamma, &beta, &given, EPSILON).unwrap();
    let expected = follow(&z, &threshold).unwrap();
    let flat = image.transpose(0, 1).unwrap().flatten_from(1).unwrap();
    let mean = flat.mean_keepdim(1).unwrap();
    let square = flat.broadcast_sub(&mean).unwrap().sqr().unwrap();
    let looks = ((mean.flatten_all().unwrap() * &of_mean).unwrap()
        + (square.mean(1).unwrap() * &of_variance).unwrap())
    .unwrap();
    let loss = (weighted(&expected).unwrap() + looks.sum_all().unwrap()).unwrap();
    let gradient = loss.backward().unwrap().remove(&image).unwrap();
    let own = batch_norm::statistics(&x).unwrap();
    let tensors = [
        &x,
        &gamma,
        &beta,
        &threshold,
        &gy,
        &given.mean,
        &given.variance,
    ];
    let more = [&own.mean, &own.variance, &of_mean, &of_variance];
    for t in types(&[tensors.as_slice(), &more].concat()) {
        let what = format!("fixed {shape:?} {:?} {:?}", after(&threshold), t[0].dtype());
        let fused = NormActivation {
            gamma: &t[1],
            beta: &t[2],
            epsilon: EPSILON,
            after: after(&t[3]),
        };
        let statistics = |mean: usize| BatchStatistics {
            mean: t[mean].clone(),
            variance: t[mean + 1].clone(),
        };
        let y = fused
            .forward_inference(&t[0], &statistics(5))
            .expect("a result");
        if t[0].dtype() == DType::F32 {
            assert_close(&y, &expected, Tolerance::Exact, &what);
        }
        let of = StatisticsGradients {
            statistics: statistics(7),
            mean: t[9].clone(),
            variance: t[10].clone(),
        };
        let gx = fused
            .backward_data(&t[0], &statistics(5), &t[4], Some(&of))
            .unwrap();
        same(&what, &[&gx], std::slice::from_ref(&gradient));
    }
}

#[test]
fn of_normalisations_and_what_follows() {
    for shape in [
        vec![129, 33],
        vec![2, 3, 4, 5],
        vec![33, 31, 3, 3],
        vec![2, 2, 127, 129],
    ] {
        normalised(&shape, |_| After::Nothing, |z, _| Ok(z.clone()));
        normalised(&shape, |_| After::Relu, |z, _| relu::relu(z));
        normalised(
            &shape,
            |threshold| After::Qcfs {
                threshold,
                levels: LEVELS,
            },
            |z, threshold| qcfs::qcfs(z, threshold, LEVELS),
        );
    }
}

#[test]
fn threads_change_no_bit() {
    let x = normal(1, &[17, 5, 33, 9]);
    let (gamma, beta) = (normal(2, &[5]), normal(3, &[5]));
    let threshold = Tensor::new(&[0.8f32], x.device()).unwrap();
    assert_thread_independent("normalisation and staircase", || {
        let fused = NormActivation {
            gamma: &gamma,
            beta: &beta,
            epsilon: EPSILON,
            after: After::Qcfs {
                threshold: &threshold,
                levels: LEVELS,
            },
        };
        let (y, statistics) = fused.forward_training(&x).unwrap();
        let found = fused.backward(&x, &statistics, &y).unwrap();
        let of = StatisticsGradients {
            statistics: statistics.clone(),
            mean: gamma.clone(),
            variance: beta.clone(),
        };
        let data = fused.backward_data(&x, &statistics, &y, Some(&of)).unwrap();
        let (gx, of_threshold) = qcfs::backward(&x, &threshold, &y, &x).unwrap();
        let bias = conv2d::backward_bias(&x).unwrap();
        let mean = mean::mean(&x).unwrap().to_bits();
        let tensors = [
            y,
            found.x,
            found.gamma,
            found.beta,
            found.threshold.unwrap(),
            data,
            gx,
            of_threshold,
            bias,
        ];
        (tensors.map(|t| bytes(&t)), mean)
    });
}

#[test]
fn what_is_no_number_stays_none() {
    let x = Tensor::new(&[[1f32, 2.0], [f32::NAN, 3.0]], &candle_core::Device::Cpu).unwrap();
    let of = batch_norm::statistics(&x).unwrap();
    let variance: Vec<f32> = of.variance.to_vec1().unwrap();
    assert!(variance[0].is_nan() && variance[1] == 0.25, "{variance:?}");
}

/// The slope of a loss with a number of x, the statistics of the batch moving along, by central differences.
#[test]
fn slopes_are_differences() {
    let (gamma, beta) = (normal(2, &[3]), normal(3, &[3]));
    let x = normal(1, &[4, 3, 2, 2]);
    let fused = NormActivation {
        gamma: &gamma,
        beta: &beta,
        epsilon: EPSILON,
        after: After::Nothing,
    };
    let (y, statistics) = fused.forward_training(&x).unwrap();
    let gy = normal(99, y.dims());
    let found = fused.backward(&x, &statistics, &gy).unwrap().x;
    let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
    let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    for place in 0..values.len() {
        let loss = |change: f32| -> f64 {
            let mut values = values.clone();
            values[place] += change;
            let x = Tensor::from_vec(values, x.dims(), x.device()).unwrap();
            let (y, _) = fused.forward_training(&x).unwrap();
            let sum = (y * &gy).unwrap().to_dtype(DType::F64).unwrap();
            sum.sum_all().unwrap().to_scalar().unwrap()
        };
        let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
        let gradient = f64::from(found[place]);
        assert!(
            (gradient - slope).abs() < 2e-3,
            "{place}: {gradient} and {slope}"
        );
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let x = normal(1, &[2, 3, 4, 4]);
    let wrong = normal(1, &[2, 3, 4, 5]);
    let channel = normal(2, &[3]);
    let one = Tensor::new(&[1f32], x.device()).unwrap();
    let weight = normal(3, &[2, 3, 3, 3]);
    assert!(relu::backward(&x, &wrong).is_err());
    assert!(qcfs::backward(&x, &one, &x, &wrong).is_err());
    assert!(qcfs::backward(&x, &channel, &x, &x).is_err());
    assert!(avg_pool::backward(&channel, 2).is_err());
    assert!(avg_pool::backward(&x, 0).is_err());
    assert!(avg_pool::backward(&x, usize::MAX).is_err());
    let empty = Tensor::zeros((2, 3, 0, 4), DType::F32, x.device()).unwrap();
    assert!(avg_pool::backward(&empty, 2).is_err());
    assert!(shortcut::backward(&empty, &channel, 1).is_err());
    let none = Tensor::zeros(0, DType::F32, x.device()).unwrap();
    assert!(shortcut::backward(&x, &none, 1).is_err());
    assert!(conv2d::backward_bias(&empty).is_err());
    assert!(linear::backward_bias(&empty).is_err());
    assert!(mean::mean(&empty).is_err());
    assert!(shortcut::backward(&x, &normal(4, &[4]), 1).is_err());
    assert!(linear::backward(&channel.reshape((1, 3)).unwrap(), &weight, &x).is_err());
    assert!(conv2d::backward_weight(&x, &weight, 1, 1, &x).is_err());
    assert!(conv2d::backward_bias(&channel).is_err());
    let fused = |after| NormActivation {
        gamma: &channel,
        beta: &channel,
        epsilon: EPSILON,
        after,
    };
    let (_, statistics) = fused(After::Relu).forward_training(&x).unwrap();
    assert!(
        fused(After::Relu)
            .backward(&x, &statistics, &wrong)
            .is_err()
    );
    assert!(
        fused(After::Relu)
            .backward_data(&x, &statistics, &wrong, None)
            .is_err()
    );
    let no_steps = After::Qcfs {
        threshold: &one,
        levels: 0,
    };
    assert!(fused(no_steps).forward_training(&x).is_err());
    let others = BatchStatistics {
        mean: one.clone(),
        variance: one.clone(),
    };
    assert!(fused(After::Relu).forward_inference(&x, &others).is_err());
}
