//! Bits per layer: how coarse each layer's step may be for the same total damage.
//!
//! The damage of rounding a layer of n weights with step s is about a * s^2, its size n * -log2 s
//! bits. The least damage for a size has a * s^2 / n equal for all layers: s = t * sqrt(n / a), and
//! one number `t` steers the whole file.

use weightspace_core::StateDict;
use weightspace_nn::Engine;
use weightspace_nn::engine::EngineError;
use weightspace_nn::net::Net;

use super::fold::Folded;
use super::grid::{Grid, usual_magnitude};
use super::layer::LayerChoice;
use super::layerwise::probe_layers;

/// Step, in root mean squares of a layer's weights, with which sensitivities are measured.
const PROBE_STEP: f64 = 0.7;

/// Temperature of the class probabilities whose divergence is measured. A network is all but certain of
/// its training images: at temperature 1 a few of them would decide.
const TEMPERATURE: f32 = 4.0;

/// The most by which a layer's relative step may differ from the network's.
const MOST_OCTAVES: f64 = 2.5;

/// Relative step of every layer; the steps of a file are these times one number.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// Step of every layer, such that the mean over all weights of log2(step / rms) is 0.
    steps: Vec<f64>,
}

fn weight_rms(folded: &Folded) -> Vec<f64> {
    let rms =
        |name: &String| folded.weights.get(name).map_or(0.0, |t| usual_magnitude(&t.to_f32()));
    folded.layers.iter().map(|l| rms(&l.weight).max(1e-30)).collect()
}

impl Allocation {
    /// The same signal-to-noise ratio in every layer: when there is nothing to measure with.
    pub fn uniform(folded: &Folded) -> Self {
        Allocation { steps: weight_rms(folded) }
    }

    /// From the damage that each layer alone does to the network's outputs on held-out images:
    /// the mean Kullback-Leibler divergence of its softened class probabilities from the original's.
    ///
    /// # Errors
    /// If the weights do not fit the network.
    pub fn measured(
        net: &Net,
        folded: &Folded,
        images: &[f32],
        held_out: &[f32],
        price: f64,
        progress: &dyn Fn(usize),
    ) -> Result<Self, EngineError> {
        let rms = weight_rms(folded);
        let grid = |rms: &f64| Grid::Step((PROBE_STEP * rms) as f32);
        let choices: Vec<_> = rms.iter().map(|r| LayerChoice { grid: grid(r), price }).collect();
        let mut engine = Engine::new(net, &folded.weights)?;
        let reference = soft_logits(&engine, held_out)?;
        let mut damage = vec![0.0; rms.len()];
        let measure = |layer: usize, step: usize, weights: &StateDict| {
            engine.reload_step(step, weights)?;
            let changed = soft_logits(&engine, held_out)?;
            damage[layer] = divergence(&reference, &changed, engine.class_count());
            progress(layer + 1);
            engine.reload_step(step, &folded.weights)
        };
        probe_layers(net, folded, images, &choices, measure)?;
        // log2 of the step that does one weight's fair share of the damage, in rms of the layer.
        let counts = || folded.layers.iter().map(|l| (l.rows * l.columns) as f64);
        let relative: Vec<f64> =
            counts().zip(&damage).map(|(n, d)| 0.5 * (n / d.max(1e-12)).log2()).collect();
        let total: f64 = counts().sum();
        let mean = counts().zip(&relative).map(|(n, r)| n * r).sum::<f64>() / total;
        let bounded = relative.iter().map(|r| (r - mean).clamp(-MOST_OCTAVES, MOST_OCTAVES));
        Ok(Allocation { steps: bounded.zip(rms).map(|(r, rms)| rms * r.exp2()).collect() })
    }

    /// The step of every layer for t = 1.
    pub fn steps(&self) -> &[f64] {
        &self.steps
    }

    /// The choices for one value of `t`.
    pub fn choices(&self, t: f64, price: f64) -> Vec<LayerChoice> {
        let choice = |step: &f64| LayerChoice { grid: Grid::Step((step * t) as f32), price };
        self.steps.iter().map(choice).collect()
    }
}

/// Logits, divided by the temperature.
fn soft_logits(engine: &Engine, images: &[f32]) -> Result<Vec<f32>, EngineError> {
    let mut logits = vec![0.0; images.len() / engine.input_len() * engine.class_count()];
    engine.forward(images, &mut logits)?;
    logits.iter_mut().for_each(|logit| *logit /= TEMPERATURE);
    Ok(logits)
}

/// Mean over images of KL(softmax(reference) || softmax(other)).
pub fn divergence(reference: &[f32], other: &[f32], classes: usize) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let largest = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
        let sum: f64 = row.iter().map(|&v| f64::from(v - largest).exp()).sum();
        row.iter().map(|&v| f64::from(v - largest) - sum.ln()).collect()
    };
    let rows = reference.chunks_exact(classes).zip(other.chunks_exact(classes));
    let count = rows.len().max(1) as f64;
    let total: f64 = rows
        .map(|(a, b)| {
            let (a, b) = (log_softmax(a), log_softmax(b));
            a.iter().zip(&b).map(|(a, b)| a.exp() * (a - b)).sum::<f64>()
        })
        .sum();
    total / count
}

#[cfg(test)]
mod tests {
    use super::divergence;

    #[test]
    fn divergence_of_known_distributions() {
        assert_eq!(divergence(&[0.0, 0.0], &[0.0, 0.0], 2), 0.0);
        // (1/2, 1/2) against (1/4, 3/4): ln 2 - ln 3 / 2.
        let other = [0.0, 3f32.ln()];
        let expected = 2f64.ln() - 0.5 * 3f64.ln();
        assert!((divergence(&[1.0, 1.0], &other, 2) - expected).abs() < 1e-7);
    }
}
