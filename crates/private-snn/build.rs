//! Versions of the compiler and of candle, for the provenance of results.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC")
        .and_then(|rustc| Command::new(rustc).arg("--version").output().ok())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    if let Some(version) = rustc.as_deref().and_then(|text| text.split(' ').nth(1)) {
        println!("cargo:rustc-env=RUSTC_VERSION={version}");
    }
    let home = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let lock = Path::new(&home).join("../../Cargo.lock");
    // without a lock file (another workspace's dependency) the version is left out
    let Ok(text) = std::fs::read_to_string(&lock) else {
        return;
    };
    println!("cargo:rerun-if-changed={}", lock.display());
    let version = text
        .split("name = \"candle-core\"\nversion = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    if let Some(version) = version {
        println!("cargo:rustc-env=CANDLE_VERSION={version}");
    }
}
