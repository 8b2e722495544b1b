//! Readers and writers of checkpoints: one file per format, one table.

use std::path::{Path, PathBuf};

use crate::state_dict::StateDict;
use crate::tensor::{Tensor, TensorInfo};

/// What can be wrong with a checkpoint. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not a well-formed checkpoint.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
}

/// An opened checkpoint: names, types and shapes are known, tensors are read one by one on demand.
pub struct Checkpoint {
    source: Box<dyn Source>,
    path: PathBuf,
    tensors: Vec<TensorInfo>,
}

/// What a reader of one format provides.
trait Source: Send + Sync {
    /// Reads tensor `index` of the listing.
    fn read(&self, index: usize) -> Result<Tensor, CheckpointError>;
}

impl Checkpoint {
    /// Opens a checkpoint of any known format, by its content.
    pub fn open(_path: &Path) -> Result<Self, CheckpointError> {
        unreachable!()
    }

    /// Names, types and shapes in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Where the checkpoint was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads tensor `index` of [`tensors`](Self::tensors).
    pub fn read(&self, index: usize) -> Result<Tensor, CheckpointError> {
        self.source.read(index)
    }

    /// Reads everything.
    pub fn state_dict(&self) -> Result<StateDict, CheckpointError> {
        self.tensors
            .iter()
            .enumerate()
            .map(|(i, info)| Ok((info.name.clone(), self.read(i)?)))
            .collect()
    }
}
