//! Losses and right answers of every model, counted sample by sample.

use super::kernels::largest;
use super::{LANES, Vector};
use crate::train::Score;

/// Sums over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Of losses.
    pub losses: [f64; LANES],
    /// Of right answers.
    pub correct: [usize; LANES],
    /// Samples of each model.
    pub samples: usize,
}

impl Tally {
    /// Counts a sample of every model: its loss, and whether the largest logit is that of its label.
    pub fn count(&mut self, losses: [f64; LANES], logits: &[Vector], labels: &[u16; LANES]) {
        let best = largest(logits);
        for lane in 0..LANES {
            self.losses[lane] += losses[lane];
            self.correct[lane] += usize::from(best[lane] == usize::from(labels[lane]));
        }
        self.samples += 1;
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Tally) {
        for lane in 0..LANES {
            self.losses[lane] += other.losses[lane];
            self.correct[lane] += other.correct[lane];
        }
        self.samples += other.samples;
    }

    /// Mean loss and accuracy of the first models.
    pub fn scores(&self, models: usize) -> Vec<Score> {
        let score = |model: usize| Score {
            correct: Some(self.correct[model]),
            total: self.samples,
            loss: self.losses[model] / self.samples.max(1) as f64,
            unmasked_loss: None,
        };
        (0..models).map(score).collect()
    }
}
