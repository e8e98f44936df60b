//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What the program was asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "private-snn",
    version,
    about = "Spiking networks made without training data: every stage from training to attack",
    after_help = "Experiments live in data/experiments, one file each; `private-snn list` shows them.\n\
                  Start with: private-snn reproduce glyphs"
)]
pub struct Cli {
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// One verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run every stage of an experiment and write its report
    Reproduce(Run),
    /// Train the source network
    Train(Run),
    /// Make the synthetic images from the network alone (and what this needs)
    Synth(Run),
    /// Convert the network to a spiking one (and what this needs)
    Convert(Run),
    /// Go on training the spiking network on the synthetic images (and what this needs)
    Encrypt(Run),
    /// Measure the spiking networks on the validation images, for choosing settings without the test set (and what this
    /// needs)
    Validate(Run),
    /// Attack the networks and measure what leaks (and what this needs)
    Attack(Run),
    /// Search over settings (a grid, at random, one key at a time) and compare them on the validation images
    Sweep(Sweep),
    /// Write the report of an experiment from its finished stages; without an experiment, docs/RESULTS.md, the page of all
    /// results, the figures and the README's table from data/results
    Report(Report),
    /// List the experiments: data needed, time, what is already computed
    List(List),
}

/// Arguments of a verb that computes.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Name of a file in data/experiments, without .toml, or the path of a .toml file
    pub experiment: String,
    /// The rest.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `sweep`.
#[derive(Debug, Clone, Args)]
pub struct Sweep {
    /// Name of a file in data/sweeps, without .toml, or the path of a .toml file
    pub file: String,
    /// Only every n-th run, from the i-th on, i being 1 to n: one part of the sweep for each of n machines
    #[arg(long, value_name = "i/n")]
    pub shard: Option<String>,
    /// Compute nothing; join the result files of all shards
    #[arg(long, value_name = "JSON", num_args = 1.., conflicts_with = "shard")]
    pub merge: Vec<PathBuf>,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct Report {
    /// Name of a file in data/experiments, without .toml, or the path of a .toml file
    pub experiment: Option<String>,
    /// The rest.
    #[command(flatten)]
    pub options: Options,
}

/// Options of a verb on one experiment.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Profile of the experiment [default: paper on CUDA, cpu otherwise]
    #[arg(long, value_name = "P")]
    pub profile: Option<String>,
    /// Seeds, one run each
    #[arg(long, value_name = "S", value_delimiter = ',', default_value = "1")]
    pub seed: Vec<u64>,
    /// As few images, epochs and iterations as every stage takes, to see that a profile runs through before it is given
    /// hours; kept apart, in runs/EXPERIMENT/PROFILE-rehearsal
    #[arg(long)]
    pub rehearse: bool,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every verb that computes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Changes a setting of the experiment file, for example variants.modern.encrypt.epochs=3;
    /// encrypt.epochs=3 changes every variant
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of the data sets [default: data/raw]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceChoice,
    /// Number of threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where results go.
    #[command(flatten)]
    pub places: Places,
    /// How much is said.
    #[command(flatten)]
    pub loudness: Loudness,
}

/// Arguments of `list`.
#[derive(Debug, Clone, Args)]
pub struct List {
    /// Where results are.
    #[command(flatten)]
    pub places: Places,
    /// How much is said.
    #[command(flatten)]
    pub loudness: Loudness,
}

/// Folders.
#[derive(Debug, Clone, Args)]
pub struct Places {
    /// Root of runs/ and results/ [default: data]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folder of the experiment files [default: data/experiments here or in a folder above]
    #[arg(long, value_name = "DIR")]
    pub experiments: Option<PathBuf>,
}

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, Args)]
pub struct Loudness {
    /// Warnings and errors only
    #[arg(long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// More; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    /// CUDA if the program was built with it and there is one, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// CUDA, or an error
    Cuda,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seeds_come_as_a_list_or_one_by_one() {
        for line in [
            "x reproduce glyphs --seed 1,2,3",
            "x reproduce glyphs --seed 1 --seed 2,3",
        ] {
            let Verb::Reproduce(run) = Cli::parse_from(line.split(' ')).verb else {
                panic!("not reproduce")
            };
            assert_eq!(run.options.seed, [1, 2, 3]);
        }
    }
}
