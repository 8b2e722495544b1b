//! What training begins with, and how its result becomes a file of the target's size.

use std::collections::BTreeMap;

use weightspace_core::container::{self, Coding, Header, Quantized};
use weightspace_core::{LayoutEntry, StateDict, Tensor};
use weightspace_nn::ModelState;
use weightspace_nn::engine::training::RunningStatistics;
use weightspace_nn::net::Net;

use super::rate::Rate;
use super::rounding::integers;
use super::{
    AwareConfig, QuantizationAware, RatePrices, RoundedPart, Rounding, coder_bits, smallest_price,
};
use crate::quantize::codings;
use crate::quantize::fold::Folded;
use crate::quantize::grid::round_vector;
use crate::quantize::layer::QuantizedLayer;
use crate::quantize::{Images, Preparation, Prepared, Progress, QuantizeError, Target};

/// Part of the target that training aims for: it does not hit exactly.
pub(crate) const MARGIN: f64 = 0.99;

/// Parts of the target between which the integers are kept by rounding them more finely or coarsely. Biases are
/// rounded only in the file, and may differ by what is left.
const ALLOWED: [f64; 2] = [0.993, 0.997];

/// The largest magnitude of an integer in a file.
const LARGEST: f32 = (1 << 24) as f32 - 1.0;

/// How far weights that second-order rounding moves are taken beyond where they are just so rounded: part of the
/// way that is left to the middle.
const BEYOND: f32 = 0.3;

/// What training begins with: the network as second-order rounding leaves it.
#[derive(Clone, Debug)]
pub struct AwarePlan {
    /// The weights of the folded network, each as near to the original's as it may be where it is still rounded to
    /// second-order rounding's integer, and its biases.
    pub start: StateDict,
    /// The original, of which a file has all tensors.
    original: StateDict,
    folded: Folded,
    /// How second-order rounding stores every layer.
    layers: Vec<QuantizedLayer>,
    /// What integers of weights may cost in the file: training's aim, at least and at most.
    aim_bits: f64,
    allowed_bits: [f64; 2],
}

impl AwarePlan {
    /// Rounds the original to the target.
    ///
    /// # Errors
    /// If the images do not fit the network, or the target cannot be reached.
    pub fn new(
        net: &Net,
        header: &Header,
        original: &StateDict,
        images: Images<'_>,
        config: &AwareConfig,
        seed: u64,
        progress: Progress<'_>,
    ) -> Result<Self, QuantizeError> {
        let preparation = Preparation { fold: true, calibrate: config.calibrate, seed };
        let prepared = Prepared::new(original, Some(net), Some(images), preparation)?;
        let target = config.target_bytes as f64;
        let begin = Target::Bytes((MARGIN * target) as u64);
        let layers = prepared.layers(header, begin, progress).map_err(|error| match error {
            QuantizeError::OutOfReach(why) => QuantizeError::OutOfReach(format!(
                "{} bytes cannot be reached: training begins with {MARGIN} of it, and {why}",
                config.target_bytes
            )),
            other => other,
        })?;
        let file = container::encode(header, &prepared.codings(layers.clone()))?.len() as f64;
        let mut plan = AwarePlan {
            start: StateDict::new(),
            original: original.clone(),
            folded: prepared.folded().clone(),
            layers,
            aim_bits: 0.0,
            allowed_bits: [0.0; 2],
        };
        plan.start = plan.started(config.rounding_price as f32);
        let of_layer =
            |(name, layer): (&str, &QuantizedLayer)| (name.to_owned(), layer.weight.values.clone());
        let integers = plan.named_layers().map(of_layer).collect();
        let rest = 8.0 * file - coder_bits(&plan.parts(net), integers);
        let bits = |part: f64| 8.0 * part * target - rest;
        (plan.aim_bits, plan.allowed_bits) = (bits(MARGIN), ALLOWED.map(bits));
        Ok(plan)
    }

