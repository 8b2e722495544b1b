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

/// Root of the mean square.
pub fn root_mean_square(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (sum / values.len().max(1) as f64).sqrt()
}
