//! The runs of a sweep, all of them resolved before any is computed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use snn_core::rng::Seed;
use toml::Value;

use super::file::{Choice, Range, Scale, Search, Sweep};
use crate::experiment::{Experiment, ExperimentFile};

/// More runs than anyone waits for: a slip in the file.
pub(super) const MOST_RUNS: usize = 100_000;

/// The run of a search of kind `each` that changes none of its keys, in words.
pub const NONE_CHANGED: &str = "no key changed";

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Number, from 0.
    pub index: usize,
    /// Seed of its stages.
    pub seed: u64,
    /// The value of each key.
    pub assignments: BTreeMap<String, Value>,
}

/// A run and its settings.
#[derive(Debug)]
pub struct Planned {
    /// The run.
    pub run: Run,
    /// What it computes.
    pub experiment: Experiment,
}

impl Run {
    /// Number in words: the first run is run 1.
    pub fn number(&self) -> usize {
        self.index + 1
    }

    /// The run in words.
    pub fn label(&self) -> String {
        let assignments = self.assignments.iter().map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            value => format!("{key}={value}"),
        });
        let mut parts: Vec<String> = assignments.collect();
        if parts.is_empty() {
            parts.push(NONE_CHANGED.into());
        }
        format!("{}, seed {}", parts.join(", "), self.seed)
    }
}

/// All runs in order, and the experiment without any key of the search.
///
/// # Errors
/// Settings that the experiment does not allow, with the run; keys that would change the data set between runs; too many
/// runs.
pub fn plan(sweep: &Sweep, file: &ExperimentFile) -> Result<(Experiment, Vec<Planned>)> {
    let resolve = |set: &[String]| file.resolve_variant(&sweep.profile, &sweep.variant, set);
    let base = resolve(&sweep.set)?;
    let mut planned = Vec::new();
    for run in runs(sweep, |key| base.setting(key))? {
        let assignments = run.assignments.iter();
        let set: Vec<String> = sweep
            .set
            .iter()
            .cloned()
            .chain(assignments.map(|(key, value)| format!("{key}={value}")))
            .collect();
        let experiment =
            resolve(&set).with_context(|| format!("run {} ({})", run.number(), run.label()))?;
        for (key, same) in [
            ("name", experiment.name == base.name),
            ("dataset", experiment.dataset == base.dataset),
            ("data", experiment.data == base.data),
        ] {
            if !same {
                bail!(
                    "keys: `{key}` must be the same in all runs, which are compared on the same images; put it into `set`"
                );
            }
        }
        planned.push(Planned { run, experiment });
    }
    Ok((base, planned))
}

/// The runs: seeds change fastest, then the last key. `present` is the experiment's value at a key.
fn runs(sweep: &Sweep, present: impl Fn(&str) -> Option<Value>) -> Result<Vec<Run>> {
    let points = match sweep.search {
        Search::Grid {} => grid(&sweep.keys)?,
        Search::Each {} => each(&sweep.keys)?,
        Search::Random { runs, seed } => {
            check_count(Some(runs))?;
            (0..runs)
                .map(|point| draw(&sweep.keys, seed, point, &present))
                .collect::<Result<_>>()?
        }
    };
    check_count(points.len().checked_mul(sweep.seeds.len()))?;
    let pairs = points
        .iter()
        .flat_map(|point| sweep.seeds.iter().map(move |&seed| (point, seed)));
    Ok(pairs
        .enumerate()
        .map(|(index, (point, seed))| Run {
            index,
            seed,
            assignments: point.clone(),
        })
        .collect())
}

fn check_count(count: Option<usize>) -> Result<()> {
    match count {
        Some(count) if count <= MOST_RUNS => Ok(()),
        _ => bail!("the search has more than {MOST_RUNS} runs; take fewer values or seeds"),
    }
}

fn listed<'a>(key: &str, choice: &'a Choice) -> Result<&'a [Value]> {
    match choice {
        Choice::Values(values) => Ok(values),
        Choice::Range(_) => bail!("keys: {key:?}: needs a list of values"),
    }
}

