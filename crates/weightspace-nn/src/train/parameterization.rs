//! What a method is to the training loop.

use std::sync::Arc;

use crate::Net;
use crate::comm::Communicator;
use crate::optim::ParameterGroups;

/// A way to write a network's weights: the optimiser changes coefficients, the engine sees weights.
///
/// A method knows the flat vector of weights and perhaps its layout, never an architecture.
///
/// With several ranks every one of them has a copy with the same coefficients, and all call the same
/// methods in the same order. A method may divide its work among them and must end with the same bits on
/// all of them.
pub trait Parameterization {
    /// Takes what the ranks speak through: once, before everything else. A method that does not divide
    /// its work needs none.
    fn attach(&mut self, comm: Arc<dyn Communicator>) {
        drop(comm);
    }

    /// Coefficients to begin with. How many there are never changes.
    fn initial(&self) -> Vec<f32>;

    /// The coefficients as tensors, as optimisers see them.
    fn groups(&self) -> ParameterGroups;

    /// True if coefficients are the weights themselves: then they are used as such, and neither
    /// [`expand`](Self::expand) nor [`pullback`](Self::pullback) is called.
    fn is_identity(&self) -> bool {
        false
    }

    /// Writes the weights that the coefficients stand for, every one of them on every rank.
    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]);

    /// Writes the gradient with respect to all coefficients, given that of the whole batch with respect
    /// to the weights, which all ranks have:
    /// the transposed Jacobian of [`expand`](Self::expand) times it. The coefficients are those of the
    /// last call of `expand`, whose intermediate values may be used.
    fn pullback(
        &mut self,
        coefficients: &[f32],
        weight_gradient: &[f32],
        coefficient_gradient: &mut [f32],
    );

    /// What the method remembers of the steps so far besides the coefficients: checkpoints keep it. How many numbers
    /// there are never changes.
    fn memory(&self) -> Vec<f64> {
        Vec::new()
    }

    /// Remembers what [`memory`](Self::memory) gave.
    fn remember(&mut self, memory: &[f64]) {
        let _ = memory;
    }
}

/// Every weight is a coefficient of its own.
#[derive(Clone, Debug)]
pub struct Dense {
    weights: Vec<f32>,
    groups: ParameterGroups,
}

impl Dense {
    /// Weights of the network to begin with, in the order of [`Net::layout`].
    ///
    /// # Panics
    /// If there are more or fewer than the network has.
    pub fn new(net: &Net, weights: Vec<f32>) -> Self {
        let groups = ParameterGroups::from_layout(&net.layout());
        assert_eq!(weights.len(), groups.len(), "weights of {}", net.arch());
        Dense { weights, groups }
    }
}

impl Parameterization for Dense {
    fn initial(&self) -> Vec<f32> {
        self.weights.clone()
    }

    fn groups(&self) -> ParameterGroups {
        self.groups.clone()
    }

    fn is_identity(&self) -> bool {
        true
    }

    fn expand(&mut self, coefficients: &[f32], weights: &mut [f32]) {
        weights.copy_from_slice(coefficients);
    }

    fn pullback(&mut self, _: &[f32], weight_gradient: &[f32], coefficient_gradient: &mut [f32]) {
        coefficient_gradient.copy_from_slice(weight_gradient);
    }
}
