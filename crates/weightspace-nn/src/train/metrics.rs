//! What an evaluation says: one line of `metrics.jsonl`.

use std::fs;

use serde::Serialize;

use super::Score;

/// What is known after an evaluation; the keys are those of `weightspace eval` and more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// What was evaluated on: `held-out` or `test`.
    pub split: &'static str,
    /// Fraction of right samples; `None` if there are no samples to evaluate on, or no right and wrong.
    pub accuracy: Option<f64>,
    /// Samples that the network gets right.
    pub correct: Option<usize>,
    /// Samples evaluated on.
    pub total: usize,
    /// Mean loss on these samples.
    pub loss: Option<f64>,
    /// Where a mask leaves a part out of that loss: the same with that part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmasked_loss: Option<f64>,
    /// Steps taken.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u32,
    /// Mean loss of the training steps since the last evaluation, as it was at each of them.
    pub train_loss: Option<f64>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Samples trained on per second since the last evaluation.
    pub images_per_second: Option<f64>,
    /// Time of the run so far, evaluations included, without what was interrupted.
    pub seconds: f64,
    /// Largest memory of the process; `None` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
}

impl Metrics {
    /// What a score says about the network.
    pub(super) fn with_score(self, score: Option<Score>) -> Self {
        Metrics {
            accuracy: score.filter(|score| score.correct.is_some()).map(|score| score.accuracy()),
            correct: score.and_then(|score| score.correct),
            total: score.map_or(0, |score| score.total),
            loss: score.map(|score| score.loss),
            unmasked_loss: score.and_then(|score| score.unmasked_loss),
            ..self
        }
    }
}

/// Sums over the steps since the last evaluation, and the time of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Meter {
    /// Sum of the losses of all samples.
    pub loss: f64,
    /// Samples trained on.
    pub samples: f64,
    /// Seconds that these steps took.
    pub step_seconds: f64,
    /// Seconds of the run.
    pub run_seconds: f64,
}

impl Meter {
    /// Adds a step.
    pub fn add(&mut self, loss: f64, samples: usize, seconds: f64) {
        self.loss += loss * samples as f64;
        self.samples += samples as f64;
        self.step_seconds += seconds;
        self.run_seconds += seconds;
    }

    /// Begins anew after an evaluation that took so long.
    pub fn restart(&mut self, seconds: f64) {
        *self = Meter { run_seconds: self.run_seconds + seconds, ..Meter::default() };
    }

    /// Mean loss of a sample.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.samples > 0.0).then(|| self.loss / self.samples)
    }

    /// Samples per second.
    pub fn rate(&self) -> Option<f64> {
        (self.step_seconds > 0.0).then(|| self.samples / self.step_seconds)
    }
}

/// Largest memory that this process ever had, where the system tells.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
