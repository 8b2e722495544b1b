//! Why training cannot begin, or ends too early.

use std::io;
use std::path::PathBuf;

use weightspace_core::CheckpointError;

use crate::comm::Elsewhere;
use crate::data::PreprocessingError;
use crate::engine::EngineError;
use crate::evaluate::EvaluateError;
use crate::optim::OptimizerError;
use crate::schedule::ScheduleError;

/// Why training cannot begin, or ends too early; every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of its range.
    #[error("{setting} of the training is {value}; it must be {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A setting of the optimiser, or its stored state, is not usable.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A setting of the schedule is out of its range.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The preprocessing does not fit the images.
    #[error(transparent)]
    Preprocessing(#[from] PreprocessingError),
    /// A network cannot run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An evaluation cannot run.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Network, data and teacher do not fit together.
    #[error("{what} has {found} {of}, {other} has {expected}")]
    Mismatch {
        /// What does not fit.
        what: String,
        /// How many it has.
        found: usize,
        /// Of what.
        of: &'static str,
        /// What it does not fit to.
        other: String,
        /// How many that has.
        expected: usize,
    },
    /// Too few samples to make a single batch of, or to hold so many out of them.
    #[error("{samples} samples are too few {purpose}")]
    TooFewSamples {
        /// How many there are.
        samples: usize,
        /// For what.
        purpose: String,
    },
    /// The loss or the weights are no longer finite.
    #[error("training diverged at step {step}: {place} is not finite (loss {loss})")]
    Diverged {
        /// The step, from 1.
        step: u64,
        /// The first layer or tensor with such a value.
        place: String,
        /// The loss of the step.
        loss: f64,
    },
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint is not one of this run.
    #[error("{}: not a checkpoint of this training: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// Samples cannot be read.
    #[error("{0}")]
    Data(String),
    /// Another rank failed.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
    /// A file of the run's folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
