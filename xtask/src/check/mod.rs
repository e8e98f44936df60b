//! Everything that must pass before a change lands, cheapest first. CI runs exactly this.

mod edges;
mod smoke;
mod source;
mod tidy;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::workspace::{Workspace, succeed};

/// One step: its name and what it runs.
struct Step {
    name: &'static str,
    run: fn(&Workspace) -> Result<()>,
    /// Part of the short form.
    fast: bool,
}

const STEPS: [Step; 6] = [
    Step {
        name: "format",
        run: format,
        fast: true,
    },
    Step {
        name: "rules of the tree",
        run: tidy::check,
        fast: true,
    },
    Step {
        name: "clippy",
        run: clippy,
        fast: true,
    },
    Step {
        name: "tests",
        run: tests,
        fast: false,
    },
    Step {
        name: "documentation",
        run: documentation,
        fast: false,
    },
    Step {
        name: "smoke experiment",
        run: smoke::check,
        fast: false,
    },
];

/// Runs the steps and stops at the first that fails.
pub fn run(workspace: &Workspace, fast: bool) -> Result<ExitCode> {
    let steps: Vec<&Step> = STEPS.iter().filter(|step| step.fast || !fast).collect();
    for (passed, step) in steps.iter().enumerate() {
        println!("== {}/{} {}", passed + 1, steps.len(), step.name);
        let start = Instant::now();
        let result = (step.run)(workspace);
        let seconds = start.elapsed().as_secs_f64();
        if let Err(error) = result {
            println!("== {}: FAILED after {seconds:.1} s", step.name);
            eprintln!("error: {}: {error:#}", step.name);
            println!("{passed} passed, 1 failed");
            return Ok(ExitCode::FAILURE);
        }
        println!("== {}: passed in {seconds:.1} s", step.name);
    }
    println!("{} passed, 0 failed", steps.len());
    Ok(ExitCode::SUCCESS)
}

fn format(workspace: &Workspace) -> Result<()> {
    succeed(&mut workspace.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    succeed(&mut workspace.cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn tests(workspace: &Workspace) -> Result<()> {
    succeed(&mut workspace.cargo(&["test", "--workspace"]))
}

fn documentation(workspace: &Workspace) -> Result<()> {
    let mut cargo = workspace.cargo(&["doc", "--workspace", "--no-deps"]);
    succeed(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}
