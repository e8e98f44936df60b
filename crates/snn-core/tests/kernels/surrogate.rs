//! The contract of a surrogate: its derivative is that of its primitive.

use snn_core::surrogate::Surrogate;

pub const ALL: [Surrogate; 5] = [
    Surrogate::PiecewiseLinear { scale: 0.3 },
    Surrogate::Atan { alpha: 2.0 },
    Surrogate::Sigmoid { alpha: 4.0 },
    Surrogate::Rectangular { width: 1.5 },
    Surrogate::SuperSpike { beta: 10.0 },
];

#[test]
fn the_derivative_is_the_slope_of_the_primitive() {
    const STEP: f64 = 1e-4;
    for surrogate in ALL {
        for i in -400..=400 {
            // off the corners, which lie at multiples of a quarter
            let x = f64::from(i) * 0.01 + 0.0037;
            let slope =
                (surrogate.primitive(x + STEP) - surrogate.primitive(x - STEP)) / (2.0 * STEP);
            let derivative = f64::from(surrogate.derivative(x as f32));
            assert!(
                (derivative - slope).abs() < 1e-4 * (1.0 + slope.abs()),
                "{surrogate:?} at {x}: {derivative} instead of {slope}"
            );
        }
    }
}

#[test]
fn parameters_are_checked() {
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        for surrogate in [
            Surrogate::PiecewiseLinear { scale: bad },
            Surrogate::Atan { alpha: bad },
            Surrogate::Sigmoid { alpha: bad },
            Surrogate::Rectangular { width: bad },
            Surrogate::SuperSpike { beta: bad },
        ] {
            let message = surrogate.check().expect_err("not positive").to_string();
            assert!(message.starts_with("surrogate."), "{message}");
        }
    }
    for surrogate in ALL {
        surrogate.check().expect("the usual parameters");
    }
}
