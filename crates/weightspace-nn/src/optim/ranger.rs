//! Rectified Adam with Lookahead and centralised gradients.

use serde::{Deserialize, Serialize};

use super::{Lookahead, RAdam};

/// Ranger: [`RAdam`] with decoupled weight decay on centralised gradients, inside [`Lookahead`].
///
/// The defaults are those with which predictors of weights are published.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ranger {
    /// Learning rate before any schedule.
    pub learning_rate: f64,
    /// Factors of the running averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Keeps the divisor from zero.
    pub epsilon: f64,
    /// Share of the weights, per unit of learning rate, that every step takes away.
    pub weight_decay: f64,
    /// Whether the mean of every row of a matrix' gradient is taken off.
    pub centralize: bool,
    /// How the slow weights follow.
    pub lookahead: Lookahead,
}

impl Default for Ranger {
    fn default() -> Self {
        Ranger {
            learning_rate: 5e-3,
            betas: [0.5, 0.999],
            epsilon: 1e-5,
            weight_decay: 1e-3,
            centralize: true,
            lookahead: Lookahead::default(),
        }
    }
}

impl Ranger {
    /// The rule inside.
    pub(super) fn radam(&self) -> RAdam {
        let Ranger { learning_rate, betas, epsilon, weight_decay, .. } = *self;
        RAdam { learning_rate, betas, epsilon, weight_decay, decoupled_weight_decay: true }
    }
}
