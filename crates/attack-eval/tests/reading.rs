//! The readings of spiking networks put together by hand.

mod common;

use std::collections::BTreeMap;

use ann::{Ann, Mode};
use attack_eval::attacks::{AscentConfig, BackConversionConfig, back_conversion};
use attack_eval::{rate_reading, relu_reading, weight_change_by_layer};
use candle_core::{Device, Tensor};
use common::{
    Outcome, largest_difference, network, per_channel, per_layer, residual, unbroken, unfed,
};
use snn_core::progress::silent;
use snn_core::rng::Seed;
use snn_core::{SpikingNetwork, SpikingSettings};

/// Networks of three populations, in a row and with a shortcut, without and with biases.
fn sources() -> Outcome<Vec<Ann>> {
    [false, true]
        .into_iter()
        .flat_map(|bias| [network(bias, Seed::new(6)), residual(bias, Seed::new(6))])
        .collect()
}

fn images() -> Outcome<Tensor> {
    Ok(Seed::new(2).uniform(&[6, 3, 8, 8], -1.0, 1.0, &Device::Cpu)?)
}

/// Before encryption and with one threshold per layer, A1 on a bias-free spiking network is A1 on its source.
#[test]
fn back_conversion_of_a_bias_free_network_is_that_of_its_source() -> Outcome<()> {
    let source = network(false, Seed::new(5))?;
    let spiking = per_layer(&source, &[0.37, 2.9, 0.81])?;
    let reading = relu_reading(&spiking)?;
    for ascent in [AscentConfig::classic(), AscentConfig::adam()] {
        let config = BackConversionConfig {
            ascent: AscentConfig {
                iterations: 20,
                ..ascent
            },
            ..BackConversionConfig::default()
        };
        let of_source = back_conversion::run(&source, &config, 2, Seed::new(1), &mut silent)?;
        let of_reading = back_conversion::run(&reading, &config, 2, Seed::new(1), &mut silent)?;
        assert_eq!(
            largest_difference(&of_source.images, &of_reading.images)?,
            0.0
        );
        assert_eq!(of_source.confidence, of_reading.confidence);
    }
    Ok(())
}

#[test]
fn scalar_thresholds_keep_the_weights_bit_for_bit() -> Outcome<()> {
    for source in [
        network(false, Seed::new(5))?,
        residual(false, Seed::new(5))?,
    ] {
        let reading = relu_reading(&per_layer(&source, &[1.3, 0.2, 17.0])?)?;
        for change in weight_change_by_layer(&source, &reading)? {
            assert_eq!(change.relative, 0.0, "{}", change.name);
        }
        for layer in source.topology().shortcuts() {
            let (before, after) = (
                source.parameters().scale(layer)?,
                reading.parameters().scale(layer)?,
            );
            assert!(largest_difference(before, after)? < 1e-6, "layer {layer}");
        }
    }
    Ok(())
}

#[test]
fn biases_and_channel_wise_thresholds_are_undone() -> Outcome<()> {
    let images = images()?;
    for source in sources()? {
        let expected = source.forward(&images, Mode::Inference)?;
        let scale = expected.abs()?.max_all()?.to_scalar::<f32>()?;
        for spiking in [
            per_layer(&source, &[0.37, 2.9, 0.81])?,
            per_channel(&source, Seed::new(7))?,
        ] {
            let got = relu_reading(&spiking)?.forward(&images, Mode::Inference)?;
            assert!(largest_difference(&expected, &got)? < 1e-5 * scale);
        }
        for change in weight_change_by_layer(
            &source,
            &relu_reading(&per_channel(&source, Seed::new(7))?)?,
        )? {
            assert!(
                change.relative < 1e-6 && change.cosine > 1.0 - 1e-9,
                "{change:?}"
            );
        }
    }
    Ok(())
}

/// Thresholds of a share of the largest activation of each layer of `source`, direct coding and a start at half of them.
fn converted(source: &Ann, images: &Tensor, share: f32) -> Outcome<SpikingNetwork> {
    let trace = source.trace(images, Mode::Inference)?;
    let scales = trace
        .activations
        .values()
        .map(|layer| -> Outcome<f32> { Ok(share * layer.max_all()?.to_scalar::<f32>()?) })
        .collect::<Outcome<Vec<_>>>()?;
    let spiking = per_layer(source, &scales)?;
    let settings = SpikingSettings {
        encoder: snn_core::encode::Encoder::Direct,
        initial_membrane: 0.5,
        ..*spiking.settings()
    };
    Ok(spiking.with_settings(settings)?)
}

