//! Rectified Adam.

use serde::{Deserialize, Serialize};

use super::adam::AVERAGES;
use super::adaptive::Adaptive;
use super::rule::{Piece, Rule, Step};
use super::{Adam, OptimizerError};

/// Length of the averaged past above which the second average is trusted.
const TRUSTED_LENGTH: f64 = 5.0;

/// RAdam (Liu et al. 2020), as `torch.optim.RAdam`.
///
/// [`Adam`] whose step is scaled by how much the averaged square can be trusted yet, and not divided by it
/// as long as it averages over too few gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RAdam {
    /// Learning rate before any schedule.
    pub learning_rate: f64,
    /// Factors of the running averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Keeps the divisor from zero; here it is added before the correction of the average.
    pub epsilon: f64,
    /// What of the weights is added to the gradient, or taken from the weights.
    pub weight_decay: f64,
    /// Take the decay from the weights, as [`AdamW`](super::AdamW) does.
    pub decoupled_weight_decay: bool,
}

impl Default for RAdam {
    fn default() -> Self {
        let Adam { learning_rate, betas, epsilon, weight_decay } = Adam::default();
        RAdam { learning_rate, betas, epsilon, weight_decay, decoupled_weight_decay: false }
    }
}

impl RAdam {
    /// Factor of the step at which the averaged square is corrected by `correction`; `None` while that
    /// average is not trusted.
    fn rectification(&self, count: u64, correction: f64) -> Option<f64> {
        let longest = 2.0 / (1.0 - self.betas[1]) - 1.0;
        let length = longest - 2.0 * count as f64 * (1.0 - correction) / correction;
        let variance = |length: f64| (length - 4.0) * (length - 2.0) / length;
        (length > TRUSTED_LENGTH).then(|| (variance(length) / variance(longest)).sqrt())
    }
}

impl Rule for RAdam {
    fn check(&self) -> Result<(), OptimizerError> {
        let RAdam { learning_rate, betas, epsilon, weight_decay, .. } = *self;
        Adam { learning_rate, betas, epsilon, weight_decay }.check()
    }

    fn state_names(&self) -> &'static [&'static str] {
        AVERAGES
    }

    fn set_momentum(&mut self, momentum: f64) {
        self.betas[0] = momentum;
    }

    fn update(&self, step: &Step, piece: Piece<'_>) {
        let [mean, square] = Adaptive::corrections(self.betas, step.count);
        let decay = self.weight_decay * step.weight_decay_scale;
        let (l2, keep) = match self.decoupled_weight_decay {
            true => (0.0, 1.0 - step.learning_rate * decay),
            false => (decay, 1.0),
        };
        let plain = step.learning_rate / mean;
        let (scale, epsilon) = match self.rectification(step.count, square) {
            Some(factor) => (plain * factor * square.sqrt(), Some(self.epsilon)),
            None => (plain, None),
        };
        Adaptive { betas: self.betas, l2, keep, scale, epsilon }.apply(piece);
    }
}
