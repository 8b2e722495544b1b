//! Rounded weights as the training loop sees them.

use std::collections::BTreeMap;

use weightspace_nn::Net;
use weightspace_nn::optim::ParameterGroups;
use weightspace_nn::train::Parameterization;

use super::{AwareConfig, RatePrices, RoundedPart, Rounding};

/// The largest magnitude of an integer in a file.
const LARGEST: f32 = (1 << 24) as f32 - 1.0;

/// Every weight is a coefficient; those of convolutions and linear layers are rounded.
pub struct QuantizationAware {
    rounding: Rounding,
    groups: ParameterGroups,
    initial: Vec<f32>,
}

impl QuantizationAware {
    /// Around `weights` (in the order of [`Net::layout`]), with the steps of rounded tensors by name, which may have
    /// `target_bits` together.
    ///
    /// # Panics
    /// If there are not as many weights as the network has.
    pub fn new(
        net: &Net,
        config: &AwareConfig,
        steps: &BTreeMap<String, f32>,
        target_bits: f64,
        weights: Vec<f32>,
    ) -> Self {
        let layout = net.layout();
        let groups = ParameterGroups::from_layout(&layout);
        assert_eq!(weights.len(), groups.len(), "weights of {}", net.arch());
        let parts = layout.entries().iter().filter_map(|entry| {
            let &step = steps.get(&entry.name)?;
            let (name, range, shape) = (entry.name.clone(), entry.range(), entry.shape.clone());
            Some(RoundedPart { name, range, shape, steps: vec![step], limit: LARGEST })
        });
        let (rounding, loss) = (config.rounding_price, config.rate_price);
        let prices = RatePrices { rounding, loss, target_bits };
        QuantizationAware {
            rounding: Rounding::new(parts.collect(), prices),
            groups,
            initial: weights,
        }
    }

    /// How weights are rounded.
    pub fn rounding(&self) -> &Rounding {
        &self.rounding
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
    }

    fn pullback(&mut self, coefficients: &[f32], weight_gradient: &[f32], gradient: &mut [f32]) {
        gradient.copy_from_slice(weight_gradient);
        self.rounding.add_gradient(coefficients, gradient);
    }

    fn memory(&self) -> Vec<f64> {
        self.rounding.memory()
    }

    fn remember(&mut self, memory: &[f64]) {
        self.rounding.remember(memory);
    }
}
