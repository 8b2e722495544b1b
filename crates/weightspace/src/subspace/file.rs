//! From trained coefficients to a `.wsp` file.

use weightspace_core::basis::{Projection, Start};
use weightspace_core::container::{
    Coding, Header, Number, Projected, ProjectionKey, encode_projected,
};
use weightspace_core::{StateDict, WspError};
use weightspace_nn::engine::EngineError;
use weightspace_nn::net::{Net, ParameterSpec};

use super::tensors::is_projected;
use super::{Norms, Quantizer, SubspaceConfig};
use crate::vectors;

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
            false => vectors::coding(net, &spec, tensors, quantizer)?,
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
