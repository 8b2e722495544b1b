//! What goes wrong with tokens and their autoencoder.

use std::path::PathBuf;

use weightspace_core::CheckpointError;
use weightspace_core::align::AlignError;
use weightspace_nn::train::TrainError;

use crate::zoo::ZooError;

/// Why networks cannot be learnt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaneError {
    /// Tokens without elements.
    #[error("tokens of 0 elements, expected at least 1")]
    TokenSize,
    /// Nothing becomes a token.
    #[error("no tensor of the network becomes a token")]
    NoTokens,
    /// A tensor is not there.
    #[error("tensor {name} is missing")]
    Missing {
        /// Its name, quoted.
        name: String,
    },
    /// A tensor has values that nothing can be learnt from.
    #[error("tensor {0} has values that are not finite")]
    NotFinite(String),
    /// A tensor has another shape.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name, quoted.
        name: String,
        /// The shape found.
        found: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
    },
    /// Settings that make no autoencoder.
    #[error("{setting} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// A model of the population is another network than the first.
    #[error("model {model}: {reason}")]
    Model {
        /// Its name, quoted.
        model: String,
        /// What is different.
        reason: String,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Networks cannot be aligned.
    #[error(transparent)]
    Align(#[from] AlignError),
    /// The zoo cannot be read.
    #[error(transparent)]
    Zoo(#[from] ZooError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}
