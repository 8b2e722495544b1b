//! Rounded weights as the training loop sees them.

use std::collections::BTreeMap;
use std::ops::Range;

use weightspace_nn::Net;
use weightspace_nn::optim::ParameterGroups;
use weightspace_nn::train::Parameterization;

use super::AwareConfig;
use super::rate::Rate;

/// How fast the price of a bit rises with the excess over the target: e-fold for every 1/50 of it.
const URGENCY: f64 = 50.0;

/// The price of a bit is at most so many e-folds from the configuration's.
const MOST_FOLDS: f64 = 4.0;

/// Every weight is a coefficient; those of convolutions and linear layers are rounded.
pub struct QuantizationAware {
    layers: Vec<Layer>,
    groups: ParameterGroups,
    initial: Vec<f32>,
    rounding_price: f32,
    /// Of one bit, where the file has its target size.
    rate_price: f64,
    /// What all layers may cost together.
    target_bits: f64,
}

/// A tensor that is rounded.
struct Layer {
    name: String,
    weights: Range<usize>,
    step: f32,
    /// What its integers cost since weights were last expanded.
    rate: Rate,
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
        let layers = layout.entries().iter().filter_map(|entry| {
            let &step = steps.get(&entry.name)?;
            Some(Layer {
                name: entry.name.clone(),
                weights: entry.range(),
                step,
                rate: Rate::new([].into_iter()),
            })
        });
        let layers: Vec<Layer> = layers.collect();
        let rounded: usize = layers.iter().map(|layer| layer.weights.len()).sum();
        QuantizationAware {
            layers,
            groups,
            initial: weights,
            rounding_price: config.rounding_price as f32,
            rate_price: config.rate_price / rounded.max(1) as f64,
            target_bits,
        }
    }

    /// The integers of rounded tensors by name, at a price of a bit in squared steps.
    pub fn integers(
        &mut self,
        coefficients: &[f32],
        rounding_price: f32,
    ) -> BTreeMap<String, Vec<i32>> {
        let of = |layer: &mut Layer| {
            let mut rounded = vec![0.0; layer.weights.len()];
            layer.round(coefficients, rounding_price, &mut rounded);
            let integers = rounded.iter().map(|&weight| (weight / layer.step).round() as i32);
            (layer.name.clone(), integers.collect())
        };
        self.layers.iter_mut().map(of).collect()
    }

    /// Bits of all integers by their frequencies when weights were last expanded.
    pub fn bits(&self, coefficients: &[f32]) -> f64 {
        let of = |layer: &Layer| -> f64 {
            let weights = coefficients[layer.weights.clone()].iter();
            let bits = weights.map(|weight| {
                let integer = layer.rate.round(weight / layer.step, self.rounding_price);
                f64::from(layer.rate.of(integer.abs()))
            });
            bits.sum()
        };
        self.layers.iter().map(of).sum()
    }

    /// The price of a bit now.
    fn price(&self, coefficients: &[f32]) -> f64 {
        let excess = self.bits(coefficients) / self.target_bits - 1.0;
        self.rate_price * (URGENCY * excess).clamp(-MOST_FOLDS, MOST_FOLDS).exp()
    }
}

impl Layer {
    /// Writes rounded weights. What integers cost follows from how often they occur, and that from what they
    /// cost: twice is enough.
    fn round(&mut self, coefficients: &[f32], price: f32, weights: &mut [f32]) {
        let own = &coefficients[self.weights.clone()];
        let per_step = self.step.recip();
        self.rate = Rate::new(own.iter().map(|weight| (weight * per_step).round() as i32));
        for _ in 0..2 {
            for (rounded, weight) in weights.iter_mut().zip(own) {
                *rounded = self.rate.round(weight * per_step, price);
            }
            self.rate = Rate::new(weights.iter().map(|&rounded| rounded as i32));
        }
        weights.iter_mut().for_each(|weight| *weight *= self.step);
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
        for layer in &mut self.layers {
            let range = layer.weights.clone();
            layer.round(coefficients, self.rounding_price, &mut weights[range]);
        }
    }

    fn pullback(&mut self, coefficients: &[f32], weight_gradient: &[f32], gradient: &mut [f32]) {
        gradient.copy_from_slice(weight_gradient);
        let price = self.price(coefficients);
        for layer in &self.layers {
            let per_step = layer.step.recip();
            let price = price as f32 * per_step;
            let own = gradient[layer.weights.clone()].iter_mut();
            for (gradient, weight) in own.zip(&coefficients[layer.weights.clone()]) {
                let value = weight * per_step;
                *gradient += (price * layer.rate.slope(value.abs())).copysign(value);
            }
        }
    }
}
