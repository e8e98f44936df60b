//! One side of a comparison: does the work that it is told to, a repetition per line `run` on standard input. The sides
//! in Python, `benches/peers/side.py`, speak the same protocol; `cargo xtask bench --peers` speaks with both.
//!
//! ```text
//! bench-side SPECIFICATION FOLDER     SPECIFICATION is JSON, see `Specification`; inputs and outputs lie in FOLDER
//! bench-side compare FILE FILE        prints how far the tensors of two outputs are apart
//! ```

mod compare;
mod convolutions;
mod gradient;
mod inference;
mod memory;
mod neurons;
mod scaling;
mod training;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use serde::Deserialize;
use serde_json::{Value, json};

/// Seconds of the parts of a repetition by name.
type Parts = Vec<(String, f64)>;

/// Tensors by name.
type Tensors = BTreeMap<String, Tensor>;

/// What a side is asked to do.
#[derive(Debug, Deserialize)]
struct Specification {
    /// `ours`, or `candle` for candle's own operations.
    implementation: String,
    /// Whether this side writes the inputs; else it reads those of the other side.
    provider: bool,
    work: Kind,
}

/// Which work, with its sizes.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Conv2d(convolutions::Sizes),
    Neuron(neurons::Sizes),
    Bptt(training::Sizes),
    Ann(training::Sizes),
    Convert(inference::Converted),
    Network(inference::Stored),
    Scaling(scaling::Sizes),
}

/// Work in progress.
trait Work {
    /// One repetition.
    fn run(&mut self) -> Result<Parts>;

    /// What the work computes, for the comparison with the other side; not timed.
    fn outputs(&mut self) -> Result<Tensors>;

    /// Figures that go into the record, such as firing rates.
    fn figures(&mut self) -> Result<Value> {
        Ok(json!({}))
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["compare", a, b] => {
            println!("{}", compare::files(Path::new(a), Path::new(b))?);
            Ok(())
        }
        [specification, folder] => serve(
            &serde_json::from_str(specification).context("the specification")?,
            Path::new(folder),
        ),
        _ => bail!("usage: bench-side SPECIFICATION FOLDER, or bench-side compare FILE FILE"),
    }
}

fn prepare(specification: &Specification, folder: &Path) -> Result<Box<dyn Work>> {
    let inputs = Inputs {
        path: folder.join("inputs.safetensors"),
        provider: specification.provider,
    };
    let candle = specification.implementation == "candle";
    Ok(match &specification.work {
        Kind::Conv2d(sizes) => Box::new(convolutions::Convolutions::new(sizes, &inputs, candle)?),
        _ if candle => bail!("stock candle has no such work"),
        Kind::Neuron(sizes) => Box::new(neurons::Population::new(sizes, &inputs)?),
        Kind::Bptt(sizes) | Kind::Ann(sizes) => {
            Box::new(training::Training::new(sizes.clone(), inputs)?)
        }
        Kind::Convert(sizes) => Box::new(inference::Inference::converted(sizes, &inputs)?),
        Kind::Network(sizes) => Box::new(inference::Inference::stored(sizes, &inputs)?),
        Kind::Scaling(sizes) => Box::new(scaling::Scaling::new(sizes)?),
    })
}

fn serve(specification: &Specification, folder: &Path) -> Result<()> {
    let mut work = prepare(specification, folder)?;
    memory::release();
    let can_reset = memory::reset_peak();
    let before = memory::resident("VmRSS");
    answer(json!({ "versions": {} }))?;
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "run" => {
                let start = Instant::now();
                let parts = work.run()?;
                let seconds = start.elapsed().as_secs_f64();
                let parts: serde_json::Map<String, Value> = parts
                    .into_iter()
                    .map(|(name, seconds)| (name, seconds.into()))
                    .collect();
                answer(json!({ "seconds": seconds, "parts": parts }))?;
            }
            "report" => {
                let peak = memory::resident("VmHWM").filter(|_| can_reset);
                let figures = work.figures()?;
                answer(json!({ "before_mib": before, "peak_mib": peak, "figures": figures }))?;
            }
            "outputs" => {
                let path = folder.join(format!("{}.safetensors", specification.implementation));
                let outputs = work.outputs()?.into_iter().collect();
                candle_core::safetensors::save(&outputs, &path)?;
                answer(json!({ "written": path }))?;
            }
            other => bail!("no command {other:?}"),
        }
    }
    Ok(())
}

fn answer(value: Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// The file of inputs that both sides work on.
struct Inputs {
    path: PathBuf,
    provider: bool,
}

impl Inputs {
    /// Draws the inputs and writes them, or reads those of the other side.
    fn get(&self, draw: impl FnOnce() -> Result<Tensors>) -> Result<Tensors> {
        if !self.provider {
            return self.read();
        }
        let tensors = draw()?;
        let by_name = tensors.clone().into_iter().collect();
        candle_core::safetensors::save(&by_name, &self.path)?;
        Ok(tensors)
    }

    /// The inputs as they are on disk.
    fn read(&self) -> Result<Tensors> {
        let tensors = candle_core::safetensors::load(&self.path, &candle_core::Device::Cpu);
        let tensors = tensors.with_context(|| self.path.display().to_string())?;
        Ok(tensors.into_iter().collect())
    }
}

/// A tensor of a file, by name.
fn tensor(tensors: &Tensors, name: &str) -> Result<Tensor> {
    let tensor = tensors.get(name).cloned();
    tensor.with_context(|| format!("the inputs have no tensor `{name}`"))
}
