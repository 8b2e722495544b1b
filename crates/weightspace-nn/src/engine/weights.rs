//! The weights of a plan: packed for the kernels, batch normalisation folded in.

use weightspace_core::StateDict;

use super::EngineError;
use super::plan::{Plan, Step, StepKind};
use crate::kernels::conv::{BLOCK, pack_weights};
use crate::net::{Net, NodeId, Op};

/// What one step needs besides its inputs.
#[derive(Clone, Debug, Default)]
pub struct StepWeights {
    /// Packed weights of a convolution or linear layer; the scale of a normalisation.
    pub weight: Vec<f32>,
    /// Bias or shift, padded to whole blocks.
    pub bias: Vec<f32>,
}

/// Scale and shift per channel of a batch normalisation at inference:
/// y = scale * x + shift with scale = weight / sqrt(running_var + eps).
///
/// # Errors
/// If a tensor is missing or has another number of elements.
pub fn batch_norm_affine(
    net: &Net,
    node: NodeId,
    weights: &StateDict,
) -> Result<Vec<(f64, f64)>, EngineError> {
    let n = net.node(node);
    let Op::BatchNorm { channels, eps } = n.op else {
        return Err(EngineError::Unsupported { layer: n.name.clone() });
    };
    let read = |suffix: &str| tensor(weights, &format!("{}.{suffix}", n.name), channels);
    let (weight, bias) = (read("weight")?, read("bias")?);
    let (mean, var) = (read("running_mean")?, read("running_var")?);
    Ok((0..channels)
        .map(|c| {
            let scale = f64::from(weight[c]) / f64::from(var[c] + eps).sqrt();
            (scale, f64::from(bias[c]) - f64::from(mean[c]) * scale)
        })
        .collect())
}

fn tensor(weights: &StateDict, name: &str, count: usize) -> Result<Vec<f32>, EngineError> {
    let tensor =
        weights.get(name).ok_or_else(|| EngineError::MissingTensor { name: name.to_string() })?;
    if tensor.element_count() != count {
        return Err(EngineError::WrongSize {
            name: name.to_string(),
            found: tensor.element_count(),
            expected: count,
        });
    }
    Ok(tensor.to_f32().into_owned())
}

fn padded(values: impl IntoIterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.into_iter().collect();
    values.resize(values.len().next_multiple_of(BLOCK), 0.0);
    values
}

impl StepWeights {
    /// Reads, folds and packs the weights of one step.
    ///
    /// # Errors
    /// If a tensor is missing or has another number of elements than the network says.
    pub fn new(net: &Net, step: &Step, weights: &StateDict) -> Result<Self, EngineError> {
        let node = net.node(step.node);
        let name = |suffix: &str| format!("{}.{suffix}", node.name);
        match (&node.op, &step.kind) {
            (&Op::Conv2d { out_channels, in_channels, window, bias }, kind) => {
                let per_filter = in_channels * window.size * window.size;
                let weight = tensor(weights, &name("weight"), out_channels * per_filter)?;
                let bias =
                    if bias { Some(tensor(weights, &name("bias"), out_channels)?) } else { None };
                product(net, kind, weights, weight, bias, [out_channels, in_channels, window.size])
            }
            (&Op::Linear { out_features, in_features, bias }, kind) => {
                let weight = tensor(weights, &name("weight"), out_features * in_features)?;
                let bias =
                    if bias { Some(tensor(weights, &name("bias"), out_features)?) } else { None };
                product(net, kind, weights, weight, bias, [out_features, in_features, 1])
            }
            (Op::BatchNorm { .. }, _) => {
                let affine = batch_norm_affine(net, step.node, weights)?;
                Ok(StepWeights {
                    weight: padded(affine.iter().map(|a| a.0 as f32)),
                    bias: padded(affine.iter().map(|a| a.1 as f32)),
                })
            }
            (&Op::GroupNorm { channels, .. }, _) => Ok(StepWeights {
                weight: padded(tensor(weights, &name("weight"), channels)?),
                bias: padded(tensor(weights, &name("bias"), channels)?),
            }),
            _ => Ok(StepWeights::default()),
        }
    }

    /// The weights of every step.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn all(net: &Net, plan: &Plan, weights: &StateDict) -> Result<Vec<Self>, EngineError> {
        plan.steps.iter().map(|step| StepWeights::new(net, step, weights)).collect()
    }
}

fn product(
    net: &Net,
    kind: &StepKind,
    weights: &StateDict,
    mut weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    [out, input, kernel]: [usize; 3],
) -> Result<StepWeights, EngineError> {
    let mut bias = bias.unwrap_or_else(|| vec![0.0; out]);
    if let &StepKind::Product { batch_norm: Some(node), .. } = kind {
        let affine = batch_norm_affine(net, node, weights)?;
        let filters = weight.chunks_exact_mut(input * kernel * kernel);
        for ((filter, bias), (scale, shift)) in filters.zip(&mut bias).zip(affine) {
            filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            *bias = (f64::from(*bias) * scale + shift) as f32;
        }
    }
    let weight = pack_weights(&weight, out, input, kernel);
    Ok(StepWeights { weight, bias: padded(bias) })
}
