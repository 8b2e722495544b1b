//! The second phase: a network trains the predictor of its weights.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use weightspace_nn::Net;
use weightspace_nn::engine::training::{Batch, NormMode, TrainingEngine, TrainingOptions};
use weightspace_nn::loss::Linear;
use weightspace_nn::optim::{ParameterGroup, ParameterGroups};
use weightspace_nn::train::Parameterization;

use super::{Model, Target};

/// What becomes of the tensors that are not predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Others {
    /// They stay as they are.
    #[default]
    Fixed,
    /// They are trained along.
    Trained,
}

/// Weights of a network as a predictor gives them. The trained vector holds the predictor's coefficients,
/// then the tensors that are trained along, in the order of the network's layout.
///
/// All rows are predicted in every step, and all have a gradient. On the way back they are predicted
/// again, chunk by chunk, so that memory does not grow with the rows.
pub struct PredictedWeights<'a> {
    model: &'a Model,
    target: &'a Target,
    /// Tensors that are trained along: where they stand in the network's weights, and their shapes.
    dense: Vec<(Range<usize>, Vec<usize>)>,
    engine: TrainingEngine,
    initial: Vec<f32>,
    /// Weights of the row network, and their gradient.
    row_weights: Vec<f32>,
    row_weight_gradient: Vec<f32>,
    /// Predicted rows; or, on the way back, their gradient.
    rows: Vec<f32>,
    reconstruction: Option<Pull>,
}

/// The loss of reconstruction as a part of another loss.
struct Pull {
    /// What the root mean square of errors counts.
    price: f64,
    /// The network's weights when they were last expanded.
    weights: Vec<f32>,
    /// The gradient with respect to them.
    gradient: Vec<f32>,
}

impl<'a> PredictedWeights<'a> {
    /// The weights that a predictor with these coefficients gives; all others are those of the target.
    ///
    /// # Panics
    /// If model, target, network and coefficients do not belong together.
    pub fn new(
        net: &Net,
        model: &'a Model,
        target: &'a Target,
        coefficients: &[f32],
        others: Others,
        threads: usize,
    ) -> Self {
        assert_eq!(coefficients.len(), model.coefficients().len(), "coefficients of the predictor");
        assert_eq!(target.weights().len(), net.parameter_count(), "weights of {}", net.arch());
        let layout = net.layout();
        let is_predicted =
            |range: &Range<usize>| target.tensors().iter().any(|t| t.weights == *range);
        let tensors = layout.entries().iter().map(|entry| (entry.range(), entry.shape.clone()));
        let dense: Vec<_> = match others {
            Others::Fixed => Vec::new(),
            Others::Trained => tensors.filter(|(range, _)| !is_predicted(range)).collect(),
        };
        let mut initial = coefficients.to_vec();
        for (range, _) in &dense {
            initial.extend_from_slice(&target.weights()[range.clone()]);
        }
        let count = model.net().parameter_count();
        PredictedWeights {
            engine: TrainingEngine::new(
                model.net(),
                TrainingOptions::new(model.row_count(), threads),
            ),
            row_weights: vec![0.0; count],
            row_weight_gradient: vec![0.0; count],
            rows: vec![0.0; model.row_count() * target.head()],
            model,
            target,
            dense,
            initial,
            reconstruction: None,
        }
    }

    /// Adds the root mean square of errors of the predicted weights, times this, to the loss; 0 for nothing.
    pub fn with_reconstruction(self, price: f64) -> Self {
        let zeros = || vec![0.0; self.target.weights().len()];
        let pull = Pull { price, weights: zeros(), gradient: zeros() };
        PredictedWeights { reconstruction: Some(pull).filter(|pull| pull.price != 0.0), ..self }
    }

    /// Writes the tensors that are trained along, which stand behind the predictor's coefficients.
    pub(super) fn write_others(&self, coefficients: &[f32], weights: &mut [f32]) {
        let mut dense = &coefficients[self.coefficient_count()..];
        for (range, _) in &self.dense {
            let (values, rest) = dense.split_at(range.len());
            weights[range.clone()].copy_from_slice(values);
            dense = rest;
        }
    }

    /// Number of coefficients of the predictor, with which the trained vector begins.
    pub fn coefficient_count(&self) -> usize {
        self.model.coefficients().len()
    }
}

impl Pull {
    /// A gradient with that of the root mean square of errors.
    fn add_to(&mut self, gradient: &[f32], target: &Target) -> &[f32] {
        self.gradient.copy_from_slice(gradient);
        let error = target.rmse(&self.weights).max(f64::MIN_POSITIVE);
        let factor = (self.price / (error * target.element_count() as f64)) as f32;
        for tensor in target.tensors() {
            let range = tensor.weights.clone();
            let pairs = self.weights[range.clone()].iter().zip(&target.weights()[range.clone()]);
            for (gradient, (found, wanted)) in self.gradient[range].iter_mut().zip(pairs) {
                *gradient += factor * (found - wanted);
            }
        }
        &self.gradient
    }
}

/// All rows, as a batch of the row network.
fn all_rows(model: &Model) -> Batch<'_> {
    Batch { inputs: model.inputs(), first: 0, mode: NormMode::Running, dropout: None }
}

impl Parameterization for PredictedWeights<'_> {
    fn initial(&self) -> Vec<f32> {
        self.initial.clone()
    }

    fn groups(&self) -> ParameterGroups {
        let layout = self.model.coefficients();
        let mut groups = ParameterGroups::from_layout(layout).as_slice().to_vec();
        let mut end = layout.len();
        for (range, shape) in &self.dense {
            groups.push(ParameterGroup::new(end, shape.clone()));
            end += range.len();
        }
        ParameterGroups::new(groups).expect("tensors one behind the other")
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        self.model.expand(&coefficients[..self.coefficient_count()], &mut self.row_weights);
        self.engine.forward(&self.row_weights, all_rows(self.model), &mut self.rows);
        weights.copy_from_slice(self.target.weights());
        self.target.write_weights(&self.rows, weights);
        self.write_others(coefficients, weights);
        if let Some(pull) = &mut self.reconstruction {
            pull.weights.copy_from_slice(weights);
        }
    }

    fn pullback(&mut self, coefficients: &[f32], gradient: &[f32], target: &mut [f32]) {
        let count = self.coefficient_count();
        let gradient = match &mut self.reconstruction {
            Some(pull) => pull.add_to(gradient, self.target),
            None => gradient,
        };
        self.target.write_row_gradient(gradient, &mut self.rows);
        let loss = Linear::new(&self.rows, self.target.head());
        let batch = all_rows(self.model);
        self.engine.step(&self.row_weights, batch, &loss, &[], &mut self.row_weight_gradient);
        let (own, mut dense) = target.split_at_mut(count);
        self.model.pullback(&coefficients[..count], &self.row_weight_gradient, own);
        for (range, _) in &self.dense {
            let (values, rest) = dense.split_at_mut(range.len());
            values.copy_from_slice(&gradient[range.clone()]);
            dense = rest;
        }
    }
}
