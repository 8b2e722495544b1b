//! Adam.

use serde::{Deserialize, Serialize};

use super::OptimizerError;
use super::adaptive::Adaptive;
use super::error::{averaging, not_negative};
use super::rule::{Piece, Rule, Step};

/// Names of the two running averages, as PyTorch's state dicts have them.
pub(super) const AVERAGES: &[&str] = &["exp_avg", "exp_avg_sq"];

/// Adam (Kingma and Ba 2015), as `torch.optim.Adam`.
///
/// The step is `learning_rate * m / (sqrt(v) + epsilon)`, with m and v the running averages of the
/// gradient and of its square, both corrected for having begun at zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Learning rate before any schedule.
    pub learning_rate: f64,
    /// Factors of the running averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Keeps the divisor from zero.
    pub epsilon: f64,
    /// What of the weights is added to the gradient.
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { learning_rate: 1e-3, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl Adam {
    /// The factors of a step, without weight decay.
    pub(super) fn factors(&self, step: &Step) -> Adaptive {
        let [mean, square] = Adaptive::corrections(self.betas, step.count);
        // m / c1 / (sqrt(v / c2) + epsilon), with one division per value instead of three.
        let root = square.sqrt();
        Adaptive {
            betas: self.betas,
            l2: 0.0,
            keep: 1.0,
            scale: step.learning_rate * root / mean,
            epsilon: Some(self.epsilon * root),
        }
    }

    /// The factors of a step.
    pub(crate) fn adaptive(&self, step: &Step) -> Adaptive {
        let l2 = self.weight_decay * step.weight_decay_scale;
        Adaptive { l2, ..self.factors(step) }
    }
}

impl Rule for Adam {
    fn check(&self) -> Result<(), OptimizerError> {
        not_negative("learning_rate", self.learning_rate)?;
        self.betas.iter().try_for_each(|&beta| averaging("betas", beta))?;
        not_negative("epsilon", self.epsilon)?;
        not_negative("weight_decay", self.weight_decay)
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
