use candle_core::{DType, Device, Tensor, Var};
use snn_core::Result;
use snn_core::neuron::{Firing, NeuronSettings, Reset, Scan, backward, scan};
use snn_core::ops::neuron::reference;
use testkit::{Tolerance, assert_close, assert_thread_independent, check_gradient, devices};

use crate::surrogate::ALL;
use crate::{AWKWARD, bytes, normal, scattered, weighted};

/// A dozen steps of rounding, carried along by the membrane.
const STEPS: Tolerance = Tolerance::Rounding(100.0);

fn settings() -> Vec<NeuronSettings> {
    let mut settings = Vec::new();
    for surrogate in ALL {
        for reset in [Reset::Soft, Reset::Hard] {
            for firing in [Firing::Above, Firing::AtOrAbove] {
                for detach_reset in [true, false] {
                    for leak in [1.0, 0.75] {
                        settings.push(NeuronSettings {
                            leak,
                            reset,
                            firing,
                            surrogate,
                            detach_reset,
                        });
                    }
                }
            }
        }
    }
    settings
}

fn inputs(shape: &[usize]) -> [Tensor; 3] {
    let currents = (normal(1, shape) * 0.7)
        .and_then(|x| x + 0.4)
        .expect("currents");
    let thresholds: Vec<f32> = (0..shape[2]).map(|c| 0.7 + 0.1 * (c % 7) as f32).collect();
    let thresholds = Tensor::new(thresholds, &Device::Cpu).expect("thresholds");
    let membrane = (normal(2, &shape[1..]) * 0.2).expect("membranes");
    [currents, thresholds, membrane]
}

/// Spikes, membrane, and the gradients of a loss that needs both.
fn run(
    f: fn(&Tensor, &Tensor, &Tensor, &NeuronSettings) -> Result<Scan>,
    [currents, threshold, membrane]: &[Tensor; 3],
    settings: &NeuronSettings,
) -> Result<[Tensor; 4]> {
    let (currents, membrane) = (Var::from_tensor(currents)?, Var::from_tensor(membrane)?);
    let scan = f(&currents, threshold, &membrane, settings)?;
    let loss = (weighted(&scan.spikes)? + weighted(&scan.membrane)?)?;
    let gradients = loss.backward()?;
    let of = |v: &Var| gradients.get(v).expect("a gradient").clone();
    Ok([
        scan.spikes.detach(),
        scan.membrane.detach(),
        of(&currents),
        of(&membrane),
    ])
}

/// Compares the scan on every device there is with the reference on the CPU.
fn assert_twins(what: &str, inputs: &[Tensor; 3], settings: &NeuronSettings) {
    let slow = run(reference::scan, inputs, settings).expect("the reference");
    for device in devices() {
        let inputs = inputs
            .each_ref()
            .map(|x| x.to_device(&device).expect("moved"));
        assert_follows(&format!("{what} on {device:?}"), &inputs, settings, &slow);
    }
}

fn assert_follows(what: &str, inputs: &[Tensor; 3], settings: &NeuronSettings, slow: &[Tensor; 4]) {
    let fast = run(scan, inputs, settings).expect("the fast path");
    assert_close(
        &fast[0],
        &slow[0],
        Tolerance::Exact,
        &format!("{what}: spikes"),
    );
    assert_close(
        &fast[1],
        &slow[1],
        Tolerance::Exact,
        &format!("{what}: membrane"),
    );
    assert_close(
        &fast[2],
        &slow[2],
        STEPS,
        &format!("{what}: gradient of the currents"),
    );
    assert_close(
        &fast[3],
        &slow[3],
        STEPS,
        &format!("{what}: gradient of the membrane"),
    );
    // without a graph the same numbers come another way
    let [currents, threshold, membrane] = inputs;
    let quiet = scan(currents, threshold, membrane, settings).expect("without a graph");
    assert_close(&quiet.spikes, &fast[0], Tolerance::Exact, what);
    assert_close(&quiet.membrane, &fast[1], Tolerance::Exact, what);
}

#[test]
fn equals_the_reference() {
    for settings in settings() {
        assert_twins(
            &format!("{settings:?}"),
            &inputs(&[7, 2, 3, 3, 5]),
            &settings,
        );
    }
    for size in AWKWARD {
        for shape in [
            vec![3, size, 2],
            vec![3, 2, size],
            vec![3, 2, 5, size],
            vec![size, 2, 3],
        ] {
            assert_twins(
                &format!("{shape:?}"),
                &inputs(&shape),
                &NeuronSettings::default(),
            );
        }
    }
    // several blocks of neurons, and one threshold for all
    let [currents, _, membrane] = inputs(&[4, 2, 33, 9, 9]);
    let one = Tensor::new(&[0.9f32], &Device::Cpu).expect("a threshold");
    assert_twins(
        "blocks",
        &[currents, one, membrane],
        &NeuronSettings::default(),
    );
}

