//! Taking a set of images through the network layer by layer, quantising on the way: each layer
//! sees the inputs that the quantised layers before it really give.

use rayon::prelude::*;
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::engine::{Activations, EngineError, StepKind};
use weightspace_nn::net::Net;
use weightspace_nn::{Engine, NodeId};

use super::fold::{Folded, Layer};
use super::layer::{LayerChoice, QuantizedLayer, quantize_layer};
use super::statistics::{Inputs, Statistics, collect};

/// Output positions that the statistics look at: of every image, and, of few images, per input
/// dimension within bounds.
const SAMPLES_PER_IMAGE: usize = 64;
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

    /// The moments of the inputs of the layer that a step computes; with those of another runner
    /// where these differ.
    fn statistics(
        &self,
        step: usize,
        folded: &Folded,
        layer: &Layer,
        current: Option<&Runner>,
    ) -> Statistics {
        let (net, images) = (self.engine.net(), self.chunks.iter().map(Activations::images).sum());
        let residual = match self.engine.plan().steps[step].kind {
            // Behind a normalisation that scales, what is added has another scale than what the
            // layer computes.
            StepKind::Product { batch_norm, residual, .. } => {
                residual.filter(|_| batch_norm.is_none_or(|norm| folded.is_identity(net, norm)))
            }
            _ => None,
        };
        let current = current.map(Runner::inputs);
        let samples = samples(layer, images);
        collect(net, layer.node, residual, &self.inputs(), current.as_ref(), samples)
    }
}

fn samples(layer: &Layer, images: usize) -> usize {
    let of_inputs = (layer.columns * SAMPLES_PER_INPUT).clamp(LEAST_SAMPLES, MOST_SAMPLES);
    of_inputs.max(images * SAMPLES_PER_IMAGE)
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
            let statistics = original.statistics(step, folded, layer, Some(&current));
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
            visit(index, &original.statistics(step, folded, &folded.layers[index], None));
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
            let statistics = original.statistics(step, folded, layer, None);
            let result = quantize_one(folded, layer, Some(&statistics), choices[index])?;
            let mut weights = folded.weights.clone();
            store(&mut weights, layer, &result);
            measure(index, step, &weights)?;
        }
        original.run_step(step);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weightspace_core::random::{Key, Stream};
    use weightspace_nn::ModelState;
    use weightspace_nn::arch::{self, ArchOptions};
    use weightspace_nn::engine::Step;
    use weightspace_nn::init::Initialisation;
    use weightspace_nn::net::Op;

    use super::*;
    use crate::quantize::fold::fold;

    /// What is missing in a shortcut is what the two networks differ by there.
    #[test]
    fn what_is_missing_is_the_difference_of_the_shortcuts() {
        let net = arch::build("resnet20-b", &ArchOptions::default()).unwrap();
        let drawn =
            ModelState::initial(&net, Initialisation::PytorchDefault, 5).to_state_dict(&net);
        let folded = fold(&net, &drawn, true).unwrap();
        let mut changed = folded.weights.clone();
        let first = &folded.layers[0];
        let tensor = changed.get(&first.weight).unwrap();
        let values: Vec<f32> = tensor.to_f32().iter().map(|w| (8.0 * w).round() / 8.0).collect();
        changed.insert(first.weight.clone(), Tensor::from_f32(tensor.shape().to_vec(), &values));
        let mut images = vec![0.0; 2 * net.input_len()];
        Stream::new(Key::from_seed(9), 0).fill_normal(&mut images);
        let mut original = Runner::new(&net, &folded.weights, &images).unwrap();
        let mut current = Runner::new(&net, &changed, &images).unwrap();
        let steps = original.engine.plan().steps.clone();
        let with_shortcut = |step: &Step| match step.kind {
            StepKind::Product { residual, .. } => residual,
            _ => None,
        };
        let at = steps.iter().position(|step| with_shortcut(step).is_some()).unwrap();
        for step in 0..at {
            original.run_step(step);
            current.run_step(step);
        }
        let layer = &folded.layers[layer_of(&folded, steps[at].node).unwrap()];
        let missing = original.statistics(at, &folded, layer, Some(&current)).missing.unwrap();
        assert_eq!(missing.covariance.nrows(), layer.rows);
        assert_eq!(missing.covariance.ncols(), layer.columns);
        let shortcut = with_shortcut(&steps[at]).unwrap();
        assert!(matches!(net.node(shortcut).op, Op::Activation(_)));
        let tapped = |weights: &StateDict| {
            let engine = Engine::with_taps(&net, weights, &[shortcut]).unwrap();
            let mut logits = vec![0.0; 2 * engine.class_count()];
            engine.forward_tapped(&images, &mut logits).unwrap().remove(0)
        };
        let (before, after) = (tapped(&folded.weights), tapped(&changed));
        let pixels = before.len() / 2 / layer.rows;
        for (channel, &mean) in missing.mean.iter().enumerate() {
            let of_image = |image: usize| (image * layer.rows + channel) * pixels;
            let range = |image: usize| of_image(image)..of_image(image) + pixels;
            let difference = |image: usize| -> f64 {
                let pairs = before[range(image)].iter().zip(&after[range(image)]);
                pairs.map(|(a, b)| f64::from(a - b)).sum()
            };
            let expected = (difference(0) + difference(1)) / (2 * pixels) as f64;
            assert!((mean - expected).abs() < 1e-5, "channel {channel}: {mean}, not {expected}");
        }
        assert!(missing.mean.iter().any(|mean| mean.abs() > 1e-4));
        // Where a normalisation stands between them it is not looked at.
        let unfolded = fold(&net, &folded.weights, false).unwrap();
        assert!(original.statistics(at, &unfolded, layer, Some(&current)).missing.is_none());
    }
}
