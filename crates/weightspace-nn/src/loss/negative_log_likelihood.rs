//! Negative log-likelihood, for networks that end with log-probabilities.

use super::{Loss, Size, check_labels};

/// Mean over the samples of `-log_probabilities[label]`, as `torch.nn.functional.nll_loss`.
#[derive(Clone, Copy, Debug)]
pub struct NegativeLogLikelihood<'a> {
    labels: &'a [u16],
    size: Size,
}

impl<'a> NegativeLogLikelihood<'a> {
    /// For the labels of a batch and `classes` log-probabilities a sample.
    ///
    /// # Panics
    /// If a label is not below `classes`.
    pub fn new(labels: &'a [u16], classes: usize) -> Self {
        check_labels(labels, classes);
        Self { labels, size: Size { samples: labels.len(), width: classes } }
    }
}

impl Loss for NegativeLogLikelihood<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let labels = &self.labels[self.size.chunk(first_sample, outputs, gradient)];
        let weight = 1.0 / self.size.samples as f32;
        gradient.fill(0.0);
        let rows = outputs.chunks_exact(self.size.width);
        let gradients = gradient.chunks_exact_mut(self.size.width);
        let mut loss = 0.0;
        for ((row, gradient), &label) in rows.zip(gradients).zip(labels) {
            gradient[usize::from(label)] = -weight;
            loss -= f64::from(row[usize::from(label)]);
        }
        loss / self.size.samples as f64
    }
}
