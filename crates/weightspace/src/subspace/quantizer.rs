//! Coefficients as integers times one step.

/// Rounds coefficients to so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantizer {
    bits: u8,
}

impl Quantizer {
    /// Integers of `bits` bits, 2 to 16: from -(2^(bits-1) - 1) to 2^(bits-1) - 1.
    ///
    /// # Panics
    /// If `bits` is out of its range.
    pub fn new(bits: u8) -> Self {
        assert!((2..=16).contains(&bits), "{bits} bits");
        Quantizer { bits }
    }

    /// The largest integer.
    pub fn largest(self) -> i32 {
        (1 << (self.bits - 1)) - 1
    }

    /// Whether coefficients are rounded while they are trained: below 8 bits, where rounding them
    /// afterwards costs accuracy.
    pub fn rounds_in_training(self) -> bool {
        self.bits < 8
    }

    /// The step for a file: that of training, or else the best.
    pub fn step(self, coefficients: &[f32]) -> f32 {
        match self.rounds_in_training() {
            true => self.steady_step(coefficients),
            false => self.best_step(coefficients),
        }
    }

    /// A step in proportion to the root of the mean square of the coefficients: that with the least
    /// error for a normal distribution (Max 1960). It changes little from one training step to the next.
    pub fn steady_step(self, coefficients: &[f32]) -> f32 {
        const OF_NORMAL: [f64; 7] = [0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308];
        let square: f64 = coefficients.iter().map(|&a| f64::from(a).powi(2)).sum();
        let deviation = (square / coefficients.len().max(1) as f64).sqrt();
        let relative = match OF_NORMAL.get(usize::from(self.bits) - 2) {
            Some(&step) => step,
            // Above 8 bits nothing is cut off within 5.5 standard deviations.
            None => 5.5 / f64::from(self.largest()),
        };
        positive((deviation * relative) as f32)
    }

    /// The step with the least mean square error for these coefficients, of 64 that are tried.
    pub fn best_step(self, coefficients: &[f32]) -> f32 {
        let largest = coefficients.iter().fold(0f32, |max, a| max.max(a.abs()));
        let whole = positive(largest / self.largest() as f32);
        let error = |step: f32| -> f64 {
            let of_one = |&a: &f32| f64::from(a - self.integer(a, step) as f32 * step).powi(2);
            coefficients.iter().map(of_one).sum()
        };
        let steps = (0..64).map(|i| positive(whole * (1.0 - i as f32 / 64.0)));
        let best = steps.min_by(|&a, &b| error(a).total_cmp(&error(b)));
        best.unwrap_or(whole)
    }

    /// The nearest integer, within the range.
    pub fn integer(self, coefficient: f32, step: f32) -> i32 {
        let largest = self.largest() as f32;
        (coefficient / step).round_ties_even().clamp(-largest, largest) as i32
    }
}

/// A step must be positive, also where all coefficients are 0.
fn positive(step: f32) -> f32 {
    if step.is_normal() { step } else { f32::MIN_POSITIVE }
}

#[cfg(test)]
mod tests {
    use weightspace_core::random::{Key, Stream};

    use super::*;

    fn normal() -> Vec<f32> {
        let mut values = vec![0.0; 10_000];
        Stream::new(Key::from_seed(4), 0).fill_normal(&mut values);
        values
    }

    fn error(values: &[f32], quantizer: Quantizer, step: f32) -> f64 {
        let rounded = |a: f32| quantizer.integer(a, step) as f32 * step;
        let sum: f64 = values.iter().map(|&a| f64::from(a - rounded(a)).powi(2)).sum();
        sum / values.len() as f64
    }

    /// Distortions of optimal uniform quantisers with one level less than Max' (0 is a level here).
    #[test]
    fn errors_are_near_those_of_optimal_quantizers() {
        for (bits, distortion) in [(3, 0.0374), (4, 0.01154), (5, 0.003495), (8, 8.6e-5)] {
            let (values, quantizer) = (normal(), Quantizer::new(bits));
            for step in [quantizer.steady_step(&values), quantizer.best_step(&values)] {
                let found = error(&values, quantizer, step);
                assert!(found < 1.35 * distortion, "{bits} bits: {found}");
            }
        }
    }

    #[test]
    fn sixteen_bits_lose_nothing_that_matters() {
        let (values, quantizer) = (normal(), Quantizer::new(16));
        assert!(error(&values, quantizer, quantizer.best_step(&values)) < 1e-8);
    }

    #[test]
    fn zeros_have_a_step() {
        for bits in 2..=16 {
            let quantizer = Quantizer::new(bits);
            for step in [quantizer.steady_step(&[0.0; 3]), quantizer.best_step(&[0.0; 3])] {
                assert!(step > 0.0 && step.is_finite());
                assert_eq!(quantizer.integer(0.0, step), 0);
            }
        }
    }
}
