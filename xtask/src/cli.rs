//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What `cargo xtask` was asked to do.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "private-snn from the command line: run experiments, fetch their data, check the code",
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    after_help = "Start with: cargo xtask reproduce glyphs\n\
                  Experiments live in data/experiments, one file each; `cargo xtask list` shows them.\n\
                  A stage first runs those before it, unless their results are there.\n\
                  `cargo xtask VERB --help` shows the arguments of a verb."
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
    /// Train the source network (stage 0)
    Train(Run),
    /// Make synthetic images from the network alone (stage 1)
    Synth(Run),
    /// Convert the network to a spiking one (stage 2)
    Convert(Run),
    /// Train the spiking network on the synthetic images (stage 3)
    Encrypt(Run),
    /// Measure the spiking networks on the validation images, for choosing settings without the test set
    Validate(Run),
    /// Attack the networks and measure what leaks (stage 4)
    Attack(Run),
    /// Compare settings on the validation images: a search of data/sweeps
    Sweep(Sweep),
    /// Write the report of an experiment; without one, all results side by side (docs/RESULTS.md, README, a page)
    Report(Plain),
    /// List the experiments: the data they need, the time they take, what is computed already
    List(Plain),
    /// Download the data set of an experiment, check it and unpack it
    Fetch(Fetch),
    /// Run everything that must pass before a change lands, cheapest first (CI runs this)
    Check {
        /// Stop before the tests: format, the tree's own rules, clippy
        #[arg(long)]
        fast: bool,
    },
    /// Time the kernels and whole networks
    Bench(Bench),
}

impl Verb {
    /// The verb as it is typed.
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Reproduce(_) => "reproduce",
            Verb::Train(_) => "train",
            Verb::Synth(_) => "synth",
            Verb::Convert(_) => "convert",
            Verb::Encrypt(_) => "encrypt",
            Verb::Validate(_) => "validate",
            Verb::Attack(_) => "attack",
            Verb::Sweep(_) => "sweep",
            Verb::Report(_) => "report",
            Verb::List(_) => "list",
            Verb::Fetch(_) => "fetch",
            Verb::Check { .. } => "check",
            Verb::Bench(_) => "bench",
        }
    }
}

/// A verb on one experiment.
#[derive(Debug, Args)]
#[command(
    after_help = "All arguments after EXPERIMENT go to the program, for example\n  \
    --profile P  --seed S  --set KEY=VALUE  --rehearse  --data-dir DIR\n\
    A data set that is missing is downloaded first. `-- --help` shows the program's own help."
)]
pub struct Run {
    /// Name of a file in data/experiments, without .toml, or the path of a .toml file
    pub experiment: String,
    /// The rest.
    #[command(flatten)]
    pub rest: Plain,
}

/// A search over the settings of an experiment.
#[derive(Debug, Args)]
#[command(
    after_help = "All arguments after FILE go to the program, for example\n  \
    --shard i/n  --merge JSON...  --set KEY=VALUE  --data-dir DIR\n\
    A data set that is missing is downloaded first. `-- --help` shows the program's own help."
)]
pub struct Sweep {
    /// Name of a file in data/sweeps, without .toml, or the path of a .toml file
    pub file: String,
    /// The rest.
    #[command(flatten)]
    pub rest: Plain,
}

/// What is handed to the program as it is.
#[derive(Debug, Args)]
pub struct Plain {
    /// Cargo features to build the program with, for example cuda,cudnn
    #[arg(long, value_name = "LIST")]
    pub features: Option<String>,
    /// Handed to the program as they are
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pub args: Vec<OsString>,
}

