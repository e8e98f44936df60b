//! How work that takes long reports where it stands and is asked to stop.

use crate::{Error, Result};

/// Where a piece of long work stands.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is counted, such as `"epoch 3/10, batch"` or `"image"`.
    pub unit: String,
    /// How many are done.
    pub done: u64,
    /// How many there will be.
    pub total: u64,
    /// The figure of interest, such as `"loss 0.41"`; may be empty.
    pub note: String,
}

/// The watcher's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop at the next safe point: the work returns [`Error::Interrupted`].
    Stop,
}

/// Told of progress, answers whether to go on. Use [`silent`] where nobody watches.
pub type Watch<'a> = dyn FnMut(&Progress) -> Flow + 'a;

/// A watcher that never stops anything.
pub fn silent(_: &Progress) -> Flow {
    Flow::Continue
}

/// Tells the watcher, and turns its wish to stop into an error.
///
/// # Errors
/// [`Error::Interrupted`] where the watcher wishes to stop.
pub fn report(
    watch: &mut Watch,
    unit: impl Into<String>,
    done: u64,
    total: u64,
    note: impl Into<String>,
) -> Result<()> {
    let progress = Progress {
        unit: unit.into(),
        done,
        total,
        note: note.into(),
    };
    match watch(&progress) {
        Flow::Continue => Ok(()),
        Flow::Stop => Err(Error::Interrupted),
    }
}
