//! Taking a set of images through the network layer by layer, quantising on the way: each layer
//! sees the inputs that the quantised layers before it really give.

use rayon::prelude::*;
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::engine::{Activations, EngineError};
use weightspace_nn::net::Net;
use weightspace_nn::{Engine, NodeId};

use super::fold::{Folded, Layer};
use super::layer::{LayerChoice, QuantizedLayer, quantize_layer};
use super::statistics::{Inputs, Statistics, collect};

/// Output positions per input dimension that the statistics look at, within bounds.
const SAMPLES_PER_INPUT: usize = 24;
const LEAST_SAMPLES: usize = 16_384;
const MOST_SAMPLES: usize = 32_768;

/// One engine with all images brought up to some step.
struct Runner {
    engine: Engine,
    chunks: Vec<Activations>,
}

impl Runner {
    fn new(net: &Net, weights: &StateDict, images: &[f32]) -> Result<Self, EngineError> {
        let engine = Engine::new(net, weights)?;
        let chunk = engine.plan().chunk() * engine.input_len();
        let chunks = images.chunks(chunk).map(|images| {
            let mut activations = engine.take_activations();
            activations.load(net, engine.plan(), images);
            activations
        });
        let chunks = chunks.collect();
        Ok(Runner { engine, chunks })
    }

    fn run_step(&mut self, step: usize) {
        let engine = &self.engine;
        self.chunks.par_iter_mut().for_each(|chunk| engine.run_step(step, chunk));
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { engine: &self.engine, chunks: &self.chunks }
    }
}

fn samples(layer: &Layer) -> usize {
    (layer.columns * SAMPLES_PER_INPUT).clamp(LEAST_SAMPLES, MOST_SAMPLES)
}

/// Puts a quantised layer into a state dict.
pub fn store(weights: &mut StateDict, layer: &Layer, quantized: &QuantizedLayer) {
    let weight = &quantized.weight;
    let tensor = Tensor::from_f32(weight.shape.clone(), &weight.dequantize());
    weights.insert(layer.weight.clone(), tensor);
    if let (Some(name), Some(bias)) = (&layer.bias, &quantized.bias) {
        weights.insert(name.clone(), Tensor::from_f32(bias.shape.clone(), &bias.dequantize()));
    }
}

/// Weight (with its shape) and bias of a layer.
pub fn tensors<'a>(
    weights: &'a StateDict,
    layer: &Layer,
) -> Option<(&'a Tensor, Option<&'a Tensor>)> {
    let bias = layer.bias.as_ref().and_then(|name| weights.get(name));
    weights.get(&layer.weight).map(|weight| (weight, bias))
}

fn quantize_one(
    folded: &Folded,
    layer: &Layer,
    statistics: Option<&Statistics>,
    choice: LayerChoice,
) -> Result<QuantizedLayer, EngineError> {
    let missing = || EngineError::MissingTensor { name: layer.weight.clone() };
    let (weight, bias) = tensors(&folded.weights, layer).ok_or_else(missing)?;
    let bias = bias.map(Tensor::to_f32);
    let (shape, weight) = (weight.shape(), weight.to_f32());
    Ok(quantize_layer(layer, shape, &weight, bias.as_deref(), statistics, choice))
}

/// Quantises every layer without images.
///
/// # Errors
/// If a tensor is missing.
pub fn quantize_plain(
    folded: &Folded,
    choices: &[LayerChoice],
) -> Result<Vec<QuantizedLayer>, EngineError> {
    let pairs = folded.layers.par_iter().zip(choices);
    pairs.map(|(layer, &choice)| quantize_one(folded, layer, None, choice)).collect()
}

/// Quantises every layer in the order of execution, on the inputs that `images` (channel-major,
/// as the network reads them) give in the network quantised so far.
///
/// # Errors
/// If the weights do not fit the network.
pub fn quantize_calibrated(
    net: &Net,
    folded: &Folded,
    images: &[f32],
    choices: &[LayerChoice],
    progress: &dyn Fn(usize),
) -> Result<Vec<QuantizedLayer>, EngineError> {
    let mut original = Runner::new(net, &folded.weights, images)?;
    let mut current = Runner::new(net, &folded.weights, images)?;
    let mut weights = folded.weights.clone();
    let mut quantized = vec![None; folded.layers.len()];
    for step in 0..original.engine.plan().steps.len() {
        let node = original.engine.plan().steps[step].node;
        if let Some(index) = layer_of(folded, node) {
            let layer = &folded.layers[index];
            let (a, b) = (original.inputs(), current.inputs());
            let statistics = collect(net, node, &a, Some(&b), samples(layer));
            let result = quantize_one(folded, layer, Some(&statistics), choices[index])?;
            store(&mut weights, layer, &result);
            current.engine.reload_step(step, &weights)?;
            quantized[index] = Some(result);
            progress(index + 1);
        }
        original.run_step(step);
        current.run_step(step);
    }
    let missing = || EngineError::MissingTensor { name: "of a layer that does not run".into() };
    quantized.into_iter().map(|layer| layer.ok_or_else(missing)).collect()
}

fn layer_of(folded: &Folded, node: NodeId) -> Option<usize> {
    folded.layers.iter().position(|layer| layer.node == node)
}

/// Hands over the moments of every layer's inputs on `images` (channel-major, as the network reads
/// them), in the order of execution.
///
/// # Errors
/// If the weights do not fit the network.
pub fn for_each_layer(
    net: &Net,
    folded: &Folded,
    images: &[f32],
    mut visit: impl FnMut(usize, &Statistics),
) -> Result<(), EngineError> {
    let mut original = Runner::new(net, &folded.weights, images)?;
    for step in 0..original.engine.plan().steps.len() {
        let node = original.engine.plan().steps[step].node;
        if let Some(index) = layer_of(folded, node) {
            let samples = samples(&folded.layers[index]);
            visit(index, &collect(net, node, &original.inputs(), None, samples));
        }
        original.run_step(step);
    }
    Ok(())
}

/// For every layer alone: quantises it as chosen (second order, on the original inputs) and hands
/// the state dict with this one layer changed, and the step to reload, to `measure`.
///
/// # Errors
/// If the weights do not fit the network.
pub fn probe_layers(
    net: &Net,
    folded: &Folded,
    images: &[f32],
    choices: &[LayerChoice],
    mut measure: impl FnMut(usize, usize, &StateDict) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut original = Runner::new(net, &folded.weights, images)?;
    for step in 0..original.engine.plan().steps.len() {
        let node = original.engine.plan().steps[step].node;
        if let Some(index) = layer_of(folded, node) {
            let layer = &folded.layers[index];
            let statistics = collect(net, node, &original.inputs(), None, samples(layer));
            let result = quantize_one(folded, layer, Some(&statistics), choices[index])?;
            let mut weights = folded.weights.clone();
            store(&mut weights, layer, &result);
            measure(index, step, &weights)?;
        }
        original.run_step(step);
    }
    Ok(())
}
