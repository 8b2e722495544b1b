//! Knowledge distillation.

use super::cross_entropy::add_cross_entropy;
use super::softmax::Softmax;
use super::{Loss, Size, check_labels};

/// Mean over the samples of alpha T^2 KL(softmax(teacher / T) || softmax(logits / T)), T the
/// temperature, plus (1 - alpha) times the cross-entropy if there are labels (Hinton, Vinyals and
/// Dean 2015). The factor T^2 makes the gradient's size independent of T.
#[derive(Clone, Copy, Debug)]
pub struct Distillation<'a> {
    teacher_logits: &'a [f32],
    size: Size,
    labels: Option<&'a [u16]>,
    temperature: f32,
    alpha: f32,
}

impl<'a> Distillation<'a> {
    /// For the teacher's logits of a batch (samples x classes), with temperature 1, alpha 1 and no
    /// labels.
    ///
    /// # Panics
    /// If the logits are not whole rows of `classes`.
    pub fn new(teacher_logits: &'a [f32], classes: usize) -> Self {
        let size = Size::of(teacher_logits.len(), classes);
        Self { teacher_logits, size, labels: None, temperature: 1.0, alpha: 1.0 }
    }

    /// Sets the temperature, a positive number.
    pub fn with_temperature(self, temperature: f32) -> Self {
        Self { temperature, ..self }
    }

    /// Sets the weight of the distillation.
    pub fn with_alpha(self, alpha: f32) -> Self {
        Self { alpha, ..self }
    }

    /// Adds the cross-entropy with labels, with weight 1 - alpha.
    ///
    /// # Panics
    /// If there is not one label per sample, or one is not below the number of classes.
    pub fn with_labels(self, labels: &'a [u16]) -> Self {
        assert_eq!(labels.len(), self.size.samples, "one label per sample");
        check_labels(labels, self.size.width);
        Self { labels: Some(labels), ..self }
    }

    /// alpha T^2 KL of one sample; `gradient` is overwritten with its gradient times `weight`.
    fn divergence(
        &self,
        teacher: &[f32],
        logits: &[f32],
        weight: f32,
        gradient: &mut [f32],
    ) -> f64 {
        let expected = Softmax::new(teacher, self.temperature);
        let found = Softmax::new(logits, self.temperature);
        let factor = weight * self.alpha * self.temperature;
        let mut sum = 0.0;
        for ((gradient, &teacher), &logit) in gradient.iter_mut().zip(teacher).zip(logits) {
            let (log_p, log_q) = (expected.log_probability(teacher), found.log_probability(logit));
            let p = log_p.exp();
            // A probability that underflows contributes nothing, even if its logit is infinite.
            if p > 0.0 {
                sum += f64::from(p) * f64::from(log_p - log_q);
            }
            *gradient = factor * (log_q.exp() - p);
        }
        f64::from(self.alpha) * f64::from(self.temperature).powi(2) * sum
    }
}

impl Loss for Distillation<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let Size { samples, width } = self.size;
        let chunk = self.size.chunk(first_sample, outputs, gradient);
        let weight = 1.0 / samples as f32;
        let teacher = self.teacher_logits[self.size.values(&chunk)].chunks_exact(width);
        let rows = outputs.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
        let mut loss = 0.0;
        for (sample, (teacher, (logits, gradient))) in chunk.zip(teacher.zip(rows)) {
            loss += self.divergence(teacher, logits, weight, gradient) / samples as f64;
            if let Some(labels) = self.labels {
                let weight = (1.0 - self.alpha) * weight;
                loss += add_cross_entropy(logits, labels[sample], 0.0, weight, gradient);
            }
        }
        loss
    }
}