/// How far the logits of a network are from those of its reading after 10 and after 400 steps, as shares of these.
fn distances(spiking: &SpikingNetwork, reading: &Ann, images: &Tensor) -> Outcome<[f32; 2]> {
    let ids: Vec<u64> = (0..6).collect();
    let batch = snn_core::network::Batch {
        images,
        ids: &ids,
        seed: Seed::new(1),
    };
    let run = spiking.run(batch, 400, 50)?;
    let reading = reading.forward(images, Mode::Inference)?;
    let scale = reading.abs()?.max_all()?.to_scalar::<f32>()?;
    let after = |t: usize| -> Outcome<f32> {
        Ok(largest_difference(&run.logits.get(t - 1)?, &reading)? / scale)
    };
    Ok([after(10)?, after(400)?])
}

/// A reading is what the network's logits tend to over a long window: that of rates always, that of ReLUs where
/// thresholds lie above every activation, so that no neuron need fire more than once a step.
#[test]
fn readings_are_limits_of_long_windows() -> Outcome<()> {
    let images = images()?;
    for source in [
        network(true, Seed::new(6))?,
        residual(true, Seed::new(6))?,
        unbroken(true, Seed::new(6))?,
    ] {
        for (share, clipped) in [(1.1, false), (0.4, true)] {
            let spiking = converted(&source, &images, share)?;
            let [soon, late] = distances(&spiking, &rate_reading(&spiking)?, &images)?;
            assert!(late < 0.05 && late < 0.3 * soon, "{share}: {soon} {late}");
            let [soon, late] = distances(&spiking, &relu_reading(&spiking)?, &images)?;
            match clipped {
                false => assert!(late < 0.05 && late < 0.3 * soon, "{soon} {late}"),
                true => assert!(late > 0.1, "{late}"),
            }
        }
    }
    Ok(())
}

/// Channel-wise thresholds are in the weights of the reading of rates.
#[test]
fn rates_of_channels_are_read() -> Outcome<()> {
    let images = images()?;
    for source in sources()? {
        let spiking = per_channel(&source, Seed::new(7))?;
        // thresholds so high that nothing is clipped
        let lifted = spiking
            .thresholds()
            .iter()
            .map(|(&index, threshold)| Ok((index, (threshold * 10.0)?)))
            .collect::<Outcome<BTreeMap<_, _>>>()?;
        let lifted = SpikingNetwork::new(
            spiking.topology().clone(),
            spiking.parameters().clone(),
            lifted,
            *spiking.settings(),
        )?;
        let expected = relu_reading(&lifted)?.forward(&images, Mode::Inference)?;
        let got = rate_reading(&lifted)?.forward(&images, Mode::Inference)?;
        let scale = expected.abs()?.max_all()?.to_scalar::<f32>()?;
        let difference = largest_difference(&expected, &got)?;
        assert!(difference < 0.02 * scale, "{difference} of {scale}");
    }
    Ok(())
}

#[test]
fn changed_weights_are_measured() -> Outcome<()> {
    let source = network(false, Seed::new(5))?;
    let mut tensors: BTreeMap<String, Tensor> = source.parameters().tensors().clone();
    let first = source.topology().weighted()[0];
    let name = format!("{first}.weight");
    tensors.insert(name.clone(), (&tensors[&name] * 1.25)?);
    let last = *source
        .topology()
        .weighted()
        .last()
        .expect("a network has weights");
    let name = format!("{last}.weight");
    tensors.insert(name.clone(), tensors[&name].neg()?);
    let after = Ann::new(
        source.topology().clone(),
        snn_core::Parameters::new(source.topology(), tensors)?,
    );
    let changes = weight_change_by_layer(&source, &after)?;
    let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(names, ["conv1", "conv2", "linear1", "linear2"]);
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(close(changes[0].relative, 0.25) && close(changes[0].cosine, 1.0));
    assert!(close(changes[1].relative, 0.0));
    assert!(close(changes[3].relative, 2.0) && close(changes[3].cosine, -1.0));

    let other = network(true, Seed::new(5))?;
    assert!(weight_change_by_layer(&source, &other).is_err());
    Ok(())
}

#[test]
fn a_released_file_can_be_read() -> Outcome<()> {
    let source = network(true, Seed::new(9))?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("released.safetensors");
    per_channel(&source, Seed::new(7))?.save(&path)?;
    let reading = relu_reading(&SpikingNetwork::load(&path, &Device::Cpu)?)?;
    let images = images()?;
    let (a, b) = (
        source.forward(&images, Mode::Inference)?,
        reading.forward(&images, Mode::Inference)?,
    );
    assert!(largest_difference(&a, &b)? < 1e-5);
    Ok(())
}

/// No weight could hold the thresholds of a population of pixels.
#[test]
fn rates_of_a_population_without_weights_are_refused() -> Outcome<()> {
    let spiking = per_layer(&unfed(Seed::new(3))?, &[0.25])?;
    let message = rate_reading(&spiking).unwrap_err().to_string();
    assert!(message.contains("layer 0"), "{message}");
    Ok(())
}
