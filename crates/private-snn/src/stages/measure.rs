//! One variant measured without the test images, as far as asked: for `validate` and for sweeps.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::attack::{Attacked, Target, back_conversion, spike_gradient};
use super::validate::{self, ValidatedNetwork, ValidatedReading, ValidatedSource};
use super::{Context, convert, encrypt, leakage, synth, train};
use crate::experiment::{VariantConfig, within};
use crate::report::{Unguided, Unit, show};

/// How far a variant is computed and measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The converted networks.
    Convert,
    /// The encrypted network, too.
    Encrypt,
    /// And what attack A1 rebuilds from the encrypted network.
    Attack,
    /// And what attack A2 rebuilds from it.
    SpikeAttack,
}

impl Reach {
    /// Whether [`measure`] looks at a setting on the way, named without its variant: `encrypt.epochs`, `judge.network`.
    pub fn uses(self, setting: &str) -> bool {
        let under = |part| within(part, setting);
        let nowhere = [
            "evidence",
            "evaluate.images",
            "evaluate.long_windows",
            "evaluate.long_images",
        ];
        if nowhere.iter().any(|part| under(part)) {
            return false;
        }
        let first = if under("attack.spike_gradient") || under("attack.spike_images_per_class") {
            Self::SpikeAttack
        } else if under("attack") || under("judge") {
            Self::Attack
        } else if under("encrypt") || under("evaluate.encrypted_timesteps") {
            Self::Encrypt
        } else {
            Self::Convert
        };
        self >= first
    }
}

/// Figures of one variant; accuracies are shares of the validation images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measures {
    /// The source network.
    pub source: ValidatedSource,
    /// The data-free conversion.
    pub converted: ValidatedNetwork,
    /// The conversion with real images.
    pub converted_with_real_data: ValidatedNetwork,
    /// The encrypted network, if it was asked for.
    pub encrypted: Option<ValidatedNetwork>,
    /// Its weights.
    pub reading: Option<ValidatedReading>,
    /// What A1 rebuilt, if it was asked for.
    pub back_conversion: Option<Rebuilt>,
    /// What A2 rebuilt, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spike_gradient: Option<Rebuilt>,
}

/// The pictures that an attack rebuilt from the encrypted network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Share in which the judge sees their class.
    pub judge_top1: f64,
    /// Fréchet distance from real training images, on the judge's features.
    pub fid: f64,
    /// How many pictures, and how many of them had no gradient in most iterations; none in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unguided: Option<Unguided>,
}

impl Measures {
    /// The last spiking network that was reached: the encrypted one, or the converted one.
    pub fn last(&self) -> &ValidatedNetwork {
        self.encrypted.as_ref().unwrap_or(&self.converted)
    }

    /// The spiking networks that were measured, by name, in the order of the stages.
    pub fn networks(&self) -> impl Iterator<Item = (&'static str, &ValidatedNetwork)> {
        [
            ("converted", Some(&self.converted)),
            (
                "converted with real data",
                Some(&self.converted_with_real_data),
            ),
            ("encrypted", self.encrypted.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, network)| Some((name, network?)))
    }
}

/// Runs the stages of a variant up to `reach` and measures its networks on the validation images. The judge is only
/// trained for an attack.
///
/// # Errors
/// A data set without validation images; the first stage that fails. Everything finished before stays.
pub fn measure(
    ctx: &Context,
    name: &str,
    variant: &VariantConfig,
    reach: Reach,
) -> Result<Measures> {
    // before anything is computed
    validate::images(ctx.data, &ctx.experiment.name)?;
    let trained = train::train(ctx, Some(name), "train", &variant.ann)?;
    let synthetic = synth::synth(ctx, name, variant, &trained)?;
    let converted = convert::convert(ctx, name, variant, &trained, &synthetic)?;
    let control = convert::control(ctx, name, variant, &trained)?;
    let windows = variant.evaluate.windows_to(variant.evaluate.timesteps);
    let mut measures = Measures {
        source: validate::source(ctx, name, &trained)?,
        converted: validate::network(ctx, name, "converted", &converted, &windows)?,
        converted_with_real_data: validate::network(
            ctx,
            name,
            "converted-real",
            &control,
            &windows,
        )?,
        encrypted: None,
        reading: None,
        back_conversion: None,
        spike_gradient: None,
    };
    if reach < Reach::Encrypt {
        return Ok(measures);
    }
    let encrypted = encrypt::encrypt(ctx, name, variant, &converted, &synthetic)?;
    let windows = variant.evaluate.windows_to(variant.encrypted_timesteps());
    let network = validate::network(ctx, name, "encrypted", &encrypted, &windows)?;
    measures.encrypted = Some(network);
    measures.reading = Some(validate::reading(ctx, name, &converted, &encrypted)?);
    if reach < Reach::Attack {
        return Ok(measures);
    }
    let judge = train::train(ctx, None, "judge", &ctx.experiment.judge)?;
    let target = Target::Spiking("encrypted", &encrypted);
    let rebuilt = |attacked: Attacked| {
        let outcome = leakage::score(ctx, name, variant, &judge, &attacked)?;
        anyhow::Ok(Rebuilt {
            judge_top1: outcome.judge_top1,
            fid: outcome.fid,
            unguided: Some(Unguided {
                pictures: outcome.without_gradient as u64,
                of: outcome.samples as u64,
            }),
        })
    };
    let attacked = back_conversion(ctx, name, &variant.attack, &target)?;
    measures.back_conversion = Some(rebuilt(attacked)?);
    if reach < Reach::SpikeAttack {
        return Ok(measures);
    }
    let attacked = spike_gradient(ctx, name, &variant.attack, ("encrypted", &encrypted))?;
    measures.spike_gradient = Some(rebuilt(attacked)?);
    Ok(measures)
}

/// Prints what `validate` found.
pub fn print(name: &str, measures: &Measures) {
    println!(
        "{name}: accuracy on {} validation images: source {:.2} %",
        measures.source.images,
        measures.source.accuracy * 100.0
    );
    for (network, validated) in measures.networks() {
        if let Some(quoted) = validated.quoted() {
            println!(
                "{name}: {network} (T = {}) {:.2} %",
                quoted.timesteps,
                quoted.accuracy * 100.0
            );
        }
    }
    if let Some(reading) = &measures.reading {
        println!(
            "{name}: encrypted, its weights read as a ReLU network {}, as a network of rates {}; a layer's weights \
             changed by {:.2} % at most",
            show(Some(reading.accuracy), Unit::Percent),
            show(reading.rate_accuracy, Unit::Percent),
            reading.largest_weight_change * 100.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_later_stages_are_not_used() {
        let used = |reach: Reach| {
            let settings = [
                "convert.readout_delay",
                "encrypt.epochs",
                "evaluate.encrypted_timesteps",
                "judge",
                "attack.images_per_class",
                "attack.spike_images_per_class",
                "attack.spike_gradient.ascent",
            ];
            settings.iter().filter(|name| reach.uses(name)).count()
        };
        assert_eq!(used(Reach::Convert), 1);
        assert_eq!(used(Reach::Encrypt), 3);
        assert_eq!(used(Reach::Attack), 5);
        assert_eq!(used(Reach::SpikeAttack), 7);
        assert!(Reach::Convert.uses("encryption") && Reach::Convert.uses("evaluate.timesteps"));
        assert!(!Reach::SpikeAttack.uses("evaluate.long_images"));
    }
}
