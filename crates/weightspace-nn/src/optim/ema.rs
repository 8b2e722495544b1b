//! Exponential moving average of weights.

use super::OptimizerError;
use super::error::require;

/// An exponential moving average of weights: `average = decay * average + (1 - decay) * weights`.
///
/// The same as PyTorch's `AveragedModel` with `get_ema_multi_avg_fn(decay)`, whose first update copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Ema {
    decay: f64,
    average: Vec<f32>,
}

impl Ema {
    /// An average that begins as `weights`.
    ///
    /// # Errors
    /// `decay` outside 0 to 1.
    pub fn new(decay: f64, weights: &[f32]) -> Result<Self, OptimizerError> {
        require((0.0..=1.0).contains(&decay), "decay", decay, "from 0 to 1")?;
        Ok(Ema { decay, average: weights.to_vec() })
    }

    /// Takes the weights after a step into the average.
    ///
    /// # Panics
    /// If there are more or fewer weights than before.
    pub fn update(&mut self, weights: &[f32]) {
        assert_eq!(weights.len(), self.average.len(), "weights of the average");
        let gain = (1.0 - self.decay) as f32;
        for (average, weight) in self.average.iter_mut().zip(weights) {
            *average += gain * (weight - *average);
        }
    }

    /// The average: its whole state. [`Ema::new`] with it continues exactly.
    pub fn weights(&self) -> &[f32] {
        &self.average
    }
}
