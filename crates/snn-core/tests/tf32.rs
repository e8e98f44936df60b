//! The setting of a process: a test of its own process.
#![cfg(feature = "cuda")]

use candle_core::{Device, Tensor};
use snn_core::ops::conv2d::conv2d;
use snn_core::ops::cuda::{allow_tf32, tf32_allowed};
use snn_core::rng::Seed;
use testkit::{Tolerance, assert_close, devices};

#[test]
fn tf32_is_for_those_who_ask() {
    assert!(!tf32_allowed());
    let normal = |seed, shape: &[usize]| {
        Seed::new(seed)
            .normal(shape, 0.0, 1.0, &Device::Cpu)
            .expect("normal numbers")
    };
    let (x, w) = (normal(1, &[4, 64, 16, 16]), normal(2, &[64, 64, 3, 3]));
    let expected = conv2d(&x, &w, None, 1, 1).expect("on the CPU");
    for device in devices() {
        let on = |x: &Tensor| x.to_device(&device).expect("moved");
        let run = || conv2d(&on(&x), &on(&w), None, 1, 1).expect("a convolution");
        // sums of 576 products; what TF32 leaves of them is off by thousands of f32's roundings
        let (f32s, tf32s) = (Tolerance::Rounding(50.0), Tolerance::Rounding(20_000.0));
        let numbers = |y: &Tensor| -> Vec<f32> {
            let flat = y.flatten_all().expect("one axis");
            flat.to_vec1().expect("numbers")
        };
        let full = run();
        assert_close(&full, &expected, f32s, "f32");
        allow_tf32(true);
        assert!(tf32_allowed());
        let rounded = run();
        assert_close(&rounded, &expected, tf32s, "TF32");
        // every card from compute capability 8.0 on has it
        let has_it = cfg!(feature = "cudnn") && device.is_cuda();
        assert_eq!(numbers(&rounded) != numbers(&full), has_it);
        allow_tf32(false);
        assert_close(&run(), &expected, f32s, "f32 again");
    }
}
