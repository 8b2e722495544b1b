//! The weights of a plan: packed for the kernels, batch normalisation folded in.

use weightspace_core::StateDict;

use super::EngineError;
use super::plan::{Plan, StepKind};
use super::product::{Pass, Weight};
use crate::kernels::maps::BLOCK;
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
    pub fn new(
        net: &Net,
        plan: &Plan,
        step: usize,
        weights: &StateDict,
    ) -> Result<Self, EngineError> {
        let (step, pass) = (&plan.steps[step], &plan.passes[step]);
        let node = net.node(step.node);
        let name = |suffix: &str| format!("{}.{suffix}", node.name);
        if let (Some(shape), Some(pass)) = (Weight::of(&node.op), pass) {
            let weight = tensor(weights, &name("weight"), shape.len())?;
            let has_bias =
                matches!(node.op, Op::Conv2d { bias: true, .. } | Op::Linear { bias: true, .. });
            let bias = match has_bias {
                true => tensor(weights, &name("bias"), shape.out_channels)?,
                false => vec![0.0; shape.out_channels],
            };
            return product(net, &step.kind, pass, weights, weight, bias);
        }
        match (&node.op, &step.kind) {
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
            (&Op::LayerNorm { width, bias, .. }, _) => Ok(StepWeights {
                weight: padded(tensor(weights, &name("weight"), width)?),
                bias: match bias {
                    true => padded(tensor(weights, &name("bias"), width)?),
                    false => padded(vec![0.0; width]),
                },
            }),
            (&Op::Embedding { count, width }, _) => Ok(StepWeights {
                weight: tensor(weights, &name("weight"), count * width)?,
                bias: Vec::new(),
            }),
            _ => Ok(StepWeights::default()),
        }
    }

    /// The weights of every step.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn all(net: &Net, plan: &Plan, weights: &StateDict) -> Result<Vec<Self>, EngineError> {
        (0..plan.steps.len()).map(|step| StepWeights::new(net, plan, step, weights)).collect()
    }
}

fn product(
    net: &Net,
    kind: &StepKind,
    pass: &Pass,
    weights: &StateDict,
    mut weight: Vec<f32>,
    mut bias: Vec<f32>,
) -> Result<StepWeights, EngineError> {
    if let &StepKind::Product { batch_norm: Some(node), .. } = kind {
        let affine = batch_norm_affine(net, node, weights)?;
        let per_filter = weight.len() / bias.len();
        let filters = weight.chunks_exact_mut(per_filter);
        for ((filter, bias), (scale, shift)) in filters.zip(&mut bias).zip(affine) {
            filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            *bias = (f64::from(*bias) * scale + shift) as f32;
        }
    }
    let mut packed = vec![0.0; pass.packed_len()];
    pass.pack(&weight, &mut packed);
    Ok(StepWeights { weight: packed, bias: padded(bias) })
}
