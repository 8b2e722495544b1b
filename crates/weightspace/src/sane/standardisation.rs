//! Layers of like size: mean and deviation of every layer over a population.

use serde::{Deserialize, Serialize};

use super::windows::read_layer;
use super::{SaneError, TokenLayout};
use crate::zoo::ModelWeights;

/// Smallest deviation that is divided by: a layer that is the same in all models stays finite.
const LEAST: f64 = 1e-12;

/// Mean and deviation of the elements of every layer: the mean of the models' means, and the root of the mean of
/// their variances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardisation {
    /// Of every layer.
    pub mean: Vec<f64>,
    /// Of every layer.
    pub deviation: Vec<f64>,
}

impl Standardisation {
    /// One that changes nothing.
    pub fn none(layers: usize) -> Self {
        Standardisation { mean: vec![0.0; layers], deviation: vec![1.0; layers] }
    }

    /// That of some models, which are read one after the other, layer by layer.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn of<'a>(
        layout: &TokenLayout,
        models: impl Iterator<Item = Result<ModelWeights<'a>, SaneError>>,
    ) -> Result<Self, SaneError> {
        let layers = layout.layers();
        let (mut mean, mut variance) = (vec![0.0; layers.len()], vec![0.0; layers.len()]);
        let (mut values, mut count) = (Vec::new(), 0.0);
        for model in models {
            let model = model?;
            for (index, layer) in layers.iter().enumerate() {
                read_layer(layout, layer, &model, &mut values)?;
                let (own_mean, own_variance) = moments(&values);
                mean[index] += own_mean;
                variance[index] += own_variance;
            }
            count += 1.0;
        }
        let count: f64 = f64::max(count, 1.0);
        mean.iter_mut().for_each(|mean| *mean /= count);
        let deviation = variance.iter().map(|v| (v / count).sqrt().max(LEAST)).collect();
        Ok(Standardisation { mean, deviation })
    }

    /// Standardises elements of a layer.
    pub fn apply(&self, layer: usize, values: &mut [f32]) {
        // In f32, which is twice as quick: windows are bound by this.
        let (mean, factor) = (self.mean[layer] as f32, (1.0 / self.deviation[layer]) as f32);
        values.iter_mut().for_each(|v| *v = (*v - mean) * factor);
    }

    /// Undoes [`apply`](Self::apply).
    pub fn undo(&self, layer: usize, values: &mut [f32]) {
        let (mean, deviation) = (self.mean[layer], self.deviation[layer]);
        values.iter_mut().for_each(|v| *v = (f64::from(*v) * deviation + mean) as f32);
    }

    /// Standardises all tokens of a network; what they are filled up with stays 0.
    pub fn apply_all(&self, layout: &TokenLayout, tokens: &mut [f32]) {
        self.all(layout, tokens, |layer, row| self.apply(layer, row));
    }

    /// Undoes [`apply_all`](Self::apply_all).
    pub fn undo_all(&self, layout: &TokenLayout, tokens: &mut [f32]) {
        self.all(layout, tokens, |layer, row| self.undo(layer, row));
    }

    fn all(&self, layout: &TokenLayout, tokens: &mut [f32], change: impl Fn(usize, &mut [f32])) {
        let size = layout.token_size();
        for (index, layer) in layout.layers().iter().enumerate() {
            let own = &mut tokens[layer.first * size..layer.tokens().end * size];
            let rows = own.chunks_exact_mut(layer.chunks * size);
            rows.for_each(|row| change(index, &mut row[..layer.width()]));
        }
    }
}

/// Mean and variance.
fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let square = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
    (mean, square / count)
}
