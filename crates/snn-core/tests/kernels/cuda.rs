//! What only a CUDA device can show; without one there is nothing to see here.

use candle_core::{DType, Device, Tensor, Var};
use snn_core::Result;
use snn_core::encode::{poisson, poisson_straight_through};
use snn_core::neuron::{NeuronSettings, Reset, scan};
use snn_core::ops::conv2d::conv2d;
use snn_core::ops::cuda::launches;
use snn_core::rng::Seed;
use snn_core::surrogate::Surrogate;
use testkit::{Tolerance, assert_close, devices};

use crate::surrogate::ALL;
use crate::{bytes, normal, weighted};

fn gpus() -> Vec<Device> {
    devices().into_iter().filter(Device::is_cuda).collect()
}

/// What `f` gives, and how many kernels it started.
fn counted<R>(f: impl FnOnce() -> R) -> (R, usize) {
    let before = launches();
    let result = f();
    (result, launches() - before)
}

fn variables<const N: usize>(shapes: [&[usize]; N], device: &Device) -> [Var; N] {
    let mut seed = 0;
    shapes.map(|shape| {
        seed += 1;
        let x = normal(seed, shape).to_device(device).expect("moved");
        Var::from_tensor(&x).expect("a variable")
    })
}

#[test]
fn the_scan_takes_its_kernels() {
    for device in gpus() {
        let [currents, membrane] = variables([&[19, 2, 3, 5], &[2, 3, 5]], &device);
        let threshold = Tensor::new(&[1f32], &device).expect("a threshold");
        let settings = NeuronSettings::default();
        let run = |currents: &Tensor, membrane: &Tensor| {
            counted(|| scan(currents, &threshold, membrane, &settings).expect("a scan"))
        };
        let (tracked, started) = run(&currents, &membrane);
        assert_eq!(started, 1, "forward");
        for (what, y) in [("spikes", &tracked.spikes), ("membrane", &tracked.membrane)] {
            let (_, started) =
                counted(|| weighted(y).expect("a loss").backward().expect("backward"));
            assert_eq!(started, 1, "backward from the {what}");
        }
        let (_, started) = run(&currents.detach(), &membrane.detach());
        assert_eq!(started, 1, "without a graph");
        let double = |x: &Tensor| x.to_dtype(DType::F64).expect("f64");
        let (_, started) = counted(|| {
            let v = double(&membrane);
            scan(&double(&currents), &double(&threshold), &v, &settings).expect("the reference")
        });
        assert_eq!(started, 0, "f64 has no kernel");
    }
}

#[test]
fn the_coder_takes_its_kernels() {
    for device in gpus() {
        let [images] = variables([&[2, 3, 4, 5]], &device);
        let seed = Seed::new(1);
        let (_, started) = counted(|| poisson(&images, &[1, 2], 0, 3, seed).expect("spikes"));
        assert_eq!(started, 1, "forward");
        let (spikes, started) =
            counted(|| poisson_straight_through(&images, &[1, 2], 0, 3, seed).expect("spikes"));
        assert_eq!(started, 1, "forward, straight through");
        let (_, started) = counted(|| {
            weighted(&spikes)
                .expect("a loss")
                .backward()
                .expect("backward")
        });
        assert_eq!(started, 1, "backward");
    }
}

#[test]
fn the_convolution_takes_cudnn() {
    // a convolution each for y, x and weight; two sums for the bias, one addition of it
    let expected = if cfg!(feature = "cudnn") {
        [2, 4, 1]
    } else {
        [0; 3]
    };
    for device in gpus() {
        let [x, w, b] = variables([&[2, 3, 8, 8], &[4, 3, 3, 3], &[4]], &device);
        let (y, forward) = counted(|| conv2d(&x, &w, Some(&b), 1, 1).expect("forward"));
        let (_, backward) = counted(|| weighted(&y).expect("a loss").backward().expect("backward"));
        let y = conv2d(&x, &w.detach(), None, 1, 1).expect("forward");
        let (_, of_x) = counted(|| weighted(&y).expect("a loss").backward().expect("backward"));
        assert_eq!([forward, backward, of_x], expected);
    }
}

