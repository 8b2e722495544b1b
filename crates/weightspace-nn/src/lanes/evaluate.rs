//! How well the models of a group do.

use super::kernels::cross_entropy;
use super::workspace::Workspace;
use super::{LANES, LaneImages, LaneTrainer, Vector, zeros};
use crate::train::Score;

impl LaneTrainer<'_> {
    /// Loss and accuracy of every model on all of these images.
    ///
    /// # Panics
    /// If the images have not as many values and classes as those that the models are trained on.
    pub fn evaluate(&self, images: &LaneImages) -> Vec<Score> {
        let (plan, set) = (&self.plan, self.set);
        let (inputs, classes) = (plan.lengths[0], plan.class_count());
        assert!(images.check(inputs, classes).is_ok(), "images of the models' shape and classes");
        let mut workspace = Workspace::new(plan, false);
        let mut gradient = zeros(classes);
        let (mut losses, mut correct) = ([0.0; LANES], [0; LANES]);
        for first in (0..images.len()).step_by(plan.chunk) {
            let samples = plan.chunk.min(images.len() - first);
            let targets = workspace.values[0].chunks_exact_mut(inputs);
            for (sample, target) in targets.take(samples).enumerate() {
                images.broadcast(first + sample, target);
            }
            plan.forward(set, &self.weights, &mut workspace, samples, None);
            let logits = workspace.values[plan.passes.len()].chunks_exact(classes);
            for (sample, logits) in logits.take(samples).enumerate() {
                let label = images.label(first + sample);
                let of_sample = cross_entropy(set, logits, &[label; LANES], 1.0, &mut gradient);
                losses.iter_mut().zip(of_sample).for_each(|(sum, loss)| *sum += loss);
                let best = largest(logits);
                for (correct, best) in correct.iter_mut().zip(best) {
                    *correct += usize::from(best == usize::from(label));
                }
            }
        }
        let total = images.len();
        let score = |model: usize| Score {
            correct: correct[model],
            total,
            loss: losses[model] / total.max(1) as f64,
        };
        (0..self.model_count()).map(score).collect()
    }
}

/// Index of the largest logit of every model, as [`argmax`](crate::evaluate::argmax).
fn largest(logits: &[Vector]) -> [usize; LANES] {
    std::array::from_fn(|lane| {
        let mut best = 0;
        for i in 1..logits.len() {
            let (value, current) = (logits[i].0[lane], logits[best].0[lane]);
            if value > current || current.is_nan() {
                best = i;
            }
        }
        best
    })
}
