//! Why a group of models cannot be trained in lanes.

use std::path::PathBuf;

use weightspace_core::CheckpointError;

use super::LANES;
use crate::data::PreprocessingError;
use crate::optim::OptimizerError;
use crate::train::TrainError;

/// Why a group of models cannot be trained in lanes; every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// An operation that only the ordinary engine runs.
    #[error("{arch}: {op} cannot be trained in lanes; the ordinary engine trains such networks")]
    Unsupported {
        /// The architecture.
        arch: String,
        /// The operation, and the name of its module if it has one.
        op: String,
    },
    /// A setting that only the ordinary training has.
    #[error("model {model}: training in lanes has no {setting}")]
    Setting {
        /// Number of the model in its group.
        model: usize,
        /// Name of the setting.
        setting: &'static str,
    },
    /// Settings out of their ranges.
    #[error("model {model}: {source}")]
    Config {
        /// Number of the model in its group.
        model: usize,
        /// What is wrong.
        source: TrainError,
    },
    /// Settings of an optimiser out of their ranges.
    #[error("model {model}: {source}")]
    Optimizer {
        /// Number of the model in its group.
        model: usize,
        /// What is wrong.
        source: OptimizerError,
    },
    /// No model, or more than there are lanes.
    #[error("a group has 1 to {LANES} models, found {0}")]
    ModelCount(usize),
    /// A model that does not belong to the group.
    #[error("model {model} has {found}, model 0 of its group {expected}")]
    Differs {
        /// Number of the model in its group.
        model: usize,
        /// What it has.
        found: String,
        /// What the first model has.
        expected: String,
    },
    /// Numbers that do not fit together.
    #[error("{what} has {found} {of}, expected {expected}")]
    Mismatch {
        /// What does not fit.
        what: String,
        /// How many it has.
        found: usize,
        /// Of what.
        of: &'static str,
        /// How many it should have.
        expected: usize,
    },
    /// The preprocessing does not fit the images.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// A file of a group's state cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file holds the state of another group.
    #[error("{}: not a state of these models: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
}
