//! What training begins with, and how its result becomes a file of the target's size.

use std::collections::BTreeMap;

use weightspace_core::container::{self, Coding, Header, Quantized};
use weightspace_core::{LayoutEntry, StateDict};
use weightspace_nn::ModelState;
use weightspace_nn::engine::training::RunningStatistics;
use weightspace_nn::net::Net;

use super::{
    AwareConfig, QuantizationAware, RatePrices, RoundedPart, Rounding, coder_bits, smallest_price,
};
use crate::quantize::codings;
use crate::quantize::fold::Folded;
use crate::quantize::grid::round_vector;
use crate::quantize::layer::QuantizedLayer;
use crate::quantize::layerwise::store;
use crate::quantize::{Images, Preparation, Prepared, Progress, QuantizeError, Target};

/// Part of the target that training aims for: it does not hit exactly.
pub(crate) const MARGIN: f64 = 0.99;

/// Part of the target beyond which rounding itself is made coarser. Biases are rounded only in the file, and may
/// differ by so much.
const MOST: f64 = 0.997;

/// The largest magnitude of an integer in a file.
const LARGEST: f32 = (1 << 24) as f32 - 1.0;

/// What training begins with: the network as second-order rounding leaves it.
#[derive(Clone, Debug)]
pub struct AwarePlan {
    /// The network that is in second-order rounding's file.
    pub start: StateDict,
    /// The original, of which a file has all tensors.
    original: StateDict,
    folded: Folded,
    /// How second-order rounding stores every layer.
    layers: Vec<QuantizedLayer>,
    /// What integers of weights may cost in the file: training's aim, and at most.
    aim_bits: f64,
    most_bits: f64,
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
        let layers = prepared.layers(header, Target::Bytes((MARGIN * target) as u64), progress)?;
        let file = container::encode(header, &prepared.codings(layers.clone()))?.len() as f64;
        let mut plan = AwarePlan {
            start: StateDict::new(),
            original: original.clone(),
            folded: prepared.folded().clone(),
            layers,
            aim_bits: 0.0,
            most_bits: 0.0,
        };
        plan.start = plan.started();
        let of_layer =
            |(name, layer): (&str, &QuantizedLayer)| (name.to_owned(), layer.weight.values.clone());
        let integers = plan.named_layers().map(of_layer).collect();
        let rest = 8.0 * file - coder_bits(&plan.parts(net), integers);
        (plan.aim_bits, plan.most_bits) =
            (8.0 * MARGIN * target - rest, 8.0 * MOST * target - rest);
        Ok(plan)
    }

    /// Layers by the name of their weight.
    fn named_layers(&self) -> impl Iterator<Item = (&str, &QuantizedLayer)> {
        self.folded.layers.iter().map(|layer| &layer.weight[..]).zip(&self.layers)
    }

    fn started(&self) -> StateDict {
        let mut start = self.folded.weights.clone();
        for (layer, quantized) in self.folded.layers.iter().zip(&self.layers) {
            store(&mut start, layer, quantized);
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
            most_bits: self.most_bits,
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
