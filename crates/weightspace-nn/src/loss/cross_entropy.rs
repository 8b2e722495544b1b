//! Cross-entropy of logits and labels.

use super::softmax::Softmax;
use super::{Loss, Size, check_labels};

/// Mean over the samples of `-log softmax(logits)[label]`, as `torch.nn.functional.cross_entropy`.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    labels: &'a [u16],
    size: Size,
    label_smoothing: f32,
}

impl<'a> CrossEntropy<'a> {
    /// For the labels of a batch and `classes` logits a sample.
    ///
    /// # Panics
    /// If a label is not below `classes`.
    pub fn new(labels: &'a [u16], classes: usize) -> Self {
        check_labels(labels, classes);
        let size = Size { samples: labels.len(), width: classes };
        Self { labels, size, label_smoothing: 0.0 }
    }

    /// Mixes the label with the uniform distribution over the classes, which gets this weight,
    /// 0 to 1.
    pub fn with_label_smoothing(self, label_smoothing: f32) -> Self {
        Self { label_smoothing, ..self }
    }
}

impl Loss for CrossEntropy<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let labels = &self.labels[self.size.chunk(first_sample, outputs, gradient)];
        let weight = 1.0 / self.size.samples as f32;
        gradient.fill(0.0);
        let rows = outputs.chunks_exact(self.size.width);
        let gradients = gradient.chunks_exact_mut(self.size.width);
        let add = |((logits, gradient), &label)| {
            add_cross_entropy(logits, label, self.label_smoothing, weight, gradient)
        };
        rows.zip(gradients).zip(labels).map(add).sum()
    }
}

/// The cross-entropy of one sample times `weight`; its gradient is added to `gradient`.
pub(super) fn add_cross_entropy(
    logits: &[f32],
    label: u16,
    label_smoothing: f32,
    weight: f32,
    gradient: &mut [f32],
) -> f64 {
    let softmax = Softmax::new(logits, 1.0);
    let label = usize::from(label);
    let others = label_smoothing / logits.len() as f32;
    let mut sum = 0.0;
    for (gradient, &logit) in gradient.iter_mut().zip(logits) {
        let log_probability = softmax.log_probability(logit);
        sum += f64::from(log_probability);
        *gradient += weight * (log_probability.exp() - others);
    }
    gradient[label] -= weight * (1.0 - label_smoothing);
    let of_label = f64::from(softmax.log_probability(logits[label]));
    -f64::from(weight) * (f64::from(1.0 - label_smoothing) * of_label + f64::from(others) * sum)
}
