//! The weights of a plan: packed for the kernels, batch normalisation folded in.

use std::ops::Range;

use weightspace_core::StateDict;

use super::EngineError;
use super::plan::{Plan, Step, StepKind};
use super::product::{Pass, Weight};
use super::source::WeightSource;
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
    let channels = net.node(node).shape.channels();
    affine_of(net, node, 0..channels, weights)
}

/// As [`batch_norm_affine`], for some channels.
fn affine_of(
    net: &Net,
    node: NodeId,
    rows: Range<usize>,
    source: &dyn WeightSource,
) -> Result<Vec<(f64, f64)>, EngineError> {
    let n = net.node(node);
    let Op::BatchNorm { channels, eps } = n.op else {
        return Err(EngineError::Unsupported { layer: n.name.clone() });
    };
    let read = |suffix: &str| {
        let mut values = Vec::with_capacity(rows.len());
        let name = format!("{}.{suffix}", n.name);
        append(source, &name, rows.clone(), (channels, channels), &mut values)?;
        Ok::<_, EngineError>(values)
    };
    let (weight, bias) = (read("weight")?, read("bias")?);
    let (mean, var) = (read("running_mean")?, read("running_var")?);
    Ok((0..rows.len())
        .map(|c| {
            let scale = f64::from(weight[c]) / f64::from(var[c] + eps).sqrt();
            (scale, f64::from(bias[c]) - f64::from(mean[c]) * scale)
        })
        .collect())
}

/// Appends some rows of a tensor of `count` elements in `of` rows.
fn append(
    source: &dyn WeightSource,
    name: &str,
    rows: Range<usize>,
    (count, of): (usize, usize),
    values: &mut Vec<f32>,
) -> Result<(), EngineError> {
    let wrong = |found, expected| EngineError::WrongSize { name: name.to_owned(), found, expected };
    match source.tensor_len(name) {
        None => return Err(EngineError::MissingTensor { name: name.to_owned() }),
        Some(found) if found != count => return Err(wrong(found, count)),
        Some(_) => {}
    }
    let (before, expected) = (values.len(), rows.len() * (count / of));
    source.rows(name, rows, values).map_err(EngineError::Source)?;
    match values.len() - before {
        found if found == expected => Ok(()),
        found => Err(wrong(found, expected)),
    }
}

fn pad(values: &mut Vec<f32>) {
    values.resize(values.len().next_multiple_of(BLOCK), 0.0);
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
        source: &dyn WeightSource,
    ) -> Result<Self, EngineError> {
        let mut weights = StepWeights::default();
        let pass = plan.passes[step].as_ref();
        weights.load(net, &plan.steps[step], pass, source, &mut Vec::new())?;
        Ok(weights)
    }

    /// The weights of every step.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn all(
        net: &Net,
        plan: &Plan,
        source: &dyn WeightSource,
    ) -> Result<Vec<Self>, EngineError> {
        (0..plan.steps.len()).map(|step| StepWeights::new(net, plan, step, source)).collect()
    }

    /// Replaces these weights by those of a step; of a product, by those of the output channels
    /// that `pass` computes. Memory is used again; `unpacked` is for values before packing.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn load(
        &mut self,
        net: &Net,
        step: &Step,
        pass: Option<&Pass>,
        source: &dyn WeightSource,
        unpacked: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.weight.clear();
        self.bias.clear();
        let node = net.node(step.node);
        if let (Some(shape), Some(pass)) = (Weight::of(&node.op), pass) {
            return self.load_product(net, step, shape, pass, source, unpacked);
        }
        let read = |suffix: &str, count: usize, rows: usize, values: &mut Vec<f32>| {
            append(source, &format!("{}.{suffix}", node.name), 0..rows, (count, rows), values)
        };
        match node.op {
            Op::BatchNorm { channels, .. } => {
                let affine = affine_of(net, step.node, 0..channels, source)?;
                self.weight.extend(affine.iter().map(|a| a.0 as f32));
                self.bias.extend(affine.iter().map(|a| a.1 as f32));
            }
            Op::GroupNorm { channels: width, .. } | Op::LayerNorm { width, bias: true, .. } => {
                read("weight", width, width, &mut self.weight)?;
                read("bias", width, width, &mut self.bias)?;
            }
            Op::LayerNorm { width, bias: false, .. } => {
                read("weight", width, width, &mut self.weight)?;
                self.bias.resize(width, 0.0);
            }
            Op::Embedding { count, width } => {
                return read("weight", count * width, count, &mut self.weight);
            }
            _ => {}
        }
        pad(&mut self.weight);
        pad(&mut self.bias);
        Ok(())
    }

    fn load_product(
        &mut self,
        net: &Net,
        step: &Step,
        shape: Weight,
        pass: &Pass,
        source: &dyn WeightSource,
        unpacked: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let node = net.node(step.node);
        let (rows, of) = (pass.outputs(), shape.out_channels);
        unpacked.clear();
        let name = |suffix: &str| format!("{}.{suffix}", node.name);
        append(source, &name("weight"), rows.clone(), (shape.len(), of), unpacked)?;
        match node.op {
            Op::Conv2d { bias: true, .. } | Op::Linear { bias: true, .. } => {
                append(source, &name("bias"), rows.clone(), (of, of), &mut self.bias)?;
            }
            _ => self.bias.resize(rows.len(), 0.0),
        }
        if let StepKind::Product { batch_norm: Some(norm), .. } = step.kind {
            let affine = affine_of(net, norm, rows, source)?;
            let filters = unpacked.chunks_exact_mut(shape.len() / of);
            for ((filter, bias), (scale, shift)) in filters.zip(&mut self.bias).zip(affine) {
                filter.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
                *bias = (f64::from(*bias) * scale + shift) as f32;
            }
        }
        self.weight.resize(pass.packed_len(), 0.0);
        pass.pack(unpacked, &mut self.weight);
        pad(&mut self.bias);
        Ok(())
    }
}
