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
    /// The file is to be decoded with a base that was not given.
    #[error(
        "{}: needs the base model with content hash {}: give it with --base",
        path.display(),
        hex(hash)
    )]
    MissingBase {
        /// The file.
        path: PathBuf,
        /// The content hash of the base.
        hash: [u8; 32],
    },
    /// Another base than the file needs was given.
    #[error(
        "{}: needs the base model with content hash {}, not the one given, of hash {}",
        path.display(),
        hex(expected),
        hex(found)
    )]
    WrongBase {
        /// The file.
        path: PathBuf,
        /// The content hash that the file names.
        expected: [u8; 32],
        /// That of the base that was given.
        found: [u8; 32],
    },
    /// The file is to be decoded with a key that was not given.
    #[error("{}: its key is not in the file: give it with --key-file", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
    },
    /// The tensors cannot be represented in a `.wsp` file.
    #[error("cannot write a .wsp file: {reason}")]
    Unwritable {
        /// What was given and what was expected.
        reason: String,
    },
}

/// The first half of a hash, which is what listings show.
fn hex(hash: &[u8; 32]) -> String {
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
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
