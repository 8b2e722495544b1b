//! Slow weights that follow the fast ones.

use serde::{Deserialize, Serialize};

use super::OptimizerError;
use super::error::require;

/// Lookahead (Zhang et al. 2019): after every `steps` steps the slow weights move by `alpha` of the way to
/// the weights, which then continue from there. The slow weights begin where training begins.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lookahead {
    /// Steps between two moves of the slow weights.
    pub steps: u64,
    /// Share of the way that they move.
    pub alpha: f64,
}

impl Default for Lookahead {
    fn default() -> Self {
        Lookahead { steps: 6, alpha: 0.5 }
    }
}

impl Lookahead {
    pub(super) fn check(&self) -> Result<(), OptimizerError> {
        require(self.steps > 0, "lookahead.steps", self.steps as f64, "at least 1")?;
        let alpha = self.alpha;
        require((0.0..=1.0).contains(&alpha), "lookahead.alpha", alpha, "from 0 to 1")
    }

    /// Moves both kinds of weights if it is time after step `count` (from 1).
    pub(super) fn follow(&self, count: u64, weights: &mut [f32], slow: &mut [f32]) {
        if !count.is_multiple_of(self.steps) {
            return;
        }
        let alpha = self.alpha as f32;
        for (weight, slow) in weights.iter_mut().zip(slow) {
            *slow += alpha * (*weight - *slow);
            *weight = *slow;
        }
    }
}
