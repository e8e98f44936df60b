use candle_core::{DType, Tensor, Var};
use snn_core::Result;
use snn_core::ops::conv2d::{Sums, backward, conv2d, conv2d_with, reference};
use testkit::{Tolerance, assert_close, assert_thread_independent, check_gradient, devices};

use crate::{AWKWARD, assert_twins, bytes, normal, scattered, weighted};

/// Sums of up to 129 * 9 products, or over 3 * 33 * 33 positions, in another order.
const SUMS: Tolerance = Tolerance::Rounding(300.0);
/// Differences of two sums over all results, each some ten times a slope.
const SLOPES: Tolerance = Tolerance::Rounding(3000.0);

#[derive(Debug, Clone, Copy)]
struct Case {
    n: usize,
    c: usize,
    o: usize,
    h: usize,
    w: usize,
    k: usize,
    stride: usize,
    padding: usize,
}

impl Case {
    fn inputs(&self) -> [Tensor; 3] {
        [
            normal(1, &[self.n, self.c, self.h, self.w]),
            normal(2, &[self.o, self.c, self.k, self.k]),
            normal(3, &[self.o]),
        ]
    }
}

/// A small case that the tests below vary.
const SMALL: Case = Case {
    n: 2,
    c: 3,
    o: 4,
    h: 7,
    w: 6,
    k: 3,
    stride: 1,
    padding: 1,
};

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in AWKWARD {
        cases.push(Case { c: size, ..SMALL });
        cases.push(Case { o: size, ..SMALL });
        cases.push(Case {
            h: size,
            w: 3,
            ..SMALL
        });
        cases.push(Case {
            h: 3,
            w: size,
            ..SMALL
        });
    }
    for k in [1, 2, 3, 5] {
        for stride in [1, 2, 3] {
            for padding in [0, 1, 2, 6] {
                cases.push(Case {
                    k,
                    stride,
                    padding,
                    ..SMALL
                });
            }
        }
    }
    // the widths with a copy of their own, several blocks of rows, more images than tasks
    for w in [4, 8, 16, 32, 64] {
        cases.push(Case { h: 33, w, ..SMALL });
    }
    cases.push(Case { n: 37, ..SMALL });
    // whole tiles of Winograd's gradients, of 2x2 and of 4x4: paddings, odd channels, one block and several
    for (h, w, padding) in [
        (6, 8, 0),
        (6, 4, 2),
        (4, 130, 1),
        (4, 4, 1),
        (32, 32, 1),
        (22, 18, 0),
        (14, 26, 2),
        (4, 260, 1),
    ] {
        cases.push(Case {
            h,
            w,
            padding,
            ..SMALL
        });
    }
    for (c, o) in [(1, 1), (33, 17), (65, 129), (64, 64)] {
        cases.push(Case {
            c,
            o,
            h: 8,
            w: 8,
            ..SMALL
        });
    }
    cases.push(Case {
        n: 70,
        c: 20,
        o: 70,
        h: 4,
        w: 4,
        ..SMALL
    });
    // several blocks of images and of channels, few and many
    for (n, side) in [(9, 8), (9, 7), (70, 8)] {
        cases.push(Case {
            n,
            c: 70,
            o: 70,
            h: side,
            w: side,
            ..SMALL
        });
    }
    cases.push(Case {
        n: 1,
        c: 130,
        o: 140,
        h: 16,
        w: 16,
        ..SMALL
    });
    cases
}

#[test]
fn equals_the_reference() {
    for case in cases() {
        let Case {
            stride, padding, k, ..
        } = case;
        let fast = |x: &[Tensor]| conv2d(&x[0], &x[1], x.get(2), stride, padding);
        let slow = |x: &[Tensor]| reference::conv2d(&x[0], &x[1], x.get(2), stride, padding);
        let inputs = case.inputs();
        let (what, fits) = (format!("{case:?}"), |side: usize| {
            (side + 2 * padding - k).is_multiple_of(stride)
        });
        let fastest =
            |x: &[Tensor]| conv2d_with(&x[0], &x[1], x.get(2), stride, padding, Sums::Fastest);
        if fits(case.h) && fits(case.w) {
            for fast in [&fast as &dyn Fn(&[Tensor]) -> Result<Tensor>, &fastest] {
                assert_twins(&what, &inputs, SUMS, fast, slow);
                assert_twins(&what, &inputs[..2], SUMS, fast, slow);
            }
        } else {
            // candle has no backward pass where the last positions of the input are not reached
            let slow = slow(&inputs).expect("slow");
            for device in devices() {
                let inputs = inputs
                    .each_ref()
                    .map(|x| x.to_device(&device).expect("moved"));
                assert_close(&fast(&inputs).expect("fast"), &slow, SUMS, &what);
            }
        }
    }
}

