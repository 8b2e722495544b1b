//! Mean squared error, with a mask.

use super::{Loss, Size, dot};

/// Values that are worked on together, so that they stay in the nearest cache.
const BLOCK: usize = 256;

/// Sum of mask (output - target)^2 over all values of the batch, divided by a normaliser.
///
/// Without a mask and with the normaliser that [`MaskedMeanSquaredError::new`] sets, this is
/// `torch.nn.functional.mse_loss`.
#[derive(Clone, Copy, Debug)]
pub struct MaskedMeanSquaredError<'a> {
    target: &'a [f32],
    size: Size,
    mask: Option<&'a [f32]>,
    normaliser: f64,
}

impl<'a> MaskedMeanSquaredError<'a> {
    /// For the targets of a batch (samples x `width`); the normaliser is their number.
    ///
    /// # Panics
    /// If the targets are not whole rows.
    pub fn new(target: &'a [f32], width: usize) -> Self {
        let size = Size::of(target.len(), width);
        Self { target, size, mask: None, normaliser: target.len() as f64 }
    }

    /// Weights every value, with 0 or 1 as a mask or with its importance; the normaliser becomes
    /// the sum of the weights.
    ///
    /// # Panics
    /// If there is not one weight per value.
    pub fn with_mask(self, mask: &'a [f32]) -> Self {
        assert_eq!(mask.len(), self.target.len(), "one weight per value");
        let normaliser = mask.iter().map(|&weight| f64::from(weight)).sum();
        Self { mask: Some(mask), normaliser, ..self }
    }

    /// Divides by this number. A loss whose normaliser is 0 is 0.
    pub fn with_normaliser(self, normaliser: f64) -> Self {
        Self { normaliser, ..self }
    }
}

impl Loss for MaskedMeanSquaredError<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let values = self.size.values(&self.size.chunk(first_sample, outputs, gradient));
        let scale = if self.normaliser == 0.0 { 0.0 } else { 1.0 / self.normaliser };
        let mask = self.mask.map(|mask| &mask[values.clone()]);
        let target = &self.target[values];
        let mut weighted = [0.0; BLOCK];
        let mut sum = 0.0;
        for (block, gradient) in gradient.chunks_mut(BLOCK).enumerate() {
            let block = block * BLOCK..block * BLOCK + gradient.len();
            let pairs = outputs[block.clone()].iter().zip(&target[block.clone()]);
            gradient.iter_mut().zip(pairs).for_each(|(out, (output, target))| {
                *out = output - target;
            });
            let weighted = &mut weighted[..gradient.len()];
            weighted.copy_from_slice(gradient);
            if let Some(mask) = mask {
                weighted.iter_mut().zip(&mask[block]).for_each(|(value, mask)| *value *= mask);
            }
            sum += dot(weighted, gradient);
            let factor = (2.0 * scale) as f32;
            gradient.iter_mut().zip(weighted).for_each(|(out, value)| *out = factor * *value);
        }
        sum * scale
    }
}
