//! How well a training does, now and then.

use std::time::Instant;

use super::metrics::peak_memory_bytes;
use super::trainer::Best;
use super::{Metrics, Score, Selection, TrainError, Trainer};
use crate::comm::agree;

impl Trainer<'_> {
    /// Evaluates on held-out samples, keeps the coefficients if they are the best so far, and begins
    /// the training loss anew.
    ///
    /// # Errors
    /// If weights or statistics are not finite.
    pub fn evaluate(&mut self) -> Result<Metrics, TrainError> {
        let start = Instant::now();
        self.check_finite()?;
        let state = self.current();
        let weights = state.to_state_dict(self.task.net());
        let score = agree(&*self.comm, self.task.evaluate(&weights, self.comm.part()))?;
        let score = score.map(|score| self.of_all_ranks(score));
        if self.config.select == Selection::Best
            && let Some(Score { correct: Some(correct), .. }) = score
            && self.best.as_ref().is_none_or(|best| correct > best.correct)
        {
            let coefficients = self.averaged().to_vec();
            self.best = Some(Best { correct, coefficients, running: state.running });
        }
        let meter = self.meter;
        self.meter.restart(start.elapsed().as_secs_f64());
        let metrics = Metrics {
            train_loss: meter.mean_loss(),
            images_per_second: meter.rate(),
            ..self.metrics("held-out", score)
        };
        Ok(metrics)
    }

    /// The score on the samples of all ranks.
    fn of_all_ranks(&self, own: Score) -> Score {
        let mut all = vec![0.0; 4 * self.comm.size()];
        // NaN for what is not there, which is the same on all ranks.
        let correct = own.correct.map_or(f64::NAN, |correct| correct as f64);
        let unmasked = own.unmasked_loss.unwrap_or(f64::NAN);
        self.comm.gather_f64(&[correct, own.total as f64, own.loss, unmasked], &mut all);
        let scores = all.as_chunks().0.iter().map(|&[correct, total, loss, unmasked]| Score {
            correct: own.correct.map(|_| correct as usize),
            total: total as usize,
            loss,
            unmasked_loss: own.unmasked_loss.map(|_| unmasked),
        });
        scores.reduce(Score::and).unwrap_or(own)
    }

    /// The line of a score that was found elsewhere, as on test images.
    pub fn metrics(&self, split: &'static str, score: Option<Score>) -> Metrics {
        let metrics = Metrics {
            split,
            accuracy: None,
            correct: None,
            total: 0,
            loss: None,
            unmasked_loss: None,
            step: self.step_count(),
            epoch: self.position.epoch,
            train_loss: None,
            learning_rate: self.last.0,
            images_per_second: None,
            seconds: self.meter.run_seconds,
            peak_memory_bytes: peak_memory_bytes(),
        };
        metrics.with_score(score)
    }
}