#[test]
fn gradients_are_slopes() {
    // linear in each input: any step will do
    for k in [1, 2, 3, 5] {
        for (stride, padding) in [(1, 0), (1, 1), (1, 6), (2, 0), (2, 1), (3, 2)] {
            let [x, w, b] = Case { k, ..SMALL }.inputs();
            let run = |x: &Tensor, w: &Tensor, b: &Tensor| {
                weighted(&conv2d(x, w, Some(b), stride, padding)?)
            };
            let what = format!("kernel {k}, stride {stride}, padding {padding}");
            check_gradient(|x| run(x, &w, &b), &x, 1.0, SLOPES, &what);
            check_gradient(|w| run(&x, w, &b), &w, 1.0, SLOPES, &what);
            check_gradient(|b| run(&x, &w, b), &b, 1.0, SLOPES, &what);
        }
    }
}

/// 3x3 convolutions that may add as is fastest and their gradients are Winograd's by tiles of 4x4 or 2x2 where the sizes are
/// multiples of these, and direct sums where they are odd; all against f64, on about as many products per sum.
#[test]
fn winograd_is_as_exact_as_direct_sums() {
    let errors = |side: usize| {
        let case = Case {
            n: 4,
            c: 64,
            o: 64,
            h: side,
            w: side,
            ..SMALL
        };
        let results = |dtype| {
            let variables = case.inputs().map(|t| {
                let t = t.to_dtype(dtype).expect("another type");
                Var::from_tensor(&t).expect("a variable")
            });
            let [x, w, b] = &variables;
            let y = conv2d_with(x, w, Some(b), 1, 1, Sums::Fastest).expect("forward");
            let forward = y.detach();
            let weights = normal(4, y.dims()).to_dtype(dtype).expect("another type");
            let loss = (y * weights).and_then(|y| y.sum_all()).expect("a loss");
            let gradients = loss.backward().expect("backward");
            let of = |v: &Var| gradients.get(v).expect("a gradient").clone();
            [forward, of(x), of(w)].map(|y| {
                let y = y.to_dtype(DType::F64);
                y.and_then(|y| y.flatten_all()?.to_vec1::<f64>())
                    .expect("numbers")
            })
        };
        let (fast, exact) = (results(DType::F32), results(DType::F64));
        [0, 1, 2].map(|i| {
            let scale = exact[i].iter().fold(0f64, |m, x| m.max(x.abs()));
            let worst = fast[i]
                .iter()
                .zip(&exact[i])
                .fold(0f64, |m, (a, b)| m.max((a - b).abs()));
            worst / scale * f64::from(1 << 24)
        })
    };
    let direct = errors(17);
    let names = ["result", "gradient of the input", "gradient of the weight"];
    for (side, factor) in [(14, 2.0), (16, 6.0)] {
        for (of, (winograd, direct)) in names.iter().zip(errors(side).iter().zip(direct)) {
            assert!(
                *winograd < factor * direct && *winograd < 64.0,
                "{of}, sides of {side}: {winograd} roundings of the largest, {direct} by direct sums"
            );
        }
    }
}

#[test]
fn gradients_without_a_graph() {
    for device in devices() {
        for (side, stride) in [(7, 1), (8, 1), (7, 2)] {
            let case = Case {
                h: side,
                w: side,
                ..SMALL
            };
            let [x, w, _] = case.inputs().map(|x| x.to_device(&device).expect("moved"));
            let [xv, wv] = [&x, &w].map(|t| Var::from_tensor(t).expect("a variable"));
            let y = conv2d(&xv, &wv, None, stride, 1).expect("forward");
            let gy = normal(4, y.dims()).to_device(&device).expect("moved");
            let graph = (&y * &gy).and_then(|loss| loss.sum_all()?.backward());
            let graph = graph.expect("the graph");
            let plain = backward(&x, &w, stride, 1, &gy).expect("gradients");
            for (own, variable) in [(&plain.0, &xv), (&plain.1, &wv)] {
                let graph = graph.get(variable).expect("a gradient");
                assert_close(own, graph, SUMS, &format!("{case:?} on {device:?}"));
            }
            let views = backward(&scattered(&x), &scattered(&w), stride, 1, &scattered(&gy));
            let views = views.expect("gradients of views");
            assert_close(&views.0, &plain.0, Tolerance::Exact, "views");
            assert_close(&views.1, &plain.1, Tolerance::Exact, "views");
        }
    }
    let [x, w, _] = SMALL.inputs();
    let refused = backward(&x, &w, 1, 1, &normal(1, &[2, 4, 7, 5]));
    let message = refused.map(drop).expect_err("another shape").to_string();
    assert!(message.contains("[2, 4, 7, 5]"), "{message}");
}

#[test]
fn takes_views() {
    for device in devices() {
        let [x, w, b] = SMALL.inputs().map(|x| x.to_device(&device).expect("moved"));
        let y = conv2d(&x, &w, Some(&b), 1, 1).expect("contiguous");
        let views = conv2d(&scattered(&x), &scattered(&w), Some(&scattered(&b)), 1, 1);
        assert_close(&views.expect("views"), &y, Tolerance::Exact, "views");
        let part = Tensor::cat(&[&x, &x, &x], 0)
            .and_then(|x| x.narrow(0, 2, 2))
            .expect("a part of a batch");
        let part = conv2d(&part, &w, Some(&b), 1, 1).expect("a part");
        assert_close(&part, &y, Tolerance::Exact, "offset");
    }
}

