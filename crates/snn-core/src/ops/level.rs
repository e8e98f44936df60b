//! Which vector instructions the kernels may use.

use std::sync::OnceLock;

use crate::{Error, Result};

/// Numbers of the widest vectors, as soon as anyone has asked.
static LANES: OnceLock<usize> = OnceLock::new();

/// Bounds the instructions of all kernels of the process: `avx512`, `avx2` or `portable`. What the processor lacks is never
/// used.
///
/// # Errors
/// Another name; a kernel that has run already, with the widest instructions of the processor.
pub fn limit_instructions(widest: &str) -> Result<()> {
    let fail = |message: &str| Err(Error::argument("instructions", message));
    let lanes = match widest {
        "avx512" => 16,
        "avx2" => 8,
        "portable" => 4,
        other => return fail(&format!("needs avx512, avx2 or portable, got {other:?}")),
    };
    match LANES.set(lanes) {
        Ok(()) => Ok(()),
        Err(_) => fail("were chosen already: set the bound before the first kernel runs"),
    }
}

/// Numbers of the widest vectors that may be used.
pub(crate) fn widest_lanes() -> usize {
    *LANES.get_or_init(|| 16)
}

/// The first of `all`, the widest first, whose vectors may be used.
pub(crate) fn best<T>(all: Vec<&'static T>, lanes: impl Fn(&T) -> usize) -> &'static T {
    let allowed = all.into_iter().find(|set| lanes(set) <= widest_lanes());
    allowed.expect("the last set is for every processor")
}
