//! From trained coefficients to a `.wsp` file.

use weightspace_core::basis::{Projection, Start};
use weightspace_core::container::{
    Coding, Header, Number, Projected, ProjectionKey, Quantized, encode_projected,
};
use weightspace_core::{DType, StateDict, WspError};
use weightspace_nn::engine::{EngineError, batch_norm_affine};
use weightspace_nn::net::{Net, Op, ParameterKind, ParameterSpec};

use super::tensors::is_projected;
use super::{Norms, Quantizer, SubspaceConfig};
use crate::quantize::fold::unit_variance;

/// What a file says besides its coefficients.
#[derive(Clone, Debug)]
pub struct FileOptions<'a> {
    /// What it says about the network; the method is `subspace`.
    pub header: Header,
    /// What its key is.
    pub key: ProjectionKey,
    /// The base, for a projection around one.
    pub base: Option<&'a StateDict>,
}

/// The bytes of a file: coefficients as integers, every batch normalisation as two vectors (its state
/// dict keeps names and shapes: `weight` and `bias` are these, `running_mean` 0 and `running_var`
/// 1 - eps).
///
/// `tensors` is the network's state dict, of which only what is not projected is used.
///
/// # Errors
/// If a tensor of the network is missing, or the file cannot be written as it should.
pub fn encode(
    net: &Net,
    projection: &Projection,
    config: &SubspaceConfig,
    coefficients: &[f32],
    tensors: &StateDict,
    options: &FileOptions<'_>,
) -> Result<Vec<u8>, EncodeError> {
    let quantizer = Quantizer::new(config.bits);
    let step = quantizer.step(coefficients);
    let integers: Vec<i32> = coefficients.iter().map(|&a| quantizer.integer(a, step)).collect();
    let base = options.base.filter(|_| projection.start() == Start::Base);
    let projected = Projected {
        basis: config.basis,
        start: projection.start(),
        key: options.key,
        base_hash: base.map(StateDict::content_hash),
        step,
        segments: projection.segments().to_vec(),
    };
    let codings = match (config.norms, base) {
        (Norms::Base, Some(base)) => codings_of_base(net, base),
        _ => codings(net, tensors, Quantizer::new(config.norm_bits))?,
    };
    Ok(encode_projected(&options.header, &codings, &projected, &integers)?)
}

/// Why a network cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A normalisation lacks a tensor.
    #[error(transparent)]
    Network(#[from] EngineError),
    /// The file would break a rule of its format.
    #[error(transparent)]
    Format(#[from] WspError),
}

/// How every tensor is stored, in the order of the state dict.
fn codings(
    net: &Net,
    tensors: &StateDict,
    quantizer: Quantizer,
) -> Result<Vec<(String, Coding)>, EngineError> {
    let coding = |spec: ParameterSpec| {
        let coding = match is_projected(spec.kind) {
            true => Coding::Projected { shape: spec.shape },
            false => dense_coding(net, &spec, tensors, quantizer)?,
        };
        Ok((spec.name, coding))
    };
    net.parameters().into_iter().map(coding).collect()
}

/// As [`codings`], where nothing but what is projected differs from the base.
fn codings_of_base(net: &Net, base: &StateDict) -> Vec<(String, Coding)> {
    let coding = |spec: ParameterSpec| {
        let shape = spec.shape.clone();
        let coding = match base.get(&spec.name) {
            _ if is_projected(spec.kind) => Coding::Projected { shape },
            Some(tensor) => Coding::Base { dtype: tensor.dtype(), shape },
            // Counters of batches, which old files do not have.
            None => {
                let value = Number::Integer(0);
                Coding::Constant { dtype: spec.dtype(), shape, value }
            }
        };
        (spec.name, coding)
    };
    net.parameters().into_iter().map(coding).collect()
}

/// How a tensor of a normalisation, or another vector, is stored: a batch normalisation as the two vectors
/// that it comes to.
pub(crate) fn dense_coding(
    net: &Net,
    spec: &ParameterSpec,
    tensors: &StateDict,
    quantizer: Quantizer,
) -> Result<Coding, EngineError> {
    let shape = spec.shape.clone();
    let constant = |value| Coding::Constant { dtype: DType::F32, shape: shape.clone(), value };
    let eps = match net.node(spec.node).op {
        Op::BatchNorm { eps, .. } => Some(eps),
        _ => None,
    };
    let affine = || batch_norm_affine(net, spec.node, tensors);
    let values: Vec<f32> = match spec.kind {
        ParameterKind::NumBatchesTracked => {
            let value = Number::Integer(0);
            return Ok(Coding::Constant { dtype: DType::I64, shape, value });
        }
        ParameterKind::RunningMean => return Ok(constant(Number::Float(0.0))),
        ParameterKind::RunningVar => {
            let variance = unit_variance(eps.unwrap_or(0.0));
            return Ok(constant(Number::Float(variance.into())));
        }
        ParameterKind::NormWeight if eps.is_some() => {
            affine()?.iter().map(|&(scale, _)| scale as f32).collect()
        }
        ParameterKind::NormBias if eps.is_some() => {
            affine()?.iter().map(|&(_, shift)| shift as f32).collect()
        }
        _ => {
            let missing = || EngineError::MissingTensor { name: spec.name.clone() };
            tensors.get(&spec.name).ok_or_else(missing)?.to_f32().into_owned()
        }
    };
    let scale = quantizer.best_step(&values);
    let values = values.iter().map(|&value| quantizer.integer(value, scale)).collect();
    Ok(Coding::Quantized(Quantized { shape, scale, channel_exponents: None, values }))
}
