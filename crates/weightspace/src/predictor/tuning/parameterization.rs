//! A rounded predictor as the training loop sees it.

use weightspace_nn::optim::ParameterGroups;
use weightspace_nn::train::Parameterization;

use crate::predictor::PredictedWeights;
use crate::quantize::aware::Rounding;

/// Weights of a network as a predictor of rounded coefficients gives them.
pub struct RoundedPredictor<'a> {
    /// Of the predictor's matrices.
    matrices: Rounding,
    /// Of its biases, whose bits have no price.
    vectors: Rounding,
    predicted: PredictedWeights<'a>,
    /// The coefficients last expanded, rounded.
    rounded: Vec<f32>,
}

impl<'a> RoundedPredictor<'a> {
    /// Rounds what a predictor's weights are made of.
    pub(super) fn new(
        matrices: Rounding,
        vectors: Rounding,
        predicted: PredictedWeights<'a>,
    ) -> Self {
        let rounded = predicted.initial();
        RoundedPredictor { matrices, vectors, predicted, rounded }
    }
}

impl Parameterization for RoundedPredictor<'_> {
    fn initial(&self) -> Vec<f32> {
        self.predicted.initial()
    }

    fn groups(&self) -> ParameterGroups {
        self.predicted.groups()
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        self.rounded.copy_from_slice(coefficients);
        self.matrices.round(coefficients, &mut self.rounded);
        self.vectors.round(coefficients, &mut self.rounded);
        self.predicted.expand(&self.rounded, weights);
    }

    fn pullback(&mut self, coefficients: &[f32], weight_gradient: &[f32], gradient: &mut [f32]) {
        self.predicted.pullback(&self.rounded, weight_gradient, gradient);
        self.matrices.add_gradient(coefficients, gradient);
    }

    fn memory(&self) -> Vec<f64> {
        self.matrices.memory()
    }

    fn remember(&mut self, memory: &[f64]) {
        self.matrices.remember(memory);
    }
}
