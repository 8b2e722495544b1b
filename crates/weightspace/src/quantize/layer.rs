//! Quantising one layer.

use weightspace_core::container::Quantized;

use super::fold::Layer;
use super::grid::{Grid, round_vector, step_for_levels};
use super::prices::Prices;
use super::second_order::{Metric, Rounding, compensate, output_error, round};
use super::statistics::Statistics;

/// Passes of rounding; each takes the prices of values from the one before.
const PASSES: usize = 2;

/// Step of a bias in units of the noise that the rounding of the weights leaves in the outputs.
const BIAS_STEP: f64 = 0.5;

/// Levels of a bias when the noise is not known.
const BIAS_LEVELS: i32 = (1 << 15) - 1;

/// How one layer is rounded.
#[derive(Clone, Copy, Debug)]
pub struct LayerChoice {
    /// The grid of the weight.
    pub grid: Grid,
    /// Price of one bit, relative to the loss of an error of one step.
    pub price: f64,
}

/// A quantised layer.
#[derive(Clone, Debug)]
pub struct QuantizedLayer {
    /// The weight.
    pub weight: Quantized,
    /// The bias (or the shift of the folded normalisation), if the layer has one.
    pub bias: Option<Quantized>,
}

/// Quantises a weight `[rows, columns]` (row-major, of the given shape) and its bias. With
/// statistics of the inputs: second-order rounding, and a bias corrected so that the mean output
/// stays what it was.
pub fn quantize_layer(
    layer: &Layer,
    shape: &[usize],
    weight: &[f32],
    bias: Option<&[f32]>,
    statistics: Option<&Statistics>,
    choice: LayerChoice,
) -> QuantizedLayer {
    let metric = statistics.and_then(Metric::new);
    let mut target = weight.to_vec();
    if let Some(statistics) = statistics {
        compensate(&mut target, statistics);
    }
    let scales = choice.grid.scales(&target, layer.rows);
    let nearest = Rounding { scales: &scales.rows, limit: scales.limit, price: 0.0, prices: None };
    let mut values = round(&target, layer.columns, None, &nearest);
    if metric.is_some() || choice.price > 0.0 {
        let area = shape.iter().skip(2).product();
        for _ in 0..PASSES {
            let prices = Prices::new(&values, layer.columns, area, scales.limit);
            let rounding = Rounding { price: choice.price, prices: Some(&prices), ..nearest };
            values = round(&target, layer.columns, metric.as_ref(), &rounding);
        }
    }
    let quantized = Quantized {
        shape: shape.to_vec(),
        scale: scales.base,
        channel_exponents: scales.exponents,
        values,
    };
    let bias = bias.map(|bias| match statistics {
        Some(statistics) => {
            let rounded = quantized.dequantize();
            let errors: Vec<f32> = target.iter().zip(&rounded).map(|(a, b)| a - b).collect();
            let step = BIAS_STEP * output_error(&errors, statistics).max(0.0).sqrt();
            let corrected = corrected_bias(bias, weight, &rounded, statistics);
            round_vector(&corrected, &[bias.len()], step as f32)
        }
        None => round_vector(bias, &[bias.len()], step_for_levels(bias, BIAS_LEVELS)),
    });
    QuantizedLayer { weight: quantized, bias }
}

/// b + W mean(original inputs) - W' mean(current inputs) + mean of what is missing in the value
/// that is added.
fn corrected_bias(
    bias: &[f32],
    weight: &[f32],
    rounded: &[f32],
    statistics: &Statistics,
) -> Vec<f32> {
    let d = statistics.original_mean.len();
    let dot = |row: &[f32], mean: &[f64]| -> f64 {
        row.iter().zip(mean).map(|(&w, m)| f64::from(w) * m).sum()
    };
    let rows = weight.chunks_exact(d).zip(rounded.chunks_exact(d));
    let missing = |row: usize| statistics.missing.as_ref().map_or(0.0, |m| m.mean[row]);
    bias.iter()
        .zip(rows)
        .enumerate()
        .map(|(row, (&b, (old, new)))| {
            let shift = dot(old, &statistics.original_mean) - dot(new, &statistics.current_mean);
            (f64::from(b) + shift + missing(row)) as f32
        })
        .collect()
}
