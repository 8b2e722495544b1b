//! Files for a target from every method, side by side: held-out training images, never test images, say which is
//! best. Methods that train take part if they are told for how long.

mod candidates;
mod training;

use std::sync::OnceLock;

use weightspace_core::WspError;
use weightspace_core::container::{Header, WspFile};
use weightspace_nn::train::TrainError;

use crate::low_rank::{Decomposed, LowRankError};
use crate::phases::{Interrupted, PhaseError};
use crate::predictor::RecipeError;
use crate::quantize::aware::AwareError;
use crate::quantize::{Prepared, Progress, QuantizeError};
pub use candidates::{CANDIDATES, Candidate};
pub use training::Training;

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The most accurate of at most this many bytes.
    Bytes(u64),
    /// The smallest whose accuracy on held-out training images is at least this fraction.
    Accuracy(f64),
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AutoError {
    /// The method cannot meet the goal; another one may.
    #[error("{0}")]
    OutOfReach(String),
    /// Quantisation does not work.
    #[error(transparent)]
    Quantize(QuantizeError),
    /// Factors do not work.
    #[error(transparent)]
    LowRank(LowRankError),
    /// Training on a grid does not work.
    #[error(transparent)]
    Aware(AwareError),
    /// A predictor does not work.
    #[error(transparent)]
    Predictor(RecipeError),
    /// Training was to stop.
    #[error(transparent)]
    Interrupted(Interrupted),
    /// The file cannot be made.
    #[error(transparent)]
    Container(#[from] WspError),
}

impl From<QuantizeError> for AutoError {
    fn from(error: QuantizeError) -> Self {
        match error {
            QuantizeError::OutOfReach(reason) => AutoError::OutOfReach(reason),
            error => AutoError::Quantize(error),
        }
    }
}

impl From<LowRankError> for AutoError {
    fn from(error: LowRankError) -> Self {
        match error {
            LowRankError::OutOfReach { .. } | LowRankError::Inaccurate { .. } => {
                AutoError::OutOfReach(error.to_string())
            }
            error => AutoError::LowRank(error),
        }
    }
}

impl From<AwareError> for AutoError {
    fn from(error: AwareError) -> Self {
        match error {
            AwareError::Quantize(error) => error.into(),
            AwareError::Phase(PhaseError::Interrupted(interrupted)) => {
                AutoError::Interrupted(interrupted)
            }
            // Others may still get there.
            AwareError::Phase(PhaseError::Train(error @ TrainError::Diverged { .. })) => {
                AutoError::OutOfReach(error.to_string())
            }
            error => AutoError::Aware(error),
        }
    }
}

impl From<RecipeError> for AutoError {
    fn from(error: RecipeError) -> Self {
        match error {
            RecipeError::OutOfReach(reason) => AutoError::OutOfReach(reason),
            RecipeError::Interrupted(interrupted) => AutoError::Interrupted(interrupted),
            RecipeError::Train(error @ TrainError::Diverged { .. }) => {
                AutoError::OutOfReach(error.to_string())
            }
            error => AutoError::Predictor(error),
        }
    }
}

/// A network and what its candidates have found out about it, for as many files as are wanted.
pub struct Session<'a> {
    network: &'a Prepared<'a>,
    training: Option<Training<'a>>,
    decomposed: OnceLock<Decomposed<'a>>,
}

impl<'a> Session<'a> {
    /// Nothing is found out yet, and no candidate trains.
    pub fn new(network: &'a Prepared<'a>) -> Self {
        Session { network, training: None, decomposed: OnceLock::new() }
    }

    /// The same with candidates that train.
    pub fn with_training(self, training: Training<'a>) -> Self {
        Session { training: Some(training), ..self }
    }

    /// The candidates that take part, in the order of the table.
    pub fn candidates(&self) -> impl Iterator<Item = &'static Candidate> {
        let trains = self.training.is_some();
        CANDIDATES.iter().filter(move |candidate| trains || !candidate.trains)
    }

    fn decomposed(&self, progress: Progress<'_>) -> Result<&Decomposed<'a>, LowRankError> {
        if let Some(decomposed) = self.decomposed.get() {
            return Ok(decomposed);
        }
        let decomposed = Decomposed::new(self.network, progress)?;
        Ok(self.decomposed.get_or_init(|| decomposed))
    }

    /// What every candidate that takes part makes of the goal, in the order of the table.
    ///
    /// # Errors
    /// If a candidate fails for another reason than that the goal is out of its reach.
    pub fn trials(
        &self,
        header: &Header,
        goal: Goal,
        progress: Progress<'_>,
    ) -> Result<Vec<Trial>, AutoError> {
        let trial = |candidate: &'static Candidate| {
            let phase = |phase: &str, done, total| {
                progress(&format!("{}: {phase}", candidate.name), done, total);
            };
            let outcome = match candidate.file(self, header, goal, &phase) {
                Ok(bytes) => Ok(Measured::new(self.network, bytes)?),
                Err(AutoError::OutOfReach(reason)) => Err(reason),
                Err(error) => return Err(error),
            };
            Ok(Trial { candidate, outcome })
        };
        self.candidates().map(trial).collect()
    }
}

/// What a candidate made.
pub struct Trial {
    /// The candidate.
    pub candidate: &'static Candidate,
    /// Its file, or why there is none.
    pub outcome: Result<Measured, String>,
}

/// A file with its accuracy.
pub struct Measured {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// On the held-out training images.
    pub accuracy: f64,
}

impl Measured {
    fn new(network: &Prepared<'_>, bytes: Vec<u8>) -> Result<Self, AutoError> {
        let file = WspFile::from_bytes("candidate", bytes.clone())?;
        let accuracy = network.held_out_accuracy(&file.state_dict()?)?;
        Ok(Measured { bytes, accuracy })
    }
}

/// The trial that meets the goal best: the most accurate of those that were made for a size, the
/// smallest of those for an accuracy, of equals the first. None if all goals were out of reach.
pub fn best(trials: &[Trial], goal: Goal) -> Option<(usize, &Measured)> {
    let made = trials.iter().enumerate();
    let made = made.filter_map(|(index, trial)| Some((index, trial.outcome.as_ref().ok()?)));
    made.reduce(|best, next| {
        let better = match goal {
            Goal::Bytes(_) => next.1.accuracy > best.1.accuracy,
            Goal::Accuracy(_) => next.1.bytes.len() < best.1.bytes.len(),
        };
        if better { next } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_that_of_the_goal_and_of_equals_the_first() {
        let trial = |index: usize, made: Option<(usize, f64)>| Trial {
            candidate: &CANDIDATES[index],
            outcome: made
                .map(|(bytes, accuracy)| Measured { bytes: vec![0; bytes], accuracy })
                .ok_or_else(|| "too small".into()),
        };
        let best = |goal, made: [Option<(usize, f64)>; 3]| {
            let trials: Vec<_> = made.into_iter().enumerate().map(|(i, m)| trial(i, m)).collect();
            best(&trials, goal).map(|(index, _)| index)
        };
        let (bytes, accuracy) = (Goal::Bytes(9), Goal::Accuracy(0.5));
        let made = [Some((9, 0.6)), Some((7, 0.5)), Some((8, 0.7))];
        assert_eq!((best(bytes, made), best(accuracy, made)), (Some(2), Some(1)));
        let equal = [None, Some((8, 0.6)), Some((8, 0.6))];
        assert_eq!((best(bytes, equal), best(accuracy, equal)), (Some(1), Some(1)));
        assert_eq!(best(bytes, [None, None, None]), None);
    }
}