/// Nothing assigned, then one key at a time.
fn each(keys: &BTreeMap<String, Choice>) -> Result<Vec<BTreeMap<String, Value>>> {
    let mut points = vec![BTreeMap::new()];
    for (key, choice) in keys {
        let values = listed(key, choice)?.iter();
        points.extend(values.map(|value| BTreeMap::from([(key.clone(), value.clone())])));
    }
    Ok(points)
}

fn grid(keys: &BTreeMap<String, Choice>) -> Result<Vec<BTreeMap<String, Value>>> {
    let mut points = vec![BTreeMap::new()];
    for (key, choice) in keys {
        let values = listed(key, choice)?;
        check_count(points.len().checked_mul(values.len()))?;
        let longer = points.iter().flat_map(|point| {
            values.iter().map(move |value| {
                let mut point = point.clone();
                point.insert(key.clone(), value.clone());
                point
            })
        });
        points = longer.collect();
    }
    Ok(points)
}

/// Draw number `point`, which depends on the seed, the number and each key's own name and choice alone.
fn draw(
    keys: &BTreeMap<String, Choice>,
    seed: u64,
    point: usize,
    present: impl Fn(&str) -> Option<Value>,
) -> Result<BTreeMap<String, Value>> {
    let mut drawn = BTreeMap::new();
    for (key, choice) in keys {
        let seed = Seed::new(seed).derive("sweep").derive(key);
        let mut stream = seed.index(point as u64).stream();
        let value = match choice {
            // the list has been counted into memory, so that its length fits
            Choice::Values(values) => values[stream.below(values.len() as u32) as usize].clone(),
            Choice::Range(range) => match present(key) {
                Some(Value::Integer(_)) => {
                    whole(range, stream.uniform_f64()).with_context(|| format!("keys: {key:?}"))?
                }
                Some(_) => Value::Float(real(range, stream.uniform_f64())),
                None => bail!(
                    "keys: {key:?}: the experiment has no such setting, or no value there by which to tell whether whole \
                     numbers are meant; in that case give it one in `set`"
                ),
            },
        };
        drawn.insert(key.clone(), value);
    }
    Ok(drawn)
}

/// The number at `share` of a range, with the four significant digits that a table has room for.
fn real(range: &Range, share: f64) -> f64 {
    let Range { from, to, .. } = *range;
    let value = place(range.scale, from, to, share);
    let short = format!("{value:.3e}").parse().unwrap_or(value);
    short.clamp(from, to)
}

/// The whole number at `share` of a range, every one being as wide as the next.
fn whole(range: &Range, share: f64) -> Result<Value> {
    let Range { from, to, .. } = *range;
    if from.fract() != 0.0 || to.fract() != 0.0 {
        bail!("from = {from}, to = {to}: must be whole numbers, like the experiment's value");
    }
    let value = place(range.scale, from, to + 1.0, share).floor();
    Ok(Value::Integer(value.clamp(from, to) as i64))
}

