//! What can go wrong when a data set is read.

use std::path::{Path, PathBuf};

use super::{PreprocessingError, ShiftError};

/// Why a data set cannot be used; every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No data set has this name.
    #[error("unknown data set '{name}'; known are {known}")]
    UnknownName {
        /// Name as given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// What follows the `+` in the name of a data set is no shift.
    #[error("data set '{name}': {source}")]
    Shift {
        /// Name as given.
        name: String,
        /// What is wrong with it.
        source: ShiftError,
    },
    /// The data set lies in files, and no directory was given.
    #[error(
        "{dataset} is read from files: {advice}, and name that directory with --data-dir or WEIGHTSPACE_DATA"
    )]
    NoDirectory {
        /// Name of the data set.
        dataset: &'static str,
        /// What to get and where to put it.
        advice: String,
    },
    /// A file is not where it should be.
    #[error("{dataset}: {} not found; {advice}, or set --data-dir / WEIGHTSPACE_DATA", path.display())]
    Missing {
        /// Name of the data set.
        dataset: &'static str,
        /// Where the file was looked for.
        path: PathBuf,
        /// What to get and where to put it.
        advice: String,
    },
    /// A file or folder exists but cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The contents of a file or folder are not what the format says.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// Parts of a data set do not fit each other.
    #[error("data set {dataset}: {problem}")]
    Inconsistent {
        /// Name of the data set.
        dataset: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A preprocessing that does not exist or does not fit the images.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
}

impl DataError {
    pub(super) fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        DataError::Malformed { path: path.to_owned(), problem: problem.into() }
    }

    /// For `map_err` on an operation on `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| DataError::Io { path: path.to_owned(), source }
    }
}
