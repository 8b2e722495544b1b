//! What training changes of a network: its weights and the statistics of its normalisations.

use weightspace_core::{DType, StateDict, Tensor};

use crate::Net;
use crate::engine::training::{RunningLayer, RunningStatistics};
use crate::init::{Initialisation, initialise};
use crate::net::{Op, ParameterKind, ParameterSpec};

/// A network's weights in one flat vector, in the order of [`Net::layout`], and the running
/// statistics of its batch normalisations: together, all of its state dict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelState {
    /// Everything that gradients change.
    pub weights: Vec<f32>,
    /// Everything that they do not.
    pub running: RunningStatistics,
}

/// Why a state dict is not that of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelStateError {
    /// A tensor of the network is not there.
    #[error("tensor {name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the network says.
    #[error("tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Dimensions in the state dict.
        found: Vec<usize>,
        /// Dimensions of the network.
        expected: Vec<usize>,
    },
    /// A tensor has integers where real numbers belong.
    #[error("tensor {name} has elements of type {found}, expected real numbers")]
    Type {
        /// Its name.
        name: String,
        /// Element type in the state dict.
        found: DType,
    },
}

impl ModelState {
    /// Drawn weights, and statistics as PyTorch starts with.
    pub fn initial(net: &Net, how: Initialisation, seed: u64) -> Self {
        ModelState { weights: initialise(net, how, seed), running: RunningStatistics::new(net) }
    }

    /// Takes what the network has from a state dict; real numbers of other types become `f32`, and a
    /// missing `num_batches_tracked`, which old files do not have, 0.
    ///
    /// # Errors
    /// The first tensor that is missing, or has another shape or type.
    pub fn from_state_dict(net: &Net, tensors: &StateDict) -> Result<Self, ModelStateError> {
        let mut state = ModelState { weights: Vec::new(), running: RunningStatistics::default() };
        state.weights.reserve_exact(net.parameter_count());
        for spec in net.parameters() {
            let tensor = tensors.get(&spec.name);
            if tensor.is_none() && spec.kind == ParameterKind::NumBatchesTracked {
                continue;
            }
            let tensor = checked(&spec, tensor)?;
            if spec.kind.is_trainable() {
                state.weights.extend_from_slice(&tensor.to_f32());
                continue;
            }
            let layer = state.running.layer_mut(layer_of(&spec.name));
            match spec.kind {
                ParameterKind::RunningMean => layer.mean = tensor.to_f32().into_owned(),
                ParameterKind::RunningVar => layer.variance = tensor.to_f32().into_owned(),
                _ => layer.batches = tensor.iter_f64().next().unwrap_or(0.0) as i64,
            }
        }
        Ok(state)
    }

    /// The state dict, in PyTorch's order.
    ///
    /// # Panics
    /// If this is the state of another network.
    pub fn to_state_dict(&self, net: &Net) -> StateDict {
        let mut weights = &self.weights[..];
        let tensor = |spec: ParameterSpec| {
            let tensor = if spec.kind.is_trainable() {
                let (own, rest) = weights.split_at(spec.element_count());
                weights = rest;
                Tensor::from_f32(spec.shape, own)
            } else {
                let name = layer_of(&spec.name);
                let layer = self.running.layers.iter().find(|layer| layer.name == name);
                let layer = layer.expect("statistics of every batch normalisation");
                match spec.kind {
                    ParameterKind::RunningMean => Tensor::from_f32(spec.shape, &layer.mean),
                    ParameterKind::RunningVar => Tensor::from_f32(spec.shape, &layer.variance),
                    _ => {
                        let bytes = layer.batches.to_le_bytes().to_vec();
                        Tensor::from_bytes(DType::I64, spec.shape, bytes)
                    }
                }
            };
            (spec.name, tensor)
        };
        net.parameters().into_iter().map(tensor).collect()
    }

    /// Whether compression has left no statistics of batches: all means are 0 and all variances 1 - eps,
    /// so that normalisations only scale and shift. By statistics of batches they would do
    /// something else: such a network is trained with its statistics fixed.
    pub fn is_folded(&self, net: &Net) -> bool {
        let eps = net.nodes().iter().filter_map(|node| match node.op {
            Op::BatchNorm { eps, .. } => Some(eps),
            _ => None,
        });
        let folded = |(layer, eps): (&RunningLayer, f32)| {
            layer.mean.iter().all(|&mean| mean == 0.0)
                && layer.variance.iter().all(|&variance| variance == 1.0 - eps)
        };
        let layers = &self.running.layers;
        !layers.is_empty() && layers.iter().zip(eps).all(folded)
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        all_finite(&self.weights) && self.running.is_finite()
    }
}

impl RunningStatistics {
    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.layers.iter().all(RunningLayer::is_finite)
    }

    /// The layer of that name, appended if it is not there.
    fn layer_mut(&mut self, name: &str) -> &mut RunningLayer {
        let position = self.layers.iter().position(|layer| layer.name == name);
        let position = position.unwrap_or_else(|| {
            self.layers.push(RunningLayer { name: name.to_owned(), ..RunningLayer::default() });
            self.layers.len() - 1
        });
        &mut self.layers[position]
    }
}

impl RunningLayer {
    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        all_finite(&self.mean) && all_finite(&self.variance)
    }
}

/// Whether every value is finite.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// Name of the layer that a tensor belongs to.
fn layer_of(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or(tensor, |(layer, _)| layer)
}

fn checked<'a>(
    spec: &ParameterSpec,
    tensor: Option<&'a Tensor>,
) -> Result<&'a Tensor, ModelStateError> {
    let name = || spec.name.clone();
    let tensor = tensor.ok_or_else(|| ModelStateError::Missing { name: name() })?;
    if tensor.shape() != spec.shape {
        let (found, expected) = (tensor.shape().to_vec(), spec.shape.clone());
        return Err(ModelStateError::Shape { name: name(), found, expected });
    }
    if spec.dtype().is_float() && !tensor.dtype().is_float() {
        return Err(ModelStateError::Type { name: name(), found: tensor.dtype() });
    }
    Ok(tensor)
}
