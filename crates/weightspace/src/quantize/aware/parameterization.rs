//! Rounded weights as the training loop sees them.

use std::ops::Range;

use weightspace_nn::Net;
use weightspace_nn::optim::ParameterGroups;
use weightspace_nn::train::Parameterization;

use super::Rounding;

/// Every weight is a coefficient; those of convolutions and linear layers are counted in steps of their layer's grid
/// and rounded. Optimisers that normalise gradients (Adam) then move all of them by the same part of a step.
pub struct QuantizationAware {
    rounding: Rounding,
    /// Step of every part that is rounded.
    steps: Vec<f32>,
    /// What is not trained.
    constant: Vec<Range<usize>>,
    groups: ParameterGroups,
    initial: Vec<f32>,
}

impl QuantizationAware {
    /// Around `weights` (in the order of [`Net::layout`]), with a step for every part that is rounded.
    ///
    /// # Panics
    /// If there are not as many weights as the network has, or steps as there are parts.
    pub(super) fn new(
        net: &Net,
        rounding: Rounding,
        steps: Vec<f32>,
        constant: Vec<Range<usize>>,
        weights: Vec<f32>,
    ) -> Self {
        let groups = ParameterGroups::from_layout(&net.layout());
        assert_eq!(weights.len(), groups.len(), "weights of {}", net.arch());
        assert_eq!(steps.len(), rounding.parts().len(), "a step for every part");
        let mut initial = weights;
        for (part, step) in rounding.parts().iter().zip(&steps) {
            // A layer of zeros has no step.
            let per_step = if *step > 0.0 { step.recip() } else { 0.0 };
            initial[part.range.clone()].iter_mut().for_each(|weight| *weight *= per_step);
        }
        QuantizationAware { rounding, steps, constant, groups, initial }
    }

    /// How coefficients are rounded.
    pub fn rounding(&self) -> &Rounding {
        &self.rounding
    }

    /// Multiplies what is rounded with its steps.
    fn times_steps(&self, values: &mut [f32]) {
        for (part, step) in self.rounding.parts().iter().zip(&self.steps) {
            values[part.range.clone()].iter_mut().for_each(|value| *value *= step);
        }
    }
}

impl Parameterization for QuantizationAware {
    fn initial(&self) -> Vec<f32> {
        self.initial.clone()
    }

    fn groups(&self) -> ParameterGroups {
        self.groups.clone()
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        weights.copy_from_slice(coefficients);
        self.rounding.round(coefficients, weights);
        self.times_steps(weights);
    }

    fn pullback(&mut self, coefficients: &[f32], weight_gradient: &[f32], gradient: &mut [f32]) {
        gradient.copy_from_slice(weight_gradient);
        self.times_steps(gradient);
        self.rounding.add_gradient(coefficients, gradient);
        for range in &self.constant {
            gradient[range.clone()].fill(0.0);
        }
    }

    fn memory(&self) -> Vec<f64> {
        self.rounding.memory()
    }

    fn remember(&mut self, memory: &[f64]) {
        self.rounding.remember(memory);
    }
}
