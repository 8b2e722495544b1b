//! What can be wrong with a zoo, in one line each.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use weightspace_core::CheckpointError;
use weightspace_nn::lanes::LaneError;
use weightspace_nn::train::TrainError;

use crate::workplace::WorkplaceError;

/// What can be wrong with a zoo. Every message is one line; those about files name the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZooError {
    /// A file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A description of a zoo makes no sense.
    #[error("{0}")]
    Description(String),
    /// The settings of a model are not ones that can be trained.
    #[error("{0}")]
    Spec(String),
    /// No model, or more than one, is meant.
    #[error("{}: {reason}", path.display())]
    NoSuchModel {
        /// The zoo.
        path: PathBuf,
        /// What was asked for.
        reason: String,
    },
    /// Models cannot be trained in lanes, or on these images.
    #[error(transparent)]
    Lanes(#[from] LaneError),
    /// A model cannot be trained alone, or on these images.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The folder of the work cannot be used.
    #[error(transparent)]
    Workplace(#[from] WorkplaceError),
    /// A picture cannot be drawn.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
}

impl ZooError {
    /// The system's error about a file.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> ZooError + '_ {
        move |source| ZooError::Io { path: path.to_owned(), source }
    }

    /// An error about the contents of a file.
    pub(super) fn malformed(path: &Path, reason: impl Display) -> ZooError {
        ZooError::Malformed { path: path.to_owned(), reason: reason.to_string() }
    }
}
