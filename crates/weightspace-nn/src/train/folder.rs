//! Where a run keeps what it must not lose: metrics and the newest checkpoint.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Metrics, TrainError, Trainer};
use crate::comm::agree;

const METRICS: &str = "metrics.jsonl";
const CHECKPOINT_FOLDER: &str = "checkpoint";
const CHECKPOINT: &str = "training.safetensors";

/// When checkpoints are written besides at evaluations and at the end. None of this changes what is
/// computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// After so many steps.
    pub steps: Option<u64>,
    /// After so much time.
    pub time: Duration,
}

impl Default for CheckpointPolicy {
    /// Every minute.
    fn default() -> Self {
        CheckpointPolicy { steps: None, time: Duration::from_secs(60) }
    }
}

/// The folder of one run: `metrics.jsonl`, with one line per evaluation, and
/// `checkpoint/training.safetensors`. One process at a time has it.
///
/// A line is on the disk before the checkpoint that follows it, and every checkpoint knows how long the
/// metrics were: what was written after the last one is cut off when training continues, and written again.
///
/// Of several ranks one writes; the others have the folder as readers of its checkpoint.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    policy: CheckpointPolicy,
    /// Locked for as long as the run lasts; `None` for a reader.
    metrics: Option<File>,
    saved: Instant,
    saved_step: u64,
}

impl RunFolder {
    /// Opens a folder, which is created if it does not exist.
    ///
    /// # Errors
    /// If the folder is not writable, or another process trains in it.
    pub fn open(path: &Path, policy: CheckpointPolicy) -> Result<Self, TrainError> {
        let checkpoints = path.join(CHECKPOINT_FOLDER);
        fs::create_dir_all(&checkpoints).map_err(io_error(&checkpoints))?;
        let file = path.join(METRICS);
        let metrics = OpenOptions::new().append(true).create(true).open(&file);
        let metrics = metrics.map_err(io_error(&file))?;
        match metrics.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let busy = io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another process is training in this folder",
                );
                return Err(io_error(path)(busy));
            }
            // Not every file system has locks; training alone needs none.
            Err(TryLockError::Error(_)) => {}
        }
        let metrics = Some(metrics);
        Ok(RunFolder { policy, metrics, ..Self::reader(path) })
    }

    /// The folder of a run that another rank writes to.
    pub fn reader(path: &Path) -> Self {
        let (path, policy) = (path.to_owned(), CheckpointPolicy::default());
        RunFolder { path, policy, metrics: None, saved: Instant::now(), saved_step: 0 }
    }

    /// The checkpoint's file.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT_FOLDER).join(CHECKPOINT)
    }

    /// Removes checkpoint and metrics.
    ///
    /// # Errors
    /// If the system fails.
    pub fn clear(&mut self) -> Result<(), TrainError> {
        if self.metrics.is_none() {
            return Ok(());
        }
        let checkpoint = self.checkpoint();
        match fs::remove_file(&checkpoint) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&checkpoint)(error));
            }
            _ => {}
        }
        self.truncate(0)
    }

    /// Continues a training from the checkpoint; `false` if there is none, and the training then
    /// begins at its beginning. All ranks do so together, also where other ranks wrote it, or fewer.
    ///
    /// # Errors
    /// If the checkpoint is damaged or of another training, or if metrics are missing.
    pub fn restore(&mut self, trainer: &mut Trainer<'_>) -> Result<bool, TrainError> {
        let comm = Arc::clone(trainer.comm());
        let checkpoint = self.checkpoint();
        let there = checkpoint.try_exists().map_err(io_error(&checkpoint));
        let there = comm.any(agree(&*comm, there)?);
        agree(&*comm, self.restore_from(there.then_some(&checkpoint), trainer))?;
        Ok(there)
    }

    fn restore_from(
        &mut self,
        checkpoint: Option<&PathBuf>,
        trainer: &mut Trainer<'_>,
    ) -> Result<(), TrainError> {
        let expected = checkpoint.map_or(Ok(0), |checkpoint| trainer.restore(checkpoint))?;
        let found = self.metrics_len()?;
        if let Some(found) = found.filter(|&found| found < expected) {
            let reason = format!("{METRICS} has {found} bytes, it had {expected}");
            return Err(TrainError::Foreign { path: self.checkpoint(), reason });
        }
        self.truncate(expected)?;
        self.saved = Instant::now();
        self.saved_step = trainer.step_count();
        Ok(())
    }

    /// Length of the metrics so far; `None` for a reader.
    fn metrics_len(&self) -> Result<Option<u64>, TrainError> {
        let metadata = self.metrics.as_ref().map(File::metadata).transpose();
        let metadata = metadata.map_err(io_error(&self.path.join(METRICS)))?;
        Ok(metadata.map(|metadata| metadata.len()))
    }

    /// Appends a line to the metrics.
    ///
    /// # Errors
    /// If the system fails.
    pub fn append(&mut self, metrics: &Metrics) -> Result<(), TrainError> {
        let Some(file) = &mut self.metrics else { return Ok(()) };
        let mut line = serde_json::to_string(metrics).expect("metrics are plain JSON");
        line.push('\n');
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
        written.map_err(io_error(&self.path.join(METRICS)))
    }

    /// Replaces the checkpoint.
    ///
    /// # Errors
    /// If the weights are not finite, so that the checkpoint stays as it is, or if the system fails.
    pub fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), TrainError> {
        let Some(metrics_bytes) = self.metrics_len()? else { return Ok(()) };
        trainer.save(&self.checkpoint(), metrics_bytes)?;
        self.saved = Instant::now();
        self.saved_step = trainer.step_count();
        Ok(())
    }

    /// Whether it is time for a checkpoint after this step, as far as this rank knows.
    pub(super) fn is_due(&self, step: u64) -> bool {
        let steps = self.policy.steps.is_some_and(|steps| step >= self.saved_step + steps);
        steps || self.saved.elapsed() >= self.policy.time
    }

    fn truncate(&self, len: u64) -> Result<(), TrainError> {
        let done = self.metrics.as_ref().map_or(Ok(()), |metrics| metrics.set_len(len));
        done.map_err(io_error(&self.path.join(METRICS)))
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> TrainError + use<> {
    let path = path.to_owned();
    move |source| TrainError::Io { path, source }
}
