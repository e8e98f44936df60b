//! What can go wrong in this crate.

use std::path::PathBuf;

/// What can go wrong while a data set is loaded, drawn or split.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the set is not there.
    #[error("{} is missing: fetch it with `cargo xtask fetch {set}`, or name the folder that holds it with --data-dir", path.display())]
    Missing {
        /// The file or folder looked for.
        path: PathBuf,
        /// The set it belongs to.
        set: String,
    },
    /// The operating system refused to read a file.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file being read.
        path: PathBuf,
        /// The system's own message.
        source: std::io::Error,
    },
    /// A file is shorter or longer than its format says.
    #[error("{} has {actual} bytes where {expected} are expected: it is truncated or not the file its name says; delete it and fetch it again", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes that belong there.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// A file of fixed-size records ends inside a record, or holds none.
    #[error("{} has {actual} bytes, which is not a whole, positive number of {record}-byte records: it is truncated; delete it and fetch it again", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// Bytes of one record.
        record: usize,
        /// Bytes found.
        actual: u64,
    },
    /// The bytes are not those of the official file.
    #[error("{} is corrupted: its sha256 is {actual}, the official file's is {expected}; delete it and fetch it again", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Sum of the official file.
        expected: String,
        /// Sum found.
        actual: String,
    },
    /// The bytes are those of another file of the same set.
    #[error("{} holds the bytes of {holds}: the files were swapped or renamed; rename it or fetch the set again", path.display())]
    Swapped {
        /// The file.
        path: PathBuf,
        /// Name of the official file with these bytes.
        holds: String,
    },
    /// A label is not below the number of classes.
    #[error("{}: record {record} has label {label}, but there are {classes} classes", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// Number of the record, from 0.
        record: usize,
        /// The label read.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// The content of a file breaks its format.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The folder of a class holds no image.
    #[error("class {class} has no image in {}: fetch the set again", path.display())]
    EmptyClass {
        /// The folder looked into.
        path: PathBuf,
        /// The class.
        class: String,
    },
    /// An argument is outside its domain.
    #[error("{name}: {message}")]
    Argument {
        /// The argument's name.
        name: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// No data set has this name.
    #[error(
        "unknown data set {0:?}: one of glyphs, cifar10, cifar100, tinyimagenet, mnist, fashion-mnist is expected"
    )]
    UnknownKind(String),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn argument(name: &'static str, message: impl Into<String>) -> Self {
        Self::Argument {
            name,
            message: message.into(),
        }
    }
}
