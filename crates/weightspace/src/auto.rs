//! Files for a target from every method that needs no training, side by side: held-out training
//! images, never test images, say which is best.

use std::sync::OnceLock;

use weightspace_core::container::{self, Coding, Header, Method, WspError, WspFile};

use crate::low_rank::{self, Decomposed, FactorType, LowRankError};
use crate::quantize::{self, Prepared, Progress, QuantizeError};

/// What a file is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The most accurate of at most this many bytes.
    Bytes(u64),
    /// The smallest whose accuracy on held-out training images is at least this fraction.
    Accuracy(f64),
}

/// Tensors of a file with their codings.
type Tensors = Result<Vec<(String, Coding)>, AutoError>;

/// A way to make files: an entry of the table.
pub struct Candidate {
    /// Name, also of its curve.
    pub name: &'static str,
    /// What it does, in one line.
    pub title: &'static str,
    /// The options of `weightspace compress` that do the same.
    pub options: &'static str,
    /// The method of its files.
    pub method: Method,
    tensors: fn(&Session, &Header, Goal, Progress) -> Tensors,
}

/// Every candidate; of equally good ones the first is taken. A new one is one entry here.
pub static CANDIDATES: [Candidate; 3] = [
    Candidate {
        name: "quantize",
        title: "Bits shared out by sensitivity",
        options: "--method quantize",
        method: Method::Quantize,
        tensors: quantized,
    },
    Candidate {
        name: "low-rank-int8",
        title: "Factors of 8 bits",
        options: "--method low-rank --factors int8",
        method: Method::LowRank,
        tensors: |session, header, goal, progress| {
            factored(session, header, goal, FactorType::Int8, progress)
        },
    },
    Candidate {
        name: "low-rank-f16",
        title: "Factors of half precision",
        options: "--method low-rank --factors f16",
        method: Method::LowRank,
        tensors: |session, header, goal, progress| {
            factored(session, header, goal, FactorType::F16, progress)
        },
    },
];

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

/// A network and what its candidates have found out about it, for as many files as are wanted.
pub struct Session<'a> {
    network: &'a Prepared<'a>,
    decomposed: OnceLock<Decomposed<'a>>,
}

impl<'a> Session<'a> {
    /// Nothing is found out yet.
    pub fn new(network: &'a Prepared<'a>) -> Self {
        Session { network, decomposed: OnceLock::new() }
    }

    fn decomposed(&self, progress: Progress<'_>) -> Result<&Decomposed<'a>, LowRankError> {
        if let Some(decomposed) = self.decomposed.get() {
            return Ok(decomposed);
        }
        let decomposed = Decomposed::new(self.network, progress)?;
        Ok(self.decomposed.get_or_init(|| decomposed))
    }

    /// What every candidate makes of the goal, in the order of the table.
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
        CANDIDATES.iter().map(trial).collect()
    }
}

impl Candidate {
    /// The bytes of a file; its header says the candidate's method and otherwise what `header` says.
    ///
    /// # Errors
    /// If the goal is out of reach, or the network and the images do not suit the method.
    pub fn file(
        &self,
        session: &Session<'_>,
        header: &Header,
        goal: Goal,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>, AutoError> {
        let header = Header { method: self.method, ..header.clone() };
        let tensors = (self.tensors)(session, &header, goal, progress)?;
        Ok(container::encode(&header, &tensors)?)
    }
}

fn quantized(
    session: &Session<'_>,
    header: &Header,
    goal: Goal,
    progress: Progress<'_>,
) -> Tensors {
    let target = match goal {
        Goal::Bytes(bytes) => quantize::Target::Bytes(bytes),
        Goal::Accuracy(accuracy) => quantize::Target::Accuracy(accuracy),
    };
    Ok(session.network.compress(header, target, progress)?)
}

fn factored(
    session: &Session<'_>,
    header: &Header,
    goal: Goal,
    factors: FactorType,
    progress: Progress<'_>,
) -> Tensors {
    let target = match goal {
        Goal::Bytes(bytes) => low_rank::Target::Bytes(bytes),
        Goal::Accuracy(accuracy) => low_rank::Target::Accuracy(accuracy),
    };
    Ok(session.decomposed(progress)?.compress(header, target, factors, progress)?)
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

    #[test]
    fn candidates_have_names_of_their_own() {
        for (index, candidate) in CANDIDATES.iter().enumerate() {
            assert!(CANDIDATES[..index].iter().all(|other| other.name != candidate.name));
            assert!(candidate.options.starts_with("--method "), "{}", candidate.options);
        }
    }
}
