//! The square root of a loss.

use super::Loss;

/// The square root of another loss of the whole batch; its gradient where that is 0 is taken for 0.
#[derive(Clone, Copy, Debug)]
pub struct SquareRoot<L>(
    /// The other loss, which is never negative.
    pub L,
);

impl<L: Loss> Loss for SquareRoot<L> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        self.0.evaluate(first_sample, outputs, gradient)
    }

    fn of_sum(&self, sum: f64) -> (f64, f64) {
        let (value, factor) = self.0.of_sum(sum);
        let root = value.sqrt();
        (root, if root == 0.0 { 0.0 } else { factor / (2.0 * root) })
    }
}