#[test]
fn one_step_by_hand() {
    let tensor =
        |v: &[f32], shape: &[usize]| Tensor::from_slice(v, shape, &Device::Cpu).expect("a tensor");
    let currents = tensor(&[1.0, 0.5, 2.5], &[1, 1, 3]);
    let membrane = tensor(&[0.0, 0.25, 0.5], &[1, 3]);
    let threshold = tensor(&[1.0], &[1]);
    let spikes = |firing, reset| {
        let settings = NeuronSettings {
            firing,
            reset,
            ..NeuronSettings::default()
        };
        let scan = scan(&currents, &threshold, &membrane, &settings).expect("a step");
        let flat = |t: &Tensor| {
            t.flatten_all()
                .and_then(|t| t.to_vec1::<f32>())
                .expect("numbers")
        };
        (flat(&scan.spikes), flat(&scan.membrane))
    };
    assert_eq!(
        spikes(Firing::Above, Reset::Soft),
        (vec![0.0, 0.0, 1.0], vec![1.0, 0.75, 2.0])
    );
    assert_eq!(
        spikes(Firing::AtOrAbove, Reset::Soft),
        (vec![1.0, 0.0, 1.0], vec![0.0, 0.75, 2.0])
    );
    assert_eq!(
        spikes(Firing::AtOrAbove, Reset::Hard),
        (vec![1.0, 0.0, 1.0], vec![0.0, 0.75, 0.0])
    );
}

#[test]
fn all_silent_and_all_firing() {
    for (current, spikes) in [(-0.1f32, 0.0f32), (1.0, 1.0)] {
        let currents = Tensor::full(current, (6, 2, 3), &Device::Cpu).expect("currents");
        let [_, threshold, membrane] = inputs(&[6, 2, 3]);
        for settings in settings() {
            let inputs = [
                currents.clone(),
                threshold.clone(),
                membrane.zeros_like().expect("zeros"),
            ];
            let fast = run(scan, &inputs, &settings).expect("the fast path");
            let expected = Tensor::full(spikes, (6, 2, 3), &Device::Cpu).expect("spikes");
            assert_close(&fast[0], &expected, Tolerance::Exact, "spikes");
            assert_twins(
                &format!("current {current} {settings:?}"),
                &inputs,
                &settings,
            );
        }
    }
}

/// A scan has no slope in its spikes; in its membrane, between spikes, it has: the reset detached is the true one.
#[test]
fn the_membrane_gradient_is_a_slope() {
    let settings = NeuronSettings {
        leak: 0.75,
        ..NeuronSettings::default()
    };
    let [currents, threshold, membrane] = inputs(&[5, 2, 3, 2]);
    // the surrogate plays no part if only the membrane counts and the reset is detached
    let of_currents = |i: &Tensor| weighted(&scan(i, &threshold, &membrane, &settings)?.membrane);
    check_gradient(
        of_currents,
        &currents,
        1e-4,
        Tolerance::Rounding(1e5),
        "currents",
    );
    let of_membrane = |v: &Tensor| weighted(&scan(&currents, &threshold, v, &settings)?.membrane);
    check_gradient(
        of_membrane,
        &membrane,
        1e-4,
        Tolerance::Rounding(1e5),
        "membrane",
    );
}

#[test]
fn threads_do_not_matter() {
    for settings in [
        NeuronSettings::default(),
        NeuronSettings {
            reset: Reset::Hard,
            detach_reset: false,
            ..NeuronSettings::default()
        },
    ] {
        assert_thread_independent("scan", || {
            let results = run(scan, &inputs(&[70, 3, 33, 8, 8]), &settings).expect("a scan");
            results.iter().flat_map(bytes).collect::<Vec<u32>>()
        });
    }
}

#[test]
fn a_window_in_two_halves_is_one_window() {
    for device in devices() {
        // more steps than a kernel's thread holds, and parts that end within what it holds
        for (steps, first) in [(9, 4), (37, 17)] {
            two_halves(&device, steps, first);
        }
    }
}

fn two_halves(device: &Device, steps: usize, first: usize) {
    let [currents, threshold, membrane] =
        inputs(&[steps, 2, 3, 5]).map(|x| x.to_device(device).expect("moved"));
    let settings = NeuronSettings {
        leak: 0.9,
        detach_reset: false,
        ..NeuronSettings::default()
    };
    let whole = run(
        scan,
        &[currents.clone(), threshold.clone(), membrane.clone()],
        &settings,
    )
    .expect("one window");
    let currents = Var::from_tensor(&currents).expect("a variable");
    let membrane = Var::from_tensor(&membrane).expect("a variable");
    let part = |from: usize, len: usize| currents.narrow(0, from, len).expect("a part");
    let one = scan(&part(0, first), &threshold, &membrane, &settings).expect("the first part");
    let rest = part(first, steps - first);
    let two = scan(&rest, &threshold, &one.membrane, &settings).expect("the rest");
    let spikes = Tensor::cat(&[&one.spikes, &two.spikes], 0).expect("all spikes");
    assert_close(&spikes, &whole[0], Tolerance::Exact, "spikes");
    assert_close(&two.membrane, &whole[1], Tolerance::Exact, "membrane");
    let loss = (weighted(&spikes).expect("a loss") + weighted(&two.membrane).expect("a loss"))
        .expect("a loss");
    let gradients = loss.backward().expect("backward");
    assert_close(
        gradients.get(&currents).expect("a gradient"),
        &whole[2],
        STEPS,
        "gradient through the state",
    );
    assert_close(
        gradients.get(&membrane).expect("a gradient"),
        &whole[3],
        STEPS,
        "gradient of the first state",
    );
}

