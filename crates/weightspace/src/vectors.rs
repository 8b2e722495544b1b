//! How tensors are stored that are not a method's concern: normalisations as two vectors, the rest as integers.

use weightspace_core::container::{Coding, Number, Quantized};
use weightspace_core::{DType, StateDict};
use weightspace_nn::engine::{EngineError, batch_norm_affine};
use weightspace_nn::net::{Net, Op, ParameterKind, ParameterSpec};

use crate::quantize::fold::unit_variance;
use crate::subspace::Quantizer;

/// The coding of a tensor: every batch normalisation as two vectors (its state dict keeps names and shapes:
/// `weight` and `bias` are these, `running_mean` 0 and `running_var` 1 - eps), everything as integers
/// with the step that suits the tensor best.
///
/// # Errors
/// If `tensors` lack what is needed.
pub(crate) fn coding(
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
