//! The steps of a predictor's matrices.

use weightspace_core::container::Quantized;

use crate::quantize::grid::root_mean_square;
use crate::subspace::Quantizer;

/// Channel exponents are eighths of octaves.
const EXPONENTS_PER_OCTAVE: f32 = 8.0;

/// The steps of one tensor, as a file has them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Steps {
    /// The largest.
    base: f32,
    /// Of every row, if they are not all the same.
    exponents: Option<Vec<u8>>,
}

/// How steps are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// The best for integers of so many bits.
    Bits(u8),
    /// In proportion to the root of the mean square.
    Relative(f64),
}

impl Choice {
    fn step(self, values: &[f32]) -> f32 {
        let step = match self {
            Choice::Bits(bits) => Quantizer::new(bits).best_step(values),
            Choice::Relative(factor) => (factor * root_mean_square(values)) as f32,
        };
        step.max(f32::MIN_POSITIVE * 256.0)
    }

    /// Largest magnitude of an integer.
    pub fn limit(self) -> f32 {
        match self {
            Choice::Bits(bits) => Quantizer::new(bits).largest() as f32,
            Choice::Relative(_) => ((1 << 23) - 1) as f32,
        }
    }
}

impl Steps {
    /// For a tensor, or for each of its rows where there are `rows`.
    pub fn new(values: &[f32], rows: Option<usize>, choice: Choice) -> Self {
        let Some(rows) = rows else {
            return Steps { base: choice.step(values), exponents: None };
        };
        let columns = (values.len() / rows.max(1)).max(1);
        let wanted: Vec<f32> = values.chunks_exact(columns).map(|row| choice.step(row)).collect();
        let base = wanted.iter().fold(f32::MIN_POSITIVE, |most, &step| most.max(step));
        let exponent = |step: &f32| {
            let octaves = (base / step).log2();
            (octaves * EXPONENTS_PER_OCTAVE).round().clamp(0.0, 255.0) as u8
        };
        Steps { base, exponents: Some(wanted.iter().map(exponent).collect()) }
    }

    /// All steps times a factor.
    pub fn scaled(&self, factor: f32) -> Self {
        Steps { base: self.base * factor, ..self.clone() }
    }

    /// These times integers.
    pub fn quantized(&self, shape: Vec<usize>, values: Vec<i32>) -> Quantized {
        let channel_exponents = self.exponents.clone();
        Quantized { shape, scale: self.base, channel_exponents, values }
    }

    /// The step of every row, or that of the tensor, exactly as decoders have it.
    pub fn values(&self) -> Vec<f32> {
        let quantized = self.quantized(Vec::new(), Vec::new());
        let rows = self.exponents.as_ref().map_or(1, Vec::len);
        (0..rows).map(|row| quantized.channel_scale(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_steps_of_their_size() {
        let values = [8.0f32, -8.0, 1.0, 1.0, 0.0, 0.0];
        let steps = Steps::new(&values, Some(3), Choice::Relative(0.25));
        let found = steps.values();
        assert_eq!(found[..2], [2.0, 0.25]);
        assert!(found[2] > 0.0 && found[2] < 1e-6);
        let one = Steps::new(&values[..2], None, Choice::Bits(8)).values();
        assert_eq!(one.len(), 1);
        assert!((one[0] - 8.0 / 127.0).abs() < 1e-6);
    }
}
