//! What can be wrong with a checkpoint, in one line each.

use std::io;
use std::path::{Path, PathBuf};

/// What can be wrong with a checkpoint. Every message is one line and names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not a well-formed checkpoint, or one that cannot be represented.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// The tensors given to a writer are not the ones that were announced, or not writable.
    #[error("cannot write {}: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What was given and what was expected.
        reason: String,
    },
    /// The checkpoint has no tensor of that name.
    #[error("{}: no tensor is named {}", path.display(), quoted(name))]
    NoSuchTensor {
        /// The file.
        path: PathBuf,
        /// The name that was asked for.
        name: String,
    },
}

impl CheckpointError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        CheckpointError::Io { path: path.to_owned(), source }
    }
}

/// Why bytes are refused, by a reader that does not know which file they came from.
#[derive(Debug)]
pub(super) struct Reason(pub(super) String);

impl Reason {
    /// The error about the file at `path`.
    pub(super) fn at(self, path: &Path) -> CheckpointError {
        CheckpointError::Malformed { path: path.to_owned(), reason: self.0 }
    }
}

/// A [`Reason`] from a format string.
macro_rules! reason {
    ($($message:tt)*) => {
        $crate::checkpoint::error::Reason(format!($($message)*))
    };
}
pub(super) use reason;

pub(super) use crate::text::quoted;
