//! Adam with decoupled weight decay.

use serde::{Deserialize, Serialize};

use super::adam::AVERAGES;
use super::adaptive::Adaptive;
use super::rule::{Piece, Rule, Step};
use super::{Adam, OptimizerError};

/// AdamW (Loshchilov and Hutter 2019), as `torch.optim.AdamW`.
///
/// [`Adam`], except that the weights are multiplied by `1 - learning_rate * weight_decay` before the step
/// and the gradient stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Learning rate before any schedule.
    pub learning_rate: f64,
    /// Factors of the running averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Keeps the divisor from zero.
    pub epsilon: f64,
    /// Share of the weights, per unit of learning rate, that every step takes away.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 1e-2 }
    }
}

impl AdamW {
    fn adam(&self) -> Adam {
        let AdamW { learning_rate, betas, epsilon, weight_decay } = *self;
        Adam { learning_rate, betas, epsilon, weight_decay }
    }

    /// The factors of a step.
    pub(crate) fn adaptive(&self, step: &Step) -> Adaptive {
        let decay = self.weight_decay * step.weight_decay_scale;
        let keep = 1.0 - step.learning_rate * decay;
        Adaptive { keep, ..self.adam().factors(step) }
    }
}

impl Rule for AdamW {
    fn check(&self) -> Result<(), OptimizerError> {
        self.adam().check()
    }

    fn state_names(&self) -> &'static [&'static str] {
        AVERAGES
    }

    fn set_momentum(&mut self, momentum: f64) {
        self.betas[0] = momentum;
    }

    fn update(&self, step: &Step, piece: Piece<'_>) {
        self.adaptive(step).apply(piece);
    }
}