fn place(scale: Scale, from: f64, to: f64, share: f64) -> f64 {
    match scale {
        Scale::Linear => from + share * (to - from),
        Scale::Log => (from.ln() + share * (to.ln() - from.ln())).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Reach;

    fn sweep(search: Search, keys: &[(&str, Choice)]) -> Sweep {
        Sweep {
            name: "mine".into(),
            title: "t".into(),
            experiment: "smoke".into(),
            profile: "cpu".into(),
            variant: "modern".into(),
            goal: Reach::Encrypt,
            seeds: vec![5, 3],
            set: Vec::new(),
            search,
            keys: keys
                .iter()
                .map(|(key, choice)| (key.to_string(), choice.clone()))
                .collect(),
        }
    }

    fn values(values: &[i64]) -> Choice {
        Choice::Values(values.iter().copied().map(Value::Integer).collect())
    }

    fn range(from: f64, to: f64, scale: Scale) -> Choice {
        Choice::Range(Range { from, to, scale })
    }

    fn file() -> ExperimentFile {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/experiments");
        ExperimentFile::read(folder.as_ref(), "smoke").unwrap()
    }

    #[test]
    fn keys_are_changed_one_at_a_time() {
        let keys = [("b", values(&[1, 2])), ("a", values(&[7]))];
        let runs = runs(&sweep(Search::Each {}, &keys), |_| None).unwrap();
        let labels: Vec<String> = runs.iter().map(Run::label).collect();
        let settings = ["no key changed", "a=7", "b=1", "b=2"];
        let expected = settings.map(|set| [5, 3].map(|seed| format!("{set}, seed {seed}")));
        assert_eq!(labels, expected.concat());
    }

    #[test]
    fn the_last_key_changes_fastest_and_seeds_faster_still() {
        let keys = [("b", values(&[1, 2])), ("a", values(&[7, 8]))];
        let runs = runs(&sweep(Search::Grid {}, &keys), |_| None).unwrap();
        let found: Vec<(usize, i64, i64, u64)> = runs
            .iter()
            .map(|run| {
                let of = |key: &str| run.assignments[key].as_integer().unwrap();
                (run.index, of("a"), of("b"), run.seed)
            })
            .collect();
        assert_eq!(found.len(), 8);
        assert_eq!(
            found[..5],
            [
                (0, 7, 1, 5),
                (1, 7, 1, 3),
                (2, 7, 2, 5),
                (3, 7, 2, 3),
                (4, 8, 1, 5)
            ]
        );
    }

    #[test]
    fn a_draw_depends_on_its_number_and_key_alone() {
        let rate = ("encrypt.learning_rate", range(1e-5, 1e-2, Scale::Log));
        let epochs = ("encrypt.epochs", range(1.0, 3.0, Scale::Linear));
        let list = ("evaluate.timesteps", values(&[4, 8]));
        let random = |runs| Search::Random { runs, seed: 1 };
        let present = |key: &str| match key {
            "encrypt.epochs" => Some(Value::Integer(2)),
            "encrypt.learning_rate" => Some(Value::Float(1e-4)),
            _ => None,
        };
        let of = |search, keys: &[(&str, Choice)]| runs(&sweep(search, keys), present).unwrap();
        let many = of(random(200), &[rate.clone(), epochs.clone(), list.clone()]);
        let few = of(random(3), &[rate.clone(), epochs, list]);
        assert_eq!(many[..6], few[..]);
        let alone = of(random(3), &[rate]);
        let mut low = 0;
        for (one, other) in many.iter().zip(&alone) {
            let key = "encrypt.learning_rate";
            assert_eq!(one.assignments[key], other.assignments[key]);
        }
        for run in &many {
            let rate = run.assignments["encrypt.learning_rate"].as_float().unwrap();
            assert!((1e-5..=1e-2).contains(&rate));
            assert_eq!(format!("{rate:.3e}").parse(), Ok(rate));
            low += usize::from(rate < 10f64.powf(-3.5));
            let epochs = run.assignments["encrypt.epochs"].as_integer().unwrap();
            assert!((1..=3).contains(&epochs));
        }
        // half of the logarithmic range
        assert!((120..=280).contains(&low), "{low} of {}", many.len());
        for epochs in 1..=3 {
            assert!(
                many.iter()
                    .any(|run| run.assignments["encrypt.epochs"] == Value::Integer(epochs))
            );
        }
        let other = of(
            Search::Random { runs: 3, seed: 2 },
            &[("encrypt.learning_rate", range(1e-5, 1e-2, Scale::Log))],
        );
        assert_ne!(other, alone);
        let unset = [("encrypt.micro_batch", range(1.0, 4.0, Scale::Linear))];
        let error = runs(&sweep(random(3), &unset), present).unwrap_err();
        assert!(error.to_string().contains("no value there"), "{error}");
    }

    #[test]
    fn every_sweep_of_the_project_can_be_planned() {
        let data: &std::path::Path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data").as_ref();
        let sweeps = std::fs::read_dir(data.join("sweeps")).unwrap();
        for path in sweeps.map(|entry| entry.unwrap().path()) {
            let name = path.to_str().unwrap();
            let (sweep, _) = Sweep::read(data, name, &[]).unwrap();
            assert_eq!(path.file_stem().unwrap(), sweep.name.as_str());
            let experiments = data.join("experiments");
            let file = ExperimentFile::read(&experiments, &sweep.experiment).unwrap();
            plan(&sweep, &file).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }

    #[test]
    fn an_integer_needs_whole_ends() {
        let keys = [("encrypt.epochs", range(1.5, 3.0, Scale::Linear))];
        let search = Search::Random { runs: 1, seed: 1 };
        let message = format!("{:#}", plan(&sweep(search, &keys), &file()).unwrap_err());
        assert!(
            message.contains("encrypt.epochs") && message.contains("whole"),
            "{message}"
        );
    }

    #[test]
    fn each_run_is_resolved_for_its_variant() {
        let text = |text: &str| Value::String(text.into());
        let keys = [
            ("encrypt.epochs", values(&[3])),
            (
                "convert.encoder",
                Choice::Values(vec![text("direct"), text("poisson")]),
            ),
        ];
        let mut sweep = sweep(Search::Grid {}, &keys);
        let schedule = "kind = 'step'\nmilestones = [0.5]\nfactor = 0.25";
        let schedule = Choice::Values(vec![Value::Table(schedule.parse().unwrap())]);
        sweep.keys.insert("ann.training.schedule".into(), schedule);
        sweep.set = vec!["synth.count=7".into()];
        let (base, planned) = plan(&sweep, &file()).unwrap();
        assert_eq!(base.variants["modern"].synth.count, 7);
        assert_eq!(planned.len(), 4);
        let (_, variant) = planned[3].experiment.headline_variant();
        assert_eq!((variant.synth.count, variant.encrypt.epochs), (7, 3));
        assert_eq!(
            planned[3].experiment.setting("convert.encoder"),
            Some(text("poisson"))
        );
        assert_eq!(
            planned[3]
                .experiment
                .setting("ann.training.schedule.factor"),
            Some(Value::Float(0.25))
        );
        let label = planned[3].run.label();
        assert!(
            label.ends_with(", convert.encoder=poisson, encrypt.epochs=3, seed 3"),
            "{label}"
        );
    }

    #[test]
    fn what_the_experiment_does_not_allow_is_named_with_the_run() {
        let message = |key: &str, value: Choice| {
            let sweep = sweep(Search::Grid {}, &[(key, value)]);
            format!("{:#}", plan(&sweep, &file()).unwrap_err())
        };
        let said = message("encrypt.epoch", values(&[2]));
        assert!(
            said.contains("run 1 (encrypt.epoch=2") && said.contains("there are: batch"),
            "{said}"
        );
        let said = message("encrypt.epochs", values(&[2, 0]));
        assert!(
            said.contains("run 3") && said.contains("from 1 to"),
            "{said}"
        );
        let said = message("variants.other.encrypt.epochs", values(&[2]));
        assert!(
            said.contains("`other`") && said.contains("modern"),
            "{said}"
        );
        let said = message("data.glyphs.train", values(&[50, 60]));
        assert!(said.contains("`data`") && said.contains("`set`"), "{said}");
        let mut unknown = sweep(Search::Grid {}, &[("encrypt.epochs", values(&[2]))]);
        unknown.variant = "paper".into();
        let said = format!("{:#}", plan(&unknown, &file()).unwrap_err());
        assert!(
            said.contains("\"paper\"") && said.contains("there are: modern"),
            "{said}"
        );
    }

    #[test]
    fn a_search_beyond_all_patience_is_refused() {
        let many = values(&(0..400).collect::<Vec<_>>());
        let keys = [("a", many.clone()), ("b", many)];
        let message = |search| {
            runs(&sweep(search, &keys), |_| None)
                .unwrap_err()
                .to_string()
        };
        assert!(message(Search::Grid {}).contains("100000 runs"));
        let random = Search::Random {
            runs: usize::MAX,
            seed: 1,
        };
        assert!(message(random).contains("100000 runs"));
    }
}
