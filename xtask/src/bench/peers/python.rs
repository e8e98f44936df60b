//! The Python that the peers run in.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::{Workspace, shown, succeed};

/// A folder of a virtual environment that has the peers.
pub const VARIABLE: &str = "PRIVATE_SNN_PEERS";

const REQUIREMENTS: &str = "benches/peers/requirements.txt";

/// The interpreter: the given one, that of the environment that [`VARIABLE`] names, or that of `target/peers`, which is
/// made if need be.
///
/// # Errors
/// An interpreter that is not there or lacks the peers; an environment that cannot be made.
pub fn find(workspace: &Workspace, given: Option<&Path>) -> Result<PathBuf> {
    let python = match (given, std::env::var_os(VARIABLE)) {
        (Some(given), _) => given.to_owned(),
        (None, Some(folder)) => interpreter(Path::new(&folder)),
        (None, None) => made(workspace)?,
    };
    let mut test = Command::new(&python);
    test.args(["-c", "import torch, spikingjelly"])
        .stdout(Stdio::null());
    succeed(&mut test).with_context(|| {
        format!(
            "{} does not have the peers of {REQUIREMENTS}: name one that has with --peers-python, or its environment's \
             folder with {VARIABLE}",
            python.display()
        )
    })?;
    Ok(python)
}

fn interpreter(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}

/// The environment below the target folder, made anew whenever the requirements have changed.
fn made(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target()?.join("peers");
    let python = interpreter(&folder);
    let file = workspace.path(REQUIREMENTS);
    let wanted = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    // written last, so that an environment that was not finished is made again
    let mark = folder.join("requirements.txt");
    if fs::read_to_string(&mark).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    println!(
        "making a Python environment for the peers in {} (several GB, some minutes; to use one that you have, set \
         {VARIABLE} to its folder)",
        folder.display()
    );
    let steps: [(OsString, Vec<OsString>); 2] = [
        (
            "python3".into(),
            vec!["-m".into(), "venv".into(), "--clear".into(), folder.into()],
        ),
        (
            python.clone().into(),
            vec![
                "-m".into(),
                "pip".into(),
                "install".into(),
                "--quiet".into(),
                "--requirement".into(),
                file.into(),
            ],
        ),
    ];
    for (program, words) in steps {
        let mut command = Command::new(program);
        command.args(words);
        let ran = succeed(&mut command);
        ran.with_context(|| {
            format!(
                "{}: is there a Python 3.11 or newer, and a network?",
                shown(&command)
            )
        })?;
    }
    fs::write(&mark, wanted).with_context(|| mark.display().to_string())?;
    Ok(python)
}

/// The version that the requirements pin for a package.
pub fn pinned(workspace: &Workspace, package: &str) -> Result<Option<String>> {
    let file = workspace.path(REQUIREMENTS);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(version(&text, package).map(str::to_owned))
}

fn version<'a>(requirements: &'a str, package: &str) -> Option<&'a str> {
    let mut lines = requirements.lines().map(str::trim);
    lines.find_map(|line| line.strip_prefix(package)?.strip_prefix("=="))
}

/// Refuses where the sides in Python are not to be found.
pub fn script(workspace: &Workspace) -> Result<PathBuf> {
    let script = workspace.path("benches/peers/side.py");
    if !script.is_file() {
        bail!("{} is missing", script.display());
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_version_is_read_off_the_requirements() {
        let text = "# peers\ntorchvision==0.1\ntorch==2.15.0\nnumpy\n";
        assert_eq!(version(text, "torch"), Some("2.15.0"));
        assert_eq!(version(text, "numpy"), None);
        assert_eq!(version(text, "scipy"), None);
    }

    #[cfg(unix)]
    #[test]
    fn an_interpreter_without_the_peers_is_refused() {
        let error = find(&Workspace::here(), Some(Path::new("/bin/false"))).unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains("--peers-python"), "{message}");
    }
}
