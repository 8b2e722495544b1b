//! What can be wrong with a `.wsp` file, in one line each.

use std::io;
use std::path::{Path, PathBuf};

/// What can be wrong with a `.wsp` file. Every message is one line and names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WspError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not a well-formed `.wsp` file.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// The tensors cannot be represented in a `.wsp` file.
    #[error("cannot write a .wsp file: {reason}")]
    Unwritable {
        /// What was given and what was expected.
        reason: String,
    },
}

impl WspError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        WspError::Io { path: path.to_owned(), source }
    }
}

/// Why bytes are refused, by a reader that does not know which file they came from.
#[derive(Debug)]
pub(crate) struct Reason(pub(crate) String);

impl Reason {
    /// The error about the file at `path`.
    pub(crate) fn at(self, path: &Path) -> WspError {
        WspError::Malformed { path: path.to_owned(), reason: self.0 }
    }
}

/// An `Err` of a [`Reason`] from a format string.
macro_rules! refuse {
    ($($message:tt)*) => {
        Err($crate::container::error::Reason(format!($($message)*)))
    };
}
pub(crate) use refuse;
