//! Folding batch normalisations into the layers before them.
//!
//! y = w * x becomes scale * w * x, and only the shift stays: as the normalisation's `bias`, with
//! `weight` 1, `running_mean` 0 and `running_var` 1 - eps, so that the state dict keeps its names
//! and shapes and runs unchanged in the original code.

use std::collections::BTreeMap;

use weightspace_core::{StateDict, Tensor};
use weightspace_nn::engine::{EngineError, batch_norm_affine};
use weightspace_nn::net::{Net, NodeId, Op};

/// A layer with weights: a convolution or a linear layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its node.
    pub node: NodeId,
    /// Name of the weight.
    pub weight: String,
    /// Name of the one tensor that shifts its output: its own bias or that of the batch
    /// normalisation folded into it.
    pub bias: Option<String>,
    /// Output channels: rows of the weight.
    pub rows: usize,
    /// Inputs of one output: columns of the weight.
    pub columns: usize,
}

/// A state dict whose batch normalisations are folded where that is possible.
#[derive(Clone, Debug)]
pub struct Folded {
    /// All floating-point tensors as f32, folded.
    pub weights: StateDict,
    /// Tensors that became constants, and their value.
    pub constants: BTreeMap<String, f32>,
    /// Layers with weights in order of execution.
    pub layers: Vec<Layer>,
}

impl Folded {
    /// Whether a batch normalisation is folded, and so only shifts.
    pub fn is_identity(&self, net: &Net, norm: NodeId) -> bool {
        self.constants.contains_key(&format!("{}.running_var", net.node(norm).name))
    }
}

/// The variance that makes a batch normalisation with weight 1 the identity in f32.
pub fn unit_variance(eps: f32) -> f32 {
    1.0 - eps
}

/// Folds every batch normalisation whose input is a convolution or linear layer that nothing else
/// reads; with `fold` false only lists the layers.
///
/// # Errors
/// If the state dict lacks a tensor of the network.
pub fn fold(net: &Net, original: &StateDict, fold: bool) -> Result<Folded, EngineError> {
    let mut weights: StateDict = original
        .iter()
        .map(|(name, tensor)| {
            let tensor = match tensor.dtype().is_float() {
                true => Tensor::from_f32(tensor.shape().to_vec(), &tensor.to_f32()),
                false => tensor.clone(),
            };
            (name.to_string(), tensor)
        })
        .collect();
    let mut constants = BTreeMap::new();
    let mut layers = Vec::new();
    let consumers = net.consumers();
    for node in net.node_ids() {
        let n = net.node(node);
        let (rows, columns, has_bias) = match n.op {
            Op::Conv2d { out_channels, in_channels, groups, window, bias } => {
                (out_channels, in_channels / groups * window.size * window.size, bias)
            }
            Op::Linear { out_features, in_features, bias } => (out_features, in_features, bias),
            _ => continue,
        };
        let weight = format!("{}.weight", n.name);
        let mut bias = has_bias.then(|| format!("{}.bias", n.name));
        let norm = match consumers[node.index()][..] {
            [next] if fold => Some(next),
            _ => None,
        };
        if let Some(norm) = norm
            && let Op::BatchNorm { eps, .. } = net.node(norm).op
            && let affine = batch_norm_affine(net, norm, original)?
            // Else the branch is switched off, as residual ones may be before training: of its weights nothing would be left.
            && affine.iter().any(|(scale, _)| *scale != 0.0)
        {
            let missing = || EngineError::MissingTensor { name: weight.clone() };
            let old = weights.get(&weight).ok_or_else(missing)?;
            let mut values = old.to_f32().into_owned();
            for (row, (scale, _)) in values.chunks_exact_mut(columns).zip(&affine) {
                row.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            }
            let folded = Tensor::from_f32(old.shape().to_vec(), &values);
            let own =
                bias.as_ref().and_then(|name| weights.get(name)).map(|t| t.to_f32().into_owned());
            let shift: Vec<f32> = affine
                .iter()
                .enumerate()
                .map(|(c, (scale, shift))| {
                    (own.as_ref().map_or(0.0, |own| f64::from(own[c])) * scale + shift) as f32
                })
                .collect();
            weights.insert(weight.clone(), folded);
            if let Some(own) = bias {
                constants.insert(own, 0.0);
            }
            let name = |suffix: &str| format!("{}.{suffix}", net.node(norm).name);
            weights.insert(name("bias"), Tensor::from_f32(vec![rows], &shift));
            constants.insert(name("weight"), 1.0);
            constants.insert(name("running_mean"), 0.0);
            constants.insert(name("running_var"), unit_variance(eps));
            bias = Some(name("bias"));
        }
        layers.push(Layer { node, weight, bias, rows, columns });
    }
    for (name, &value) in &constants {
        if let Some(tensor) = weights.get(name) {
            let shape = tensor.shape().to_vec();
            let values = vec![value; tensor.element_count()];
            weights.insert(name.clone(), Tensor::from_f32(shape, &values));
        }
    }
    Ok(Folded { weights, constants, layers })
}

#[cfg(test)]
mod tests {
    use super::unit_variance;

    #[test]
    fn the_unit_variance_makes_the_scale_one() {
        assert_eq!(unit_variance(1e-5) + 1e-5, 1.0);
    }
}
