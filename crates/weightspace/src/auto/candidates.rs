//! The table of what makes files for a target.

use weightspace_core::container::{self, Coding, Header, Method};

use super::{AutoError, Goal, Session};
use crate::low_rank::{self, FactorType};
use crate::quantize::{self, Progress};

/// The bytes of a file for a goal.
type Make = fn(&Session, &Header, Goal, Progress) -> Result<Vec<u8>, AutoError>;

/// A way to make files: an entry of the table.
pub struct Candidate {
    /// Name, also of its curve.
    pub name: &'static str,
    /// What it does, in one line.
    pub title: &'static str,
    /// The options of `weightspace` that do the same.
    pub options: &'static str,
    /// The method of its files.
    pub method: Method,
    /// Whether it trains, for as long as a [`Training`](super::Training) says.
    pub trains: bool,
    make: Make,
}

/// Every candidate; of equally good ones the first is taken. A new one is one entry here.
pub static CANDIDATES: [Candidate; 5] = [
    Candidate {
        name: "quantize",
        title: "Bits shared out by sensitivity",
        options: "compress --method quantize",
        method: Method::Quantize,
        trains: false,
        make: quantized,
    },
    Candidate {
        name: "low-rank-int8",
        title: "Factors of 8 bits",
        options: "compress --method low-rank --factors int8",
        method: Method::LowRank,
        trains: false,
        make: |session, header, goal, progress| {
            factored(session, header, goal, FactorType::Int8, progress)
        },
    },
    Candidate {
        name: "low-rank-f16",
        title: "Factors of half precision",
        options: "compress --method low-rank --factors f16",
        method: Method::LowRank,
        trains: false,
        make: |session, header, goal, progress| {
            factored(session, header, goal, FactorType::F16, progress)
        },
    },
    Candidate {
        name: "quantize-trained",
        title: "Weights trained on the grid of the file (--train-epochs)",
        options: "train --method quantize",
        method: Method::Quantize,
        trains: true,
        make: |session, header, goal, progress| session.trained_on_grid(header, goal, progress),
    },
    Candidate {
        name: "predictor",
        title: "A network that predicts the weights, distilled (--train-epochs)",
        options: "compress --method predictor --preset best",
        method: Method::Predictor,
        trains: true,
        make: |session, header, goal, progress| session.predicted(header, goal, progress),
    },
];

impl Candidate {
    /// The bytes of a file; its header says the candidate's method and otherwise what `header` says.
    ///
    /// # Errors
    /// If the goal is out of reach, the network and the images do not suit the method, or training is interrupted.
    pub fn file(
        &self,
        session: &Session<'_>,
        header: &Header,
        goal: Goal,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>, AutoError> {
        let header = Header { method: self.method, ..header.clone() };
        (self.make)(session, &header, goal, progress)
    }
}

pub(super) fn quantized(
    session: &Session<'_>,
    header: &Header,
    goal: Goal,
    progress: Progress<'_>,
) -> Result<Vec<u8>, AutoError> {
    let target = match goal {
        Goal::Bytes(bytes) => quantize::Target::Bytes(bytes),
        Goal::Accuracy(accuracy) => quantize::Target::Accuracy(accuracy),
    };
    encode(header, session.network.compress(header, target, progress)?)
}

fn factored(
    session: &Session<'_>,
    header: &Header,
    goal: Goal,
    factors: FactorType,
    progress: Progress<'_>,
) -> Result<Vec<u8>, AutoError> {
    let target = match goal {
        Goal::Bytes(bytes) => low_rank::Target::Bytes(bytes),
        Goal::Accuracy(accuracy) => low_rank::Target::Accuracy(accuracy),
    };
    encode(header, session.decomposed(progress)?.compress(header, target, factors, progress)?)
}

fn encode(header: &Header, tensors: Vec<(String, Coding)>) -> Result<Vec<u8>, AutoError> {
    Ok(container::encode(header, &tensors)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_have_names_of_their_own() {
        for (index, candidate) in CANDIDATES.iter().enumerate() {
            assert!(CANDIDATES[..index].iter().all(|other| other.name != candidate.name));
            let first = candidate.options.split_once(" --method ").map(|(command, _)| command);
            assert!(matches!(first, Some("compress" | "train")), "{}", candidate.options);
        }
    }
}
