//! Stochastic gradient descent with momentum.

use serde::{Deserialize, Serialize};

use super::OptimizerError;
use super::error::{averaging, not_negative, require};
use super::real::Real;
use super::rule::{Piece, Rule, Step};

/// Stochastic gradient descent, as `torch.optim.SGD`.
///
/// The gradient plus `weight_decay` times the weights goes into the buffer
/// `b = momentum * b + (1 - dampening) * g` (the first one is `g`); the step is `learning_rate * b`, with
/// Nesterov's momentum `learning_rate * (g + momentum * b)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate before any schedule.
    pub learning_rate: f64,
    /// Factor of the buffer; without momentum (0) there is none.
    pub momentum: f64,
    /// What of the gradient does not go into the buffer.
    pub dampening: f64,
    /// Look ahead along the buffer.
    pub nesterov: bool,
    /// What of the weights is added to the gradient.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd {
            learning_rate: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        }
    }
}

impl Rule for Sgd {
    fn check(&self) -> Result<(), OptimizerError> {
        not_negative("learning_rate", self.learning_rate)?;
        averaging("momentum", self.momentum)?;
        require((0.0..=1.0).contains(&self.dampening), "dampening", self.dampening, "from 0 to 1")?;
        not_negative("weight_decay", self.weight_decay)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(OptimizerError::Contradiction(
                "nesterov of the optimizer needs a momentum and no dampening",
            ));
        }
        Ok(())
    }

    fn state_names(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum_buffer"] }
    }

    fn set_momentum(&mut self, momentum: f64) {
        // Without a buffer there is nothing that momentum could act on.
        if self.momentum != 0.0 {
            self.momentum = momentum;
        }
    }

    fn update(&self, step: &Step, piece: Piece<'_>) {
        let factors = self.factors(step);
        let values = piece.weights.iter_mut().zip(piece.gradient);
        if piece.first.is_empty() {
            values.for_each(|(weight, &gradient)| {
                [*weight, _] = factors.step([*weight, 0.0], gradient)
            });
            return;
        }
        for ((weight, &gradient), buffer) in values.zip(piece.first) {
            [*weight, *buffer] = factors.step([*weight, *buffer], gradient);
        }
    }
}

impl Sgd {
    /// The factors of a step.
    pub(crate) fn factors(&self, step: &Step) -> SgdValue {
        let momentum = self.momentum as f32;
        // The first gradient fills the buffer undamped; without momentum every one does.
        let (keep, gain) = match step.count == 1 || self.momentum == 0.0 {
            true => (0.0, 1.0),
            false => (momentum, (1.0 - self.dampening) as f32),
        };
        SgdValue {
            rate: step.learning_rate as f32,
            decay: (self.weight_decay * step.weight_decay_scale) as f32,
            keep,
            gain,
            ahead: if self.nesterov { [1.0, momentum] } else { [0.0, 1.0] },
        }
    }
}

/// Factors of one step of one value, of one model or of every lane.
#[derive(Clone, Copy)]
pub(crate) struct SgdValue<V = f32> {
    pub rate: V,
    pub decay: V,
    pub keep: V,
    pub gain: V,
    /// Shares of the gradient and of the buffer in the step: 0 and 1, or 1 and Nesterov's momentum.
    pub ahead: [V; 2],
}

impl<V: Real> SgdValue<V> {
    /// The next weight and buffer.
    #[inline(always)]
    pub fn step(&self, [weight, buffer]: [V; 2], gradient: V) -> [V; 2] {
        let gradient = gradient + self.decay * weight;
        let buffer = self.keep * buffer + self.gain * gradient;
        let direction = self.ahead[0] * gradient + self.ahead[1] * buffer;
        [weight - self.rate * direction, buffer]
    }
}
