//! The conversion report against sums over every neuron, and the configuration as text.

mod common;

use ann::Mode;
use candle_core::Tensor;
use common::{config, convert, images, percentile, values, vgg};
use convert::{ConvertConfig, Granularity, ThresholdRule, report};
use snn_core::encode::Encoder;
use snn_core::network::Batch;
use snn_core::progress::{Flow, silent};
use snn_core::rng::Seed;

#[test]
fn figures_equal_sums_over_every_neuron() {
    let ann = vgg(true, false, 71);
    let images = images(5, 72);
    let conversion = convert(
        &ann,
        Some(&images),
        &config(percentile(95.0, Granularity::Layer), Encoder::Poisson),
    );
    let (network, source) = (&conversion.network, &conversion.source);
    let timesteps = 12;
    let measured = report(
        network,
        source,
        &images,
        timesteps,
        Seed::new(3),
        &mut silent,
    )
    .expect("a report");
    assert_eq!((measured.images, measured.timesteps), (5, timesteps));
    let names: Vec<&str> = measured.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["conv1", "conv2", "conv3", "linear1"]);

    let batch = Batch {
        images: &images,
        ids: &[0, 1, 2, 3, 4],
        seed: Seed::new(3),
    };
    let trace = source.trace(&images, Mode::Inference).expect("runs");
    let mut unit = 1.0;
    for layer in &measured.layers {
        let threshold = f64::from(values(&network.thresholds()[&layer.layer])[0]);
        assert_eq!(
            [
                layer.threshold_min,
                layer.threshold_mean,
                layer.threshold_max
            ],
            [threshold; 3]
        );
        let lambda = threshold * unit;
        unit = lambda;
        assert!((layer.spike_value_mean / lambda - 1.0).abs() < 1e-12);

        let run =
            |steps| values(&network.run(batch, steps, steps).expect("runs").spikes[&layer.layer]);
        let counts = run(timesteps);
        let activations = values(&trace.activations[&layer.layer]);
        let n = counts.len() as f64;
        let xs: Vec<f64> = counts
            .iter()
            .map(|&c| f64::from(c) / timesteps as f64 * lambda)
            .collect();
        let ys: Vec<f64> = activations.iter().map(|&a| f64::from(a)).collect();
        let (mx, my) = (xs.iter().sum::<f64>() / n, ys.iter().sum::<f64>() / n);
        let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
        for (x, y) in xs.iter().zip(&ys) {
            xy += (x - mx) * (y - my);
            xx += (x - mx).powi(2);
            yy += (y - my).powi(2);
        }
        let correlation = layer.rate_correlation.expect("a correlation");
        assert!(
            (correlation - xy / (xx * yy).sqrt()).abs() < 1e-6,
            "{}",
            layer.name
        );
        assert!((layer.mean_rate.expect("a rate") - mx / lambda).abs() < 1e-9);
        let clipped = ys.iter().filter(|&&y| y > lambda).count() as f64 / n;
        assert!((layer.clipped_share.expect("a share") - clipped).abs() < 1e-12);

        // by the step given 3 of 5 images have spikes, one step earlier fewer
        let firing = |steps| {
            let counts = run(steps);
            counts
                .chunks(counts.len() / 5)
                .filter(|image| image.iter().sum::<f32>() > 0.0)
                .count()
        };
        let step = layer.first_output_step.expect("it fires");
        assert!(
            firing(step) >= 3 && (step == 1 || firing(step - 1) < 3),
            "{}: {step}",
            layer.name
        );
    }
    assert!(measured.layers[0].rate_correlation > Some(0.5));
    assert!((0.0..=1.0).contains(&measured.agreement.expect("measured")));
}

#[test]
fn conversion_carries_a_report() {
    let ann = vgg(false, true, 1);
    let rule = ThresholdRule::BatchNorm { deviations: 3.0 };
    let bare = convert(&ann, None, &config(rule, Encoder::Direct)).report;
    assert_eq!(
        (bare.images, bare.layers.len(), bare.agreement),
        (0, 4, None)
    );
    assert!(
        bare.layers
            .iter()
            .all(|l| l.mean_rate.is_none() && l.threshold_min > 0.0)
    );
    let with_images = ConvertConfig {
        report_images: 3,
        ..config(rule, Encoder::Direct)
    };
    let measured = convert(&ann, Some(&images(5, 2)), &with_images).report;
    assert_eq!((measured.images, measured.timesteps), (3, 20));
    assert!(measured.layers.iter().all(|l| l.mean_rate.is_some()));
}

#[test]
fn bad_input_is_an_error() {
    let conversion = convert(
        &vgg(false, true, 1),
        None,
        &config(
            ThresholdRule::BatchNorm { deviations: 3.0 },
            Encoder::Direct,
        ),
    );
    let refused = |source: &ann::Ann, images: &Tensor, timesteps| {
        report(
            &conversion.network,
            source,
            images,
            timesteps,
            Seed::new(0),
            &mut silent,
        )
        .expect_err("must be refused")
        .to_string()
    };
    let good = images(2, 1);
    assert!(refused(&vgg(false, true, 1), &good, 4).contains("source"));
    assert!(refused(&conversion.source, &good, 0).contains("timesteps"));
    let bright = (&good * 2.0).expect("images");
    assert!(refused(&conversion.source, &bright, 4).contains("[-1, 1]"));
}

#[test]
fn the_watcher_can_stop_every_rule() {
    let (ann, images) = (vgg(false, false, 1), images(4, 1));
    for rule in [
        ThresholdRule::MaxCurrent { scale: 1.0 },
        percentile(99.0, Granularity::Channel),
        ThresholdRule::LocalBalance {
            rate: 0.5,
            passes: 2,
        },
    ] {
        let config = config(rule, Encoder::Direct);
        let mut stop = |_: &snn_core::progress::Progress| Flow::Stop;
        let result = convert::convert(&ann, Some(&images), &config, Seed::new(1), &mut stop);
        assert!(
            matches!(
                result,
                Err(convert::Error::Core(snn_core::Error::Interrupted))
            ),
            "{rule:?}"
        );
    }
}

#[test]
fn configuration_reads_and_refuses_unknown_keys() {
    let read = |text: &str| serde_json::from_str::<ConvertConfig>(text);
    assert_eq!(read("{}").expect("the default"), ConvertConfig::default());
    let config = read(r#"{"thresholds": {"rule": "percentile", "percentile": 99.9, "granularity": "channel"}, "encoder": "direct"}"#)
        .expect("a configuration");
    assert_eq!(config.thresholds, percentile(99.9, Granularity::Channel));
    let paper = read(r#"{"thresholds": {"rule": "max_current"}}"#).expect("a configuration");
    assert_eq!(paper.thresholds, ThresholdRule::MaxCurrent { scale: 1.0 });
    for wrong in [
        r#"{"threshold": 1}"#,
        r#"{"thresholds": {"rule": "batch_norm", "deviations": 3, "sigma": 1}}"#,
        r#"{"thresholds": {"rule": "balanced"}}"#,
        r#"{"calibration_timesteps": -4}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