/// Arguments of `fetch`.
#[derive(Debug, Args)]
#[command(
    after_help = "--profile, --seed, --rehearse and --set are those of `reproduce`, so that one line serves both; only \
                  --set dataset=NAME\nchanges what is fetched."
)]
pub struct Fetch {
    /// An experiment (a name in data/experiments or the path of a .toml file) or a data set of data/checksums.toml
    #[arg(value_name = "EXPERIMENT|DATASET")]
    pub name: String,
    /// Accepted and not needed: the data set is the same for all profiles
    #[arg(long, value_name = "P")]
    pub profile: Option<String>,
    /// Accepted and not needed: the data set is the same for all seeds
    #[arg(long, value_name = "S")]
    pub seed: Vec<String>,
    /// Accepted and not needed
    #[arg(long)]
    pub rehearse: bool,
    /// A setting of the experiment; dataset=NAME fetches that data set instead
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of the experiment files [default: data/experiments]
    #[arg(long, value_name = "DIR")]
    pub experiments: Option<PathBuf>,
    /// Where the data set's folder goes [default: data/raw]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A mirror: address of the archive, or of the folder when a data set has several files
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Write the estimates to benches/records/DATE-HOST/, merged with those of the same day, machine and revision
    #[arg(long)]
    pub record: bool,
    /// Name of the machine in the record [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Cargo features to build the benches with, for example cuda,cudnn
    #[arg(long, value_name = "LIST")]
    pub features: Option<String>,
    /// Compare with PyTorch, SpikingJelly and stock candle instead, and record it there
    #[arg(long, conflicts_with_all = ["record", "features", "args"])]
    pub peers: bool,
    /// Write the newest comparisons into the table of README.md; no bench runs
    #[arg(long, conflicts_with_all = ["record", "host", "features", "peers", "args"])]
    pub readme: bool,
    /// How the peers are compared with
    #[command(flatten)]
    pub with_peers: Peers,
    /// Arguments for criterion, after --, for example a filter
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

/// Arguments of `bench --peers`.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --peers")]
pub struct Peers {
    /// Threads of each process [default: all cores]
    #[arg(long, value_name = "N", requires = "peers", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Write the record to this file, too
    #[arg(long, value_name = "FILE", requires = "peers")]
    pub json: Option<PathBuf>,
    /// Only the cases with this in their names
    #[arg(long, value_name = "SUBSTRING", requires = "peers")]
    pub only: Option<String>,
    /// Timed repetitions of each side, at least 5
    #[arg(long, value_name = "R", requires = "peers", default_value_t = 7)]
    pub repetitions: usize,
    /// A Python that has the peers [default: that of the environment PRIVATE_SNN_PEERS, else one is made]
    #[arg(long, value_name = "PATH", requires = "peers")]
    pub peers_python: Option<PathBuf>,
    /// A spiking network that the program has saved, to be compared on images of CIFAR-10
    #[arg(long, value_name = "FILE", requires = "peers")]
    pub network: Option<PathBuf>,
    /// Where the data sets are [default: data/raw]
    #[arg(long, value_name = "DIR", requires = "peers")]
    pub data_dir: Option<PathBuf>,
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
    fn arguments_after_the_experiment_pass_verbatim() {
        let cli = Cli::parse_from([
            "xtask",
            "reproduce",
            "glyphs",
            "--seed",
            "3",
            "--set",
            "ann.epochs=2",
            "--",
            "-x",
        ]);
        let Verb::Reproduce(run) = cli.verb else {
            panic!("not reproduce")
        };
        assert_eq!(run.experiment, "glyphs");
        assert_eq!(
            run.rest.args,
            ["--seed", "3", "--set", "ann.epochs=2", "--", "-x"]
        );
    }

    #[test]
    fn fetch_takes_the_line_of_reproduce() {
        let line = "xtask fetch glyphs --profile cpu --seed 1,2 --seed 3 --set ann.epochs=2 --set dataset=mnist";
        let Verb::Fetch(fetch) = Cli::parse_from(line.split(' ')).verb else {
            panic!("not fetch")
        };
        assert_eq!(fetch.name, "glyphs");
        assert_eq!(fetch.set, ["ann.epochs=2", "dataset=mnist"]);
    }

    #[test]
    fn an_experiment_is_required() {
        assert!(Cli::try_parse_from(["xtask", "train"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "train", "--seed", "3"]).is_err());
    }
}
