//! Where a run keeps what it must not lose: metrics and the newest checkpoint.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Metrics, TrainError, Trainer};

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
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    policy: CheckpointPolicy,
    /// Locked for as long as the run lasts.
    metrics: File,
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
        let path = path.to_owned();
        Ok(RunFolder { path, policy, metrics, saved: Instant::now(), saved_step: 0 })
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
    /// begins at its beginning.
    ///
    /// # Errors
    /// If the checkpoint is damaged or of another training, or if metrics are missing.
    pub fn restore(&mut self, trainer: &mut Trainer<'_>) -> Result<bool, TrainError> {
        let checkpoint = self.checkpoint();
        let there = checkpoint.try_exists().map_err(io_error(&checkpoint))?;
        let expected = if there { trainer.restore(&checkpoint)? } else { 0 };
        let file = self.path.join(METRICS);
        let found = self.metrics.metadata().map_err(io_error(&file))?.len();
        if found < expected {
            let reason = format!("{METRICS} has {found} bytes, it had {expected}");
            return Err(TrainError::Foreign { path: checkpoint, reason });
        }
        self.truncate(expected)?;
        self.saved = Instant::now();
        self.saved_step = trainer.step_count();
        Ok(there)
    }

    /// Appends a line to the metrics.
    ///
    /// # Errors
    /// If the system fails.
    pub fn append(&mut self, metrics: &Metrics) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(metrics).expect("metrics are plain JSON");
        line.push('\n');
        let written = self.metrics.write_all(line.as_bytes());
        written.and_then(|()| self.metrics.sync_data()).map_err(io_error(&self.path.join(METRICS)))
    }

    /// Replaces the checkpoint.
    ///
    /// # Errors
    /// If the weights are not finite, so that the checkpoint stays as it is, or if the system fails.
    pub fn save(&mut self, trainer: &Trainer<'_>) -> Result<(), TrainError> {
        let file = self.path.join(METRICS);
        let metrics_bytes = self.metrics.metadata().map_err(io_error(&file))?.len();
        trainer.save(&self.checkpoint(), metrics_bytes)?;
        self.saved = Instant::now();
        self.saved_step = trainer.step_count();
        Ok(())
    }

    /// Whether it is time for a checkpoint after this step.
    pub(super) fn is_due(&self, step: u64) -> bool {
        let steps = self.policy.steps.is_some_and(|steps| step >= self.saved_step + steps);
        steps || self.saved.elapsed() >= self.policy.time
    }

    fn truncate(&self, len: u64) -> Result<(), TrainError> {
        self.metrics.set_len(len).map_err(io_error(&self.path.join(METRICS)))
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> TrainError + use<> {
    let path = path.to_owned();
    move |source| TrainError::Io { path, source }
}
