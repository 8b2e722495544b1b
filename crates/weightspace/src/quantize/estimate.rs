//! How large a file of large layers will be, without writing one: coding it takes long.

use super::allocate::Allocation;
use super::fold::Folded;

/// Weights that are looked at in all.
const MOST_WEIGHTS: usize = 1 << 20;
/// Integers beyond this are counted as this.
const LARGEST: i32 = (1 << 15) - 1;

/// Weights of some rows of every layer, in units of the layer's step at t = 1.
pub struct Estimate {
    layers: Vec<SampledLayer>,
}

struct SampledLayer {
    values: Vec<f32>,
    /// Weights in the layer for every one that is looked at.
    share: f64,
}

impl Estimate {
    /// Looks at evenly spaced rows.
    pub fn new(folded: &Folded, allocation: &Allocation) -> Self {
        let total: usize = folded.layers.iter().map(|layer| layer.rows * layer.columns).sum();
        let every = total.div_ceil(MOST_WEIGHTS).max(1);
        let layers = folded.layers.iter().zip(allocation.steps()).filter_map(|(layer, &step)| {
            let weight = folded.weights.get(&layer.weight)?.to_f32();
            let rows = weight.chunks(layer.columns.max(1)).step_by(every);
            let values: Vec<f32> =
                rows.flatten().map(|&value| (f64::from(value) / step) as f32).collect();
            let share = weight.len() as f64 / values.len().max(1) as f64;
            Some(SampledLayer { values, share })
        });
        Estimate { layers: layers.collect() }
    }

    /// Bytes of the layers' integers at a step factor `t`, each coded by its frequency in its layer.
    pub fn byte_count(&self, t: f64) -> f64 {
        let mut counts = vec![0u32; 2 * LARGEST as usize + 1];
        let bits = self.layers.iter().map(|layer| {
            counts.fill(0);
            let reciprocal = (1.0 / t) as f32;
            for value in &layer.values {
                // A conversion to an integer keeps within its range.
                let integer = ((value * reciprocal).round() as i32).clamp(-LARGEST, LARGEST);
                counts[(integer + LARGEST) as usize] += 1;
            }
            let total = layer.values.len() as f64;
            let bits = counts.iter().filter(|&&n| n > 0).map(|&n| {
                let n = f64::from(n);
                n * (total / n).log2()
            });
            bits.sum::<f64>() * layer.share
        });
        bits.sum::<f64>() / 8.0
    }

    /// The step factor in `low..high` at which the layers take so many bytes.
    pub fn factor_for(&self, bytes: f64, (low, high): (f64, f64)) -> f64 {
        let (mut low, mut high) = (low.log2(), high.log2());
        for _ in 0..20 {
            let middle = 0.5 * (low + high);
            if self.byte_count(middle.exp2()) > bytes {
                low = middle;
            } else {
                high = middle;
            }
        }
        high.exp2()
    }
}
