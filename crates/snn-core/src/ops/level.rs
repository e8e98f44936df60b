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

/// Kernels compiled for several sets of instructions.
#[derive(Debug)]
pub(crate) struct Sets<T: 'static> {
    /// AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx512: &'static T,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    pub(crate) avx2: &'static T,
    /// For every processor.
    pub(crate) portable: &'static T,
}

impl<T> Sets<T> {
    /// All that this processor has, the widest first.
    pub(crate) fn all(&self) -> Vec<&'static T> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                all.push(self.avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(self.avx2);
            }
        }
        all.push(self.portable);
        all
    }

    /// The widest that this processor has and that may be used; `lanes` are the numbers of a vector.
    pub(crate) fn best(&self, lanes: impl Fn(&T) -> usize) -> &'static T {
        let widest = self
            .all()
            .into_iter()
            .find(|set| lanes(set) <= widest_lanes());
        widest.unwrap_or(self.portable)
    }
}