    /// Layers by the name of their weight.
    fn named_layers(&self) -> impl Iterator<Item = (&str, &QuantizedLayer)> {
        self.folded.layers.iter().map(|layer| &layer.weight[..]).zip(&self.layers)
    }

    fn started(&self, price: f32) -> StateDict {
        let mut start = self.folded.weights.clone();
        for (layer, quantized) in self.folded.layers.iter().zip(&self.layers) {
            if let Some(weight) = start.get(&layer.weight) {
                let near = near(&weight.to_f32(), &quantized.weight, price);
                let near = Tensor::from_f32(quantized.weight.shape.clone(), &near);
                start.insert(layer.weight.clone(), near);
            }
            if let (Some(name), Some(bias)) = (&layer.bias, &quantized.bias) {
                let bias = Tensor::from_f32(bias.shape.clone(), &bias.dequantize());
                start.insert(name.clone(), bias);
            }
        }
        start
    }

    /// What is rounded, in steps.
    fn parts(&self, net: &Net) -> Vec<RoundedPart> {
        let names: BTreeMap<&str, &QuantizedLayer> = self.named_layers().collect();
        let layout = net.layout();
        let part = |entry: &LayoutEntry| {
            names.contains_key(&entry.name[..]).then(|| RoundedPart {
                name: entry.name.clone(),
                range: entry.range(),
                shape: entry.shape.clone(),
                steps: vec![1.0],
                limit: LARGEST,
            })
        };
        layout.entries().iter().filter_map(part).collect()
    }

    /// The parameterization of training.
    ///
    /// # Panics
    /// If there are not as many weights as the network has.
    pub fn parameterization(
        &self,
        net: &Net,
        config: &AwareConfig,
        weights: Vec<f32>,
    ) -> QuantizationAware {
        let prices = RatePrices {
            rounding: config.rounding_price,
            loss: config.rate_price,
            target_bits: self.aim_bits,
            allowed_bits: self.allowed_bits,
        };
        let steps: BTreeMap<&str, f32> =
            self.named_layers().map(|(name, layer)| (name, layer.weight.scale)).collect();
        let parts = self.parts(net);
        let steps = parts.iter().map(|part| steps[&part.name[..]]).collect();
        let layout = net.layout();
        let is_constant = |name: &String| self.folded.constants.contains_key(name);
        let constant = layout.entries().iter().filter(|entry| is_constant(&entry.name));
        let constant = constant.map(|entry| entry.range()).collect();
        QuantizationAware::new(net, Rounding::new(parts, prices), steps, constant, weights)
    }

    /// The file of trained weights, at most as large as the target: rounded as in the last steps of training, of which
    /// the method's `memory` tells; if that gives more, the price of rounding rises.
    ///
    /// # Errors
    /// If the target is out of reach.
    pub fn encode(
        &self,
        net: &Net,
        header: &Header,
        config: &AwareConfig,
        (coefficients, memory): (&[f32], &[f64]),
        running: &RunningStatistics,
    ) -> Result<Vec<u8>, QuantizeError> {
        let method = self.parameterization(net, config, coefficients.to_vec());
        let state = ModelState { weights: coefficients.to_vec(), running: running.clone() };
        // Of the rounded tensors these are the coefficients, which are not used.
        let folded = Folded { weights: state.to_state_dict(net), ..self.folded.clone() };
        let target = config.target_bytes;
        let price = Rounding::price_of(memory, config.rounding_price);
        let file = smallest_price(price, target, |price| {
            let given =
                self.codings(&folded.weights, method.rounding().integers(coefficients, price));
            let codings = codings::all(&self.original, Some(net), &folded, given);
            Ok::<_, QuantizeError>(container::encode(header, &codings)?)
        })?;
        let text = || format!("{target} bytes cannot be reached");
        file.ok_or_else(|| QuantizeError::OutOfReach(text()))
    }

