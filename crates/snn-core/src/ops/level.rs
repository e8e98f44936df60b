//! Which vector instructions the kernels may use.

use std::sync::OnceLock;

/// Numbers of the widest vectors: 16 (`avx512`), 8 (`avx2`) or 4 (`portable`) if the variable `SNN_INSTRUCTIONS` names
/// one of these, else any. What the processor lacks is never used.
pub(crate) fn widest_lanes() -> usize {
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| match std::env::var("SNN_INSTRUCTIONS").as_deref() {
        Ok("portable") => 4,
        Ok("avx2") => 8,
        _ => 16,
    })
}

/// The first of `all`, the widest first, whose vectors may be used.
pub(crate) fn best<T>(all: Vec<&'static T>, lanes: impl Fn(&T) -> usize) -> &'static T {
    let allowed = all.into_iter().find(|set| lanes(set) <= widest_lanes());
    allowed.expect("the last set is for every processor")
}