/// Without a graph the gradients are the graph's, on every device; also from views.
#[test]
fn gradients_without_a_graph() {
    for device in devices() {
        for settings in settings() {
            let inputs = inputs(&[7, 2, 3, 3, 5]).map(|x| x.to_device(&device).expect("moved"));
            let [currents, threshold, membrane] = &inputs;
            let g_spikes = normal(5, currents.dims())
                .to_device(&device)
                .expect("moved");
            let (i, v) = (
                Var::from_tensor(currents).expect("a variable"),
                Var::from_tensor(membrane).expect("a variable"),
            );
            let spikes = scan(&i, threshold, &v, &settings).expect("a scan").spikes;
            let graph = (spikes * &g_spikes)
                .and_then(|loss| loss.sum_all()?.backward())
                .expect("the graph");
            let plain = backward(currents, threshold, membrane, &settings, &g_spikes);
            let (of_currents, of_membrane) = plain.expect("gradients");
            for (own, variable) in [(&of_currents, &i), (&of_membrane, &v)] {
                let graph = graph.get(variable).expect("a gradient");
                assert_close(own, graph, STEPS, &format!("{settings:?} on {device:?}"));
            }
            let [i, t, v] = inputs.each_ref().map(scattered);
            let views = backward(&i, &t, &v, &settings, &scattered(&g_spikes));
            let (views, _) = views.expect("gradients of views");
            assert_close(&views, &of_currents, Tolerance::Exact, "views");
        }
    }
    let [currents, threshold, membrane] = inputs(&[3, 2, 4, 5]);
    let double = currents.to_dtype(DType::F64).expect("f64");
    for (wrong, what) in [(normal(1, &[3, 2, 4]), "[3, 2, 4]"), (double, "F64")] {
        let settings = NeuronSettings::default();
        let refused = backward(&currents, &threshold, &membrane, &settings, &wrong);
        let message = refused.map(drop).expect_err(what).to_string();
        assert!(
            message.contains("g_spikes") && message.contains(what),
            "{message}"
        );
    }
}

#[test]
fn takes_views_and_refuses_misfits() {
    let [currents, threshold, membrane] = inputs(&[3, 2, 4, 5]);
    let settings = NeuronSettings::default();
    let plain = run(
        scan,
        &[currents.clone(), threshold.clone(), membrane.clone()],
        &settings,
    )
    .expect("contiguous");
    for device in devices() {
        let [i, theta, v] = [&currents, &threshold, &membrane]
            .map(|x| scattered(&x.to_device(&device).expect("moved")));
        let views = scan(&i, &theta, &v, &settings).expect("views");
        assert_close(&views.spikes, &plain[0], Tolerance::Exact, "views");
        assert_close(&views.membrane, &plain[1], Tolerance::Exact, "views");
        let later = Tensor::cat(&[&i, &i], 0)
            .and_then(|i| i.narrow(0, 3, 3))
            .expect("the second half");
        let later = scan(&later, &theta, &v, &settings).expect("an offset");
        assert_close(&later.spikes, &plain[0], Tolerance::Exact, "an offset");
    }

    let none = Tensor::zeros((0, 2, 4, 5), DType::F32, &Device::Cpu).expect("no steps");
    let message = scan(&none, &threshold, &membrane, &settings)
        .expect_err("T = 0")
        .to_string();
    assert!(message.contains("T at least 1"), "{message}");
    for empty in [[3, 0, 4, 5], [3, 2, 0, 5], [3, 2, 4, 0]] {
        let none = Tensor::zeros(&empty, DType::F32, &Device::Cpu).expect("no neuron");
        let membrane = none.get(0).expect("a step");
        let message = scan(&none, &normal(1, &[1]), &membrane, &settings)
            .expect_err("an empty batch")
            .to_string();
        assert!(message.contains("currents"), "{message}");
    }
    assert!(scan(&currents, &normal(1, &[3]), &membrane, &settings).is_err());
    assert!(scan(&currents, &threshold, &normal(1, &[2, 4]), &settings).is_err());
    for leak in [0.0, 1.5, f32::NAN] {
        let settings = NeuronSettings { leak, ..settings };
        assert!(
            scan(&currents, &threshold, &membrane, &settings).is_err(),
            "leak {leak}"
        );
    }
}
