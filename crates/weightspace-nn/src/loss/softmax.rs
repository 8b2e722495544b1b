//! Probabilities of a row of logits.

/// The softmax of a row of logits divided by a temperature.
pub(super) struct Softmax {
    largest: f32,
    inverse_temperature: f32,
    log_sum: f32,
}

impl Softmax {
    pub(super) fn new(logits: &[f32], temperature: f32) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let inverse_temperature = temperature.recip();
        let exponential = |&logit: &f32| f64::from(((logit - largest) * inverse_temperature).exp());
        let log_sum = logits.iter().map(exponential).sum::<f64>().ln() as f32;
        Self { largest, inverse_temperature, log_sum }
    }

    /// Logarithm of the probability of the class with that logit.
    pub(super) fn log_probability(&self, logit: f32) -> f32 {
        (logit - self.largest) * self.inverse_temperature - self.log_sum
    }
}
