//! Contrast of two views of every sample.

use super::{Loss, Size, dot};

/// Normalised temperature-scaled cross-entropy (NT-Xent, Chen et al. 2020) of a batch whose samples 2 i and 2 i + 1
/// are views of one thing: the mean over all samples i of
/// `-log(exp(s(i, j) / t) / sum over k != i of exp(s(i, k) / t))`, j the other view, s the cosine, t the temperature.
///
/// It must [`observe`](Loss::observe) the batch before it is evaluated.
#[derive(Clone, Debug)]
pub struct NtXent {
    temperature: f64,
    size: Size,
    /// What every sample adds to the loss.
    values: Vec<f64>,
    gradient: Vec<f32>,
}

impl NtXent {
    /// For `samples` outputs of `width` elements.
    ///
    /// # Panics
    /// If the samples are no pairs, or the temperature is not above 0.
    pub fn new(samples: usize, width: usize, temperature: f32) -> Self {
        assert!(samples.is_multiple_of(2), "{samples} samples are no pairs");
        assert!(temperature > 0.0, "temperature {temperature}");
        let size = Size { samples, width };
        let values = vec![f64::NAN; samples];
        let gradient = vec![0.0; samples * width];
        NtXent { temperature: temperature.into(), size, values, gradient }
    }

    /// Cosines over the temperature, samples x samples, and the lengths of the outputs.
    fn similarities(&self, outputs: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let Size { samples, width } = self.size;
        let row = |i: usize| &outputs[i * width..][..width];
        // A vector without length has no direction, as in PyTorch.
        let lengths: Vec<f64> =
            (0..samples).map(|i| dot(row(i), row(i)).sqrt().max(1e-12)).collect();
        let mut similarities = vec![0.0; samples * samples];
        for i in 0..samples {
            for j in 0..=i {
                let cosine = dot(row(i), row(j)) / (lengths[i] * lengths[j]);
                similarities[i * samples + j] = cosine / self.temperature;
                similarities[j * samples + i] = cosine / self.temperature;
            }
        }
        (similarities, lengths)
    }
}

impl Loss for NtXent {
    fn observe(&mut self, outputs: &[f32]) {
        let Size { samples, width } = self.size;
        assert_eq!(outputs.len(), samples * width, "outputs of the whole batch");
        let (mut factors, lengths) = self.similarities(outputs);
        // Similarities become the loss's gradient with respect to them.
        for (i, row) in factors.chunks_exact_mut(samples.max(1)).enumerate() {
            let of_pair = row[i ^ 1];
            row[i] = f64::NEG_INFINITY;
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|s| (s - largest).exp()).sum();
            self.values[i] = (largest + sum.ln() - of_pair) / samples as f64;
            row.iter_mut().for_each(|s| *s = (*s - largest).exp() / sum / samples as f64);
            row[i ^ 1] -= 1.0 / samples as f64;
        }
        let mut direction = vec![0.0f64; width];
        for i in 0..samples {
            // The gradient of the output's direction, of which the part across it moves the output.
            direction.fill(0.0);
            for j in 0..samples {
                let factor = factors[i * samples + j] + factors[j * samples + i];
                let factor = factor / (self.temperature * lengths[j]);
                let other = &outputs[j * width..][..width];
                direction.iter_mut().zip(other).for_each(|(d, &o)| *d += factor * f64::from(o));
            }
            let own = &outputs[i * width..][..width];
            let unit = |o: f32| f64::from(o) / lengths[i];
            let along: f64 = direction.iter().zip(own).map(|(d, &o)| d * unit(o)).sum();
            let gradient = &mut self.gradient[i * width..][..width];
            for ((g, d), &o) in gradient.iter_mut().zip(&direction).zip(own) {
                *g = ((d - along * unit(o)) / lengths[i]) as f32;
            }
        }
    }

    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let samples = self.size.chunk(first_sample, outputs, gradient);
        gradient.copy_from_slice(&self.gradient[self.size.values(&samples)]);
        self.values[samples].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weightspace_core::random::{Key, Stream};

    fn outputs(samples: usize, width: usize) -> Vec<f32> {
        let mut values = vec![0.0; samples * width];
        Stream::new(Key::from_seed(1), 0).fill_normal(&mut values);
        values
    }

    fn value(outputs: &[f32], width: usize) -> (f64, Vec<f32>) {
        let mut loss = NtXent::new(outputs.len() / width, width, 0.1);
        loss.observe(outputs);
        let mut gradient = vec![f32::NAN; outputs.len()];
        (loss.evaluate(0, outputs, &mut gradient), gradient)
    }

    #[test]
    fn views_that_agree_and_differ_from_others_cost_nothing() {
        let (loss, gradient) = value(&[1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 1.0], 2);
        // Two others at cosine 0: log(1 + 2 exp(-10)).
        assert!((loss - (1.0 + 2.0 * (-10.0f64).exp()).ln()).abs() < 1e-9, "{loss}");
        assert!(gradient.iter().all(|g| g.abs() < 1e-2));
    }

    #[test]
    fn the_gradient_is_that_of_differences() {
        let (samples, width) = (6, 5);
        let at = outputs(samples, width);
        let (_, gradient) = value(&at, width);
        for i in 0..at.len() {
            let moved = |step: f32| {
                let mut near = at.clone();
                near[i] += step;
                (f64::from(near[i]), value(&near, width).0)
            };
            let ((a, up), (b, down)) = (moved(1e-3), moved(-1e-3));
            let expected = (up - down) / (a - b);
            assert!((f64::from(gradient[i]) - expected).abs() < 1e-4, "{i}: {expected}");
        }
    }

    #[test]
    fn a_sample_without_direction_gives_finite_numbers() {
        let mut at = outputs(4, 3);
        at[..3].fill(0.0);
        let (loss, gradient) = value(&at, 3);
        assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()));
    }
}