    /// The layers' weights and biases, as second-order rounding would store them.
    fn codings(
        &self,
        trained: &StateDict,
        mut integers: BTreeMap<String, Vec<i32>>,
    ) -> BTreeMap<String, Coding> {
        let mut codings = BTreeMap::new();
        for (layer, quantized) in self.folded.layers.iter().zip(&self.layers) {
            if let Some(values) = integers.remove(&layer.weight) {
                let weight = Quantized { values, ..quantized.weight.clone() };
                codings.insert(layer.weight.clone(), Coding::Quantized(weight));
            }
            let bias = layer.bias.as_ref().and_then(|name| Some((name, trained.get(name)?)));
            if let (Some((name, values)), Some(rounded)) = (bias, &quantized.bias) {
                let bias = round_vector(&values.to_f32(), &rounded.shape, rounded.scale);
                codings.insert(name.clone(), Coding::Quantized(bias));
            }
        }
        codings
    }
}

/// Every weight as near to where it was as it may be to be rounded as it has been, and a little beyond.
fn near(weights: &[f32], rounded: &Quantized, price: f32) -> Vec<f32> {
    const HALVINGS: usize = 10;
    if rounded.scale <= 0.0 {
        // A layer of zeros has no step.
        return weights.to_vec();
    }
    let rate = Rate::new(rounded.values.iter().copied());
    let near = |(&weight, &integer): (&f32, &i32)| {
        let (from, to) = (weight / rounded.scale, integer as f32);
        let at = |share: f32| from + share * (to - from);
        if rate.round(from, price) == to {
            return from;
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            match rate.round(at(middle), price) == to {
                true => high = middle,
                false => low = middle,
            }
        }
        at(high + BEYOND * (1.0 - high))
    };
    let mut in_steps: Vec<f32> = weights.iter().zip(&rounded.values).map(near).collect();
    settle(&mut in_steps, rounded, price);
    in_steps.iter().map(|value| value * rounded.scale).collect()
}

/// Training finds the price of bits from the values themselves, which is not quite that of the integers they are to
/// become: what it would round otherwise is moved to its integer.
fn settle(in_steps: &mut [f32], rounded: &Quantized, price: f32) {
    const ROUNDS: usize = 8;
    let part = RoundedPart {
        name: String::new(),
        range: 0..in_steps.len(),
        shape: rounded.shape.clone(),
        steps: vec![1.0],
        limit: LARGEST,
    };
    let mut found = vec![0.0; in_steps.len()];
    for _ in 0..ROUNDS {
        integers(&part, in_steps, price, &mut found);
        let pairs = in_steps.iter_mut().zip(found.iter().zip(&rounded.values));
        let wrong = pairs.filter(|(_, (found, wanted))| **found != **wanted as f32);
        if wrong.map(|(value, (_, &wanted))| *value = wanted as f32).count() == 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_moved_no_farther_than_where_they_are_rounded_so() {
        let values = vec![0, 1, -2, 0, 3, 1];
        let rounded = Quantized { shape: vec![6], scale: 0.5, channel_exponents: None, values };
        let weights = [0.1f32, 0.52, -0.6, 0.45, 1.5, -0.5];
        let found = near(&weights, &rounded, 0.0);
        assert_eq!((found[0], found[1], found[4]), (0.1, 0.52, 1.5));
        for (&found, (&weight, &integer)) in found.iter().zip(weights.iter().zip(&rounded.values)) {
            assert_eq!((found / 0.5).round() as i32, integer, "{weight} is rounded from {found}");
        }
        let zeros = Quantized { scale: 0.0, values: vec![0; 6], ..rounded.clone() };
        assert_eq!(near(&[0.0; 6], &zeros, 0.1), [0.0; 6]);
        // To 1.5 steps, and 0.3 of the way from there to 2.
        assert!((found[2] + 0.5 * 1.65).abs() < 1e-3, "{}", found[2]);
    }
}