#[test]
fn time_and_batch_are_one() {
    let [x, w, b] = Case { n: 6, ..SMALL }.inputs();
    let y = conv2d(&x, &w, Some(&b), 2, 1).expect("6 images");
    let x = x.reshape((2, 3, 3, 7, 6)).expect("2 steps of 3 images");
    let expected = y.reshape((2, 3, 4, 4, 3)).expect("2 steps of 3 results");
    for y in [
        conv2d(&x, &w, Some(&b), 2, 1),
        reference::conv2d(&x, &w, Some(&b), 2, 1),
    ] {
        assert_close(&y.expect("2 steps"), &expected, SUMS, "2 steps");
    }
}

#[test]
fn an_image_does_not_see_its_batch() {
    for case in [
        Case {
            n: 64,
            c: 17,
            o: 130,
            h: 8,
            w: 8,
            ..SMALL
        },
        Case {
            n: 33,
            c: 5,
            o: 10,
            h: 32,
            w: 32,
            ..SMALL
        },
        Case {
            n: 9,
            c: 5,
            o: 10,
            h: 1,
            w: 1,
            ..SMALL
        },
        Case {
            n: 67,
            c: 20,
            o: 70,
            h: 4,
            w: 4,
            ..SMALL
        },
    ] {
        let [x, w, b] = case.inputs();
        // the result added in order and as is fastest, and the gradient of the input
        let of = |x: &Tensor| {
            let [ordered, fastest] = [Sums::Ordered, Sums::Fastest]
                .map(|sums| conv2d_with(x, &w, Some(&b), 1, 1, sums).expect("forward"));
            let (gx, _) = backward(x, &w, 1, 1, &ordered).expect("backward");
            [ordered, fastest, gx]
        };
        let all = of(&x);
        for i in [0, 1, case.n - 1] {
            let alone = of(&x.narrow(0, i, 1).expect("an image"));
            for (one, all) in alone.iter().zip(&all) {
                assert_eq!(
                    bytes(one),
                    bytes(&all.narrow(0, i, 1).expect("its result")),
                    "image {i} of {case:?}"
                );
            }
        }
    }
}

#[test]
fn threads_do_not_matter() {
    // direct sums, strides, and Winograd's convolution and gradients; the last two are cut among few threads and among many
    // in different ways: several blocks with a task for each group of outputs, more tiles than outputs
    for (stride, n, side, [c, o]) in [
        (1, 1, 9, [70, 140]),
        (1, 33, 9, [70, 140]),
        (2, 33, 9, [70, 140]),
        (1, 1, 8, [70, 140]),
        (1, 33, 6, [70, 140]),
        (1, 33, 8, [70, 140]),
        (1, 150, 4, [5, 270]),
        (1, 70, 8, [67, 200]),
    ] {
        let case = Case {
            n,
            c,
            o,
            h: side,
            w: side,
            ..SMALL
        };
        assert_thread_independent("conv2d", || {
            let variables = case
                .inputs()
                .map(|t| Var::from_tensor(&t).expect("a variable"));
            let [x, w, b] = &variables;
            let y = conv2d(x, w, Some(b), stride, 1).expect("forward");
            let gradients = weighted(&y).expect("a loss").backward().expect("backward");
            let fastest = conv2d_with(x, w, Some(b), stride, 1, Sums::Fastest);
            let mut all = [bytes(&y), bytes(&fastest.expect("forward"))].concat();
            variables
                .iter()
                .for_each(|v| all.extend(bytes(gradients.get(v).expect("a gradient"))));
            all
        });
    }
}

#[test]
fn constants_get_no_gradient() {
    let [x, w, b] = SMALL.inputs();
    let variable = Var::from_tensor(&x).expect("a variable");
    let gradients = weighted(&conv2d(&variable, &w, Some(&b), 1, 1).expect("forward"))
        .expect("a loss")
        .backward()
        .expect("backward");
    assert!(gradients.get(&variable).is_some());
    assert!(gradients.get(&w).is_none() && gradients.get(&b).is_none());
}

#[test]
fn bad_shapes_are_errors() {
    let [x, w, b] = SMALL.inputs();
    let wide = normal(1, &[2, 4, 7, 6]);
    for (what, result) in [
        ("channels", conv2d(&wide, &w, None, 1, 1)),
        ("stride", conv2d(&x, &w, None, 0, 1)),
        ("rank", conv2d(&b, &w, None, 1, 1)),
        ("bias", conv2d(&x, &w, Some(&normal(1, &[5])), 1, 1)),
        ("kernel", conv2d(&x, &normal(1, &[4, 3, 9, 9]), None, 1, 0)),
        ("padding", conv2d(&x, &w, None, 1, usize::MAX)),
    ] {
        let message = result.expect_err(what).to_string();
        assert!(message.contains("conv2d"), "{what}: {message}");
    }
    let none = Tensor::zeros((0, 3, 7, 6), DType::F32, x.device()).expect("no images");
    assert_eq!(
        conv2d(&none, &w, Some(&b), 1, 1).expect("no images").dims(),
        [0, 4, 7, 6]
    );
}