#[test]
fn the_scan_has_the_bits_of_the_cpu() {
    let (shape, states) = ([35, 3, 4, 43], [3, 4, 43]);
    let thresholds = Tensor::new(&[0.7f32, 0.8, 0.9, 1.0], &Device::Cpu).expect("thresholds");
    for surrogate in ALL {
        for (reset, detach_reset) in [(Reset::Soft, true), (Reset::Hard, false)] {
            let settings = NeuronSettings {
                leak: 0.75,
                reset,
                surrogate,
                detach_reset,
                ..NeuronSettings::default()
            };
            let run = |device: &Device| {
                let [currents, membrane] = variables([&shape, &states], device);
                let threshold = thresholds.to_device(device)?;
                let scan = scan(&currents, &threshold, &membrane, &settings)?;
                let gradients = weighted(&scan.spikes)?.backward()?;
                let gradient = |v: &Var| gradients.get(v).expect("a gradient").clone();
                let gradients = [gradient(&currents), gradient(&membrane)];
                Result::Ok(([scan.spikes, scan.membrane], gradients))
            };
            let (results, gradients) = run(&Device::Cpu).expect("the CPU");
            // the exponential is not rounded in the same way
            let tolerance = match surrogate {
                Surrogate::Sigmoid { .. } => Tolerance::Rounding(100.0),
                _ => Tolerance::Exact,
            };
            for device in gpus() {
                let (on_device, g_on_device) = run(&device).expect("the device");
                for (a, b) in on_device.iter().zip(&results) {
                    assert_eq!(bytes(a), bytes(b), "{settings:?}");
                }
                for (a, b) in g_on_device.iter().zip(&gradients) {
                    assert_close(a, b, tolerance, &format!("{settings:?}"));
                }
            }
        }
    }
}

#[test]
fn a_convolution_has_the_same_bits_again() {
    for device in gpus() {
        let run = || {
            let [x, w, b] = variables([&[37, 20, 9, 9], &[33, 20, 3, 3], &[33]], &device);
            let y = conv2d(&x, &w, Some(&b), 1, 1).expect("forward");
            let gradients = weighted(&y).expect("a loss").backward().expect("backward");
            let mut all = bytes(&y);
            for v in [&x, &w, &b] {
                all.extend(bytes(gradients.get(v).expect("a gradient")));
            }
            all
        };
        // without cuDNN the gradients are candle's
        if cfg!(feature = "cudnn") {
            let first = run();
            assert!((0..5).all(|_| run() == first));
        }
    }
}

/// Where candle has no backward pass, the CPU's kernel is the measure.
#[test]
#[cfg(feature = "cudnn")]
fn the_convolution_follows_the_cpu_where_candle_cannot() {
    for (k, stride, padding) in [(3, 2, 1), (2, 3, 0), (5, 3, 2), (3, 2, 6)] {
        let run = |device: &Device| {
            let [x, w, b] = variables([&[2, 3, 8, 6], &[4, 3, k, k], &[4]], device);
            let y = conv2d(&x, &w, Some(&b), stride, padding).expect("forward");
            let gradients = weighted(&y).expect("a loss").backward().expect("backward");
            let gradient = |v: &Var| gradients.get(v).expect("a gradient").clone();
            [gradient(&x), gradient(&w), gradient(&b), y]
        };
        let expected = run(&Device::Cpu);
        for device in gpus() {
            for (a, b) in run(&device).iter().zip(&expected) {
                let what = format!("kernel {k}, stride {stride}, padding {padding}");
                assert_close(a, b, Tolerance::Rounding(300.0), &what);
            }
        }
    }
}
