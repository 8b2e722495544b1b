//! A gradient that is known already.

use super::{Loss, Size, dot};

/// The inner product of the outputs with fixed factors, which are its gradient: what carries a gradient
/// from one network on into the one that makes its inputs or weights.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    factors: &'a [f32],
    size: Size,
}

impl<'a> Linear<'a> {
    /// For the factors of a batch (samples x `width`).
    ///
    /// # Panics
    /// If these are not whole rows.
    pub fn new(factors: &'a [f32], width: usize) -> Self {
        Self { factors, size: Size::of(factors.len(), width) }
    }
}

impl Loss for Linear<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let values = self.size.values(&self.size.chunk(first_sample, outputs, gradient));
        gradient.copy_from_slice(&self.factors[values]);
        dot(outputs, gradient)
    }
}
