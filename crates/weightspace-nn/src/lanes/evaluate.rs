//! How well the models of a group do.

use super::kernels::cross_entropy;
use super::tally::Tally;
use super::workspace::Workspace;
use super::{LANES, LaneImages, LaneTrainer, zeros};
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
        let mut tally = Tally::default();
        for first in (0..images.len()).step_by(plan.chunk) {
            let samples = plan.chunk.min(images.len() - first);
            let targets = workspace.values[0].chunks_exact_mut(inputs);
            for (sample, target) in targets.take(samples).enumerate() {
                images.broadcast(first + sample, target);
            }
            plan.forward(set, &self.weights, &mut workspace, samples, None);
            let logits = workspace.values[plan.passes.len()].chunks_exact(classes);
            for (sample, logits) in logits.take(samples).enumerate() {
                let labels = [images.label(first + sample); LANES];
                let losses = cross_entropy(set, logits, &labels, 1.0, &mut gradient);
                tally.count(losses, logits, &labels);
            }
        }
        tally.scores(self.model_count())
    }
}
