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

/// A name out of a file as it may stand in a message: quoted, control characters escaped, and cut
/// when it is absurdly long.
pub(super) fn quoted(name: &str) -> String {
    const LONGEST: usize = 120;
    match name.char_indices().nth(LONGEST) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}...", &name[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_are_one_short_line_of_printable_characters() {
        assert_eq!(quoted("fc.weight"), "\"fc.weight\"");
        assert_eq!(quoted("a\n\x1b[31mb\0"), r#""a\n\u{1b}[31mb\0""#);
        assert_eq!(quoted(&"ü".repeat(200)).chars().count(), 120 + 5);
    }
}
