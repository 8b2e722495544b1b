//! What is learnt: batches with their losses, and how well a network does.

use std::ops::Range;

use weightspace_core::StateDict;

use super::TrainError;
use crate::comm::Part;
use crate::loss::Loss;
use crate::{Net, NodeId};

/// Something to train a network for.
pub trait Task {
    /// The network.
    fn net(&self) -> &Net;

    /// Nodes of the network whose values have losses, too.
    fn taps(&self) -> Vec<NodeId> {
        Vec::new()
    }

    /// Inputs of the network that every sample becomes, for instance two views of it.
    fn inputs_per_sample(&self) -> usize {
        1
    }

    /// Whether the loss compares samples, so that it must [`observe`](Loss::observe) all outputs of a batch.
    fn compares_samples(&self) -> bool {
        false
    }

    /// Number of samples to train on.
    fn sample_count(&self) -> usize;

    /// The batch of these samples (numbers below [`sample_count`](Self::sample_count)) in an epoch,
    /// of which this rank runs those at `share`: all of them where there is one rank, and none where
    /// there are more ranks than samples. It depends on nothing else, so that training continues anywhere.
    ///
    /// # Errors
    /// If the samples do not fit the network.
    fn batch(
        &mut self,
        epoch: u32,
        samples: &[usize],
        share: Range<usize>,
    ) -> Result<Prepared<'_>, TrainError>;

    /// How well the network does on a part of the held-out samples; `None` if there are none to have
    /// a part of.
    ///
    /// # Errors
    /// If the samples do not fit the network.
    fn evaluate(&self, weights: &StateDict, part: Part) -> Result<Option<Score>, TrainError>;
}

/// A batch, ready for the engine.
pub struct Prepared<'a> {
    /// The inputs of the share's samples one after the other, channel-major.
    pub inputs: &'a [f32],
    /// The loss of all inputs of the whole batch, of which only the share's are evaluated.
    pub loss: Box<dyn Loss + 'a>,
    /// Those of the tapped nodes, in the order of [`Task::taps`].
    pub taps: Vec<Box<dyn Loss + 'a>>,
}

/// How well a network does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Samples that it gets right, where there is right and wrong.
    pub correct: Option<usize>,
    /// Samples looked at.
    pub total: usize,
    /// Mean loss.
    pub loss: f64,
    /// Where a mask leaves a part out of the loss: the same with that part.
    pub unmasked_loss: Option<f64>,
}

impl Score {
    /// Fraction of right samples; 0 for none.
    pub fn accuracy(&self) -> f64 {
        self.correct.unwrap_or(0) as f64 / self.total.max(1) as f64
    }

    /// That on the samples of both.
    pub(super) fn and(self, other: Score) -> Score {
        let total = self.total + other.total;
        let mean =
            |a: f64, b: f64| (a * self.total as f64 + b * other.total as f64) / total.max(1) as f64;
        Score {
            correct: self.correct.zip(other.correct).map(|(a, b)| a + b),
            total,
            loss: mean(self.loss, other.loss),
            unmasked_loss: self.unmasked_loss.zip(other.unmasked_loss).map(|(a, b)| mean(a, b)),
        }
    }
}
