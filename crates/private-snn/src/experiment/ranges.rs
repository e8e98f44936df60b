//! The ranges of an experiment's numbers, by key. They are checked on the tree of keys, before it becomes types, so that
//! the message can name the key as it is written and the range that is allowed.

use anyhow::{Result, bail};
use toml::Value;

/// The numbers allowed at a key. `key` is the end of the dotted key: `encrypt.timesteps` stands for every variant's.
struct Range {
    key: &'static str,
    low: f64,
    low_allowed: bool,
    high: f64,
}

const fn at_least(key: &'static str, low: f64, high: f64) -> Range {
    Range {
        key,
        low,
        low_allowed: true,
        high,
    }
}

const fn above(key: &'static str, low: f64, high: f64) -> Range {
    Range {
        key,
        low,
        low_allowed: false,
        high,
    }
}

/// Longest window: beyond it f32 sums of currents lose single spikes, and no one waits for it.
const STEPS: f64 = 4096.0;
const MANY: f64 = 1e7;

const RANGES: &[Range] = &[
    at_least("data.validation", 0.0, MANY),
    at_least("data.train_limit", 0.0, MANY),
    at_least("data.test_limit", 0.0, MANY),
    at_least("training.epochs", 1.0, 10_000.0),
    at_least("training.batch", 1.0, 65_536.0),
    above("training.learning_rate", 0.0, 10.0),
    at_least("training.label_smoothing", -10.0, 0.99),
    at_least("training.activity_penalty", 0.0, 1e6),
    above("network.width", 0.0, 16.0),
    at_least("network.hidden", 0.0, 65_536.0),
    at_least("network.levels", 0.0, 1_048_576.0),
    at_least("network.conv_dropout", 0.0, 0.99),
    at_least("network.hidden_dropout", 0.0, 0.99),
    at_least("synth.count", 1.0, MANY),
    at_least("synth.iterations", 1.0, 1e6),
    above("synth.learning_rate", 0.0, 10.0),
    above("synth.temperature", 0.0, 1e6),
    above("synth.dirichlet", 0.0, 1e6),
    at_least("synth.total_variation", 0.0, 1e6),
    at_least("synth.batch_norm_statistics", 0.0, 1e6),
    at_least("synth.jitter", 0.0, 64.0),
    at_least("synth.batch", 1.0, 65_536.0),
    at_least("generator.latent", 1.0, 65_536.0),
    at_least("generator.channels", 1.0, 65_536.0),
    at_least("generator.iterations", 1.0, 1e6),
    at_least("generator.warm_up", 0.0, 1e6),
    above("generator.learning_rate", 0.0, 10.0),
    above("generator.latent_learning_rate", 0.0, 10.0),
    at_least("convert.initial_membrane", 0.0, 0.999),
    at_least("convert.readout_delay", 0.0, STEPS),
    at_least("calibration_images", 0.0, MANY),
    at_least("convert.report_images", 0.0, MANY),
    at_least("convert.calibration_timesteps", 1.0, STEPS),
    at_least("convert.batch", 1.0, 65_536.0),
    at_least("encrypt.timesteps", 1.0, STEPS),
    at_least("encrypt.epochs", 1.0, 10_000.0),
    at_least("encrypt.batch", 1.0, 65_536.0),
    at_least("encrypt.micro_batch", 1.0, 65_536.0),
    above("encrypt.learning_rate", 0.0, 10.0),
    at_least("encrypt.distillation_weight", 0.0, 1.0),
    above("encrypt.distillation_temperature", 0.0, 1e6),
    at_least("evaluate.timesteps", 1.0, STEPS),
    at_least("evaluate.encrypted_timesteps", 1.0, STEPS),
    at_least("evaluate.windows", 1.0, STEPS),
    at_least("evaluate.images", 0.0, MANY),
    at_least("evaluate.long_windows", 1.0, STEPS),
    at_least("evaluate.long_images", 0.0, MANY),
    at_least("attack.images_per_class", 1.0, 100_000.0),
    at_least("attack.spike_images_per_class", 0.0, 100_000.0),
    at_least("attack.real_images", 0.0, MANY),
    at_least("ascent.iterations", 1.0, 1e6),
    at_least("ascent.batch", 1.0, 65_536.0),
    above("ascent.learning_rate", 0.0, 1e6),
    at_least("spike_gradient.timesteps", 1.0, STEPS),
];

impl Range {
    fn allows(&self, number: f64) -> bool {
        (number > self.low || self.low_allowed && number == self.low) && number <= self.high
    }

    fn text(&self) -> String {
        let low = if self.low_allowed { "from" } else { "above" };
        format!("{low} {} to {}", self.low, self.high)
    }
}

/// Checks every number of the tree whose key has a range.
///
/// # Errors
/// The first number outside its range, with its key and the range; a negative number at a key without a range is left
/// to the type it becomes.
pub fn check(tree: &Value) -> Result<()> {
    walk(tree, &mut Vec::new())
}

fn walk<'a>(value: &'a Value, path: &mut Vec<&'a str>) -> Result<()> {
    let number = match value {
        Value::Table(table) => {
            for (key, value) in table {
                path.push(key);
                walk(value, path)?;
                path.pop();
            }
            return Ok(());
        }
        Value::Array(items) => return items.iter().try_for_each(|item| walk(item, path)),
        Value::Integer(number) => *number as f64,
        Value::Float(number) => *number,
        _ => return Ok(()),
    };
    let key = path.join(".");
    let range = RANGES
        .iter()
        .find(|range| key == range.key || key.ends_with(&format!(".{}", range.key)));
    match range {
        Some(range) if !range.allows(number) => bail!("{key} = {value}: must be {}", range.text()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        check(&Value::Table(text.parse().unwrap()))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_number_outside_its_range_is_named_with_the_range() {
        for steps in ["0", "-4", "5000"] {
            let message = message(&format!("[variants.a.encrypt]\ntimesteps = {steps}"));
            assert!(
                message.contains("variants.a.encrypt.timesteps"),
                "{message}"
            );
            assert!(
                message.contains(steps) && message.contains("from 1 to 4096"),
                "{message}"
            );
        }
        assert!(
            message("[variants.a.evaluate]\nwindows = [1, 0]").contains("evaluate.windows = 0")
        );
        assert!(message("[variants.a.synth]\nlearning_rate = nan").contains("above 0"));
        assert!(message("[variants.a.synth]\nlearning_rate = 0").contains("above 0"));
    }

    #[test]
    fn the_ends_that_are_allowed_are_allowed() {
        let text =
            "[data]\ntest_limit = 0\n[variants.a.encrypt]\ntimesteps = 4096\nlearning_rate = 10.0";
        check(&Value::Table(text.parse().unwrap())).unwrap();
    }
}
