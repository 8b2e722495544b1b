//! The grids that weights are rounded to.

use weightspace_core::container::Quantized;

/// Steps per octave of the channel scales in a `.wsp` file.
const EXPONENTS_PER_OCTAVE: f32 = 8.0;

/// A symmetric grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grid {
    /// Each output channel has its own scale, so that its largest weight is this many steps.
    Levels(i32),
    /// One step for the whole tensor.
    Step(f32),
}

/// A grid laid over one tensor.
pub struct Scales {
    /// Scale of the tensor.
    pub base: f32,
    /// Exponent of each channel, if they have their own scales.
    pub exponents: Option<Vec<u8>>,
    /// Scale of each channel.
    pub rows: Vec<f32>,
    /// Largest absolute value.
    pub limit: i32,
}

fn absmax(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

impl Grid {
    /// Lays the grid over a weight of `rows` output channels.
    pub fn scales(self, weight: &[f32], rows: usize) -> Scales {
        let columns = (weight.len() / rows.max(1)).max(1);
        match self {
            Grid::Step(step) => {
                Scales { base: step, exponents: None, rows: vec![step; rows], limit: (1 << 23) - 1 }
            }
            Grid::Levels(levels) => {
                let wanted: Vec<f32> =
                    weight.chunks_exact(columns).map(|row| absmax(row) / levels as f32).collect();
                let base = absmax(&wanted).max(f32::MIN_POSITIVE * 256.0);
                let exponent = |scale: f32| {
                    let octaves = (base / scale.max(f32::MIN_POSITIVE)).log2();
                    // Rounded down: the scale never gets too small for the largest weight.
                    (octaves * EXPONENTS_PER_OCTAVE).floor().clamp(0.0, 255.0) as u8
                };
                let exponents: Vec<u8> = wanted.iter().map(|&s| exponent(s)).collect();
                let quantized = Quantized {
                    shape: vec![rows, 0],
                    scale: base,
                    channel_exponents: Some(exponents.clone()),
                    values: Vec::new(),
                };
                let rows = (0..rows).map(|c| quantized.channel_scale(c)).collect();
                Scales { base, exponents: Some(exponents), rows, limit: levels }
            }
        }
    }
}

/// Rounds a vector (biases, normalisations) to nearest on a uniform grid.
pub fn round_vector(values: &[f32], shape: &[usize], step: f32) -> Quantized {
    // A step so small that the values leave the integers' range is made larger.
    let step = step.max(absmax(values) / (1 << 22) as f32).max(f32::MIN_POSITIVE * 256.0);
    Quantized {
        shape: shape.to_vec(),
        scale: step,
        channel_exponents: None,
        values: values.iter().map(|v| (v / step).round() as i32).collect(),
    }
}

/// The step that gives the largest of `values` `levels` steps.
pub fn step_for_levels(values: &[f32], levels: i32) -> f32 {
    absmax(values) / levels as f32
}

/// Root of the mean square without a few values that are far beyond it, so that these do not decide how the others are
/// rounded. Of weights as networks have them none is left out.
pub fn usual_magnitude(values: &[f32]) -> f64 {
    const FAR: f64 = 16.0;
    const MOST_LEFT_OUT: usize = 4096;
    let squares = || values.iter().map(|&v| f64::from(v) * f64::from(v)).filter(|&s| s > 0.0);
    let mut largest = f64::INFINITY;
    loop {
        let kept = || squares().filter(|&square| square <= largest);
        let (count, sum) = kept().fold((0.0, 0.0), |(count, sum), s| (count + 1.0, sum + s));
        let far = FAR * FAR * sum / f64::max(count, 1.0);
        let left_out = squares().filter(|&square| square > far).count();
        if left_out == 0 || kept().all(|s| s <= far) || left_out > values.len() / MOST_LEFT_OUT {
            return (sum / values.len().max(1) as f64).sqrt();
        }
        largest = far;
    }
}

/// Root of the mean square.
pub fn root_mean_square(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (sum / values.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_do_not_decide_what_is_usual() {
        let mut values: Vec<f32> =
            (0..8192).map(|n| ((n * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let usual = usual_magnitude(&values);
        assert_eq!(usual, root_mean_square(&values));
        (values[5], values[70]) = (1000.0, -1e9);
        assert!((usual_magnitude(&values) / usual - 1.0).abs() < 1e-3);
        assert!(root_mean_square(&values) > 1e6);
        // Where hardly any weight is left, these are what is usual.
        let mut sparse = vec![0.0; 8192];
        (sparse[0], sparse[1]) = (1.0, -1.0);
        assert_eq!(usual_magnitude(&sparse), root_mean_square(&sparse));
        let mut decayed = vec![1e-9; 8192];
        decayed[..100].fill(1.0);
        assert_eq!(usual_magnitude(&decayed), root_mean_square(&decayed));
        assert_eq!(usual_magnitude(&[]), 0.0);
    }
}
