//! A loss times a factor.

use super::Loss;

/// A loss times a factor, as a term of a sum of losses.
pub struct Weighted<L>(
    /// The loss.
    pub L,
    /// The factor.
    pub f64,
);

impl<L: Loss> Loss for Weighted<L> {
    fn observe(&mut self, outputs: &[f32]) {
        self.0.observe(outputs);
    }

    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let value = self.0.evaluate(first_sample, outputs, gradient);
        gradient.iter_mut().for_each(|g| *g *= self.1 as f32);
        self.1 * value
    }

    fn of_sum(&self, sum: f64) -> (f64, f64) {
        let (value, factor) = self.0.of_sum(sum / self.1);
        (self.1 * value, factor)
    }
}
