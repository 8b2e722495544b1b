//! How the tensors are stored that are no weights of layers.

use std::collections::BTreeMap;

use weightspace_core::container::Coding;
use weightspace_core::{DType, StateDict, Tensor};
use weightspace_nn::net::{Net, Op};

use super::fold::Folded;
use super::grid::{round_vector, step_for_levels};
use super::is_mask;

/// Levels of vectors that are stored besides (biases, normalisations): 16 bit.
pub(crate) const VECTOR_LEVELS: i32 = (1 << 15) - 1;

/// Every tensor of the state dict with its coding: those given by name, constants of folded
/// normalisations, vectors of 16 bits, and what is left as it is.
pub(crate) fn all(
    original: &StateDict,
    net: Option<&Net>,
    folded: &Folded,
    mut given: BTreeMap<String, Coding>,
) -> Vec<(String, Coding)> {
    let mut coding = |name: &str, tensor: &Tensor| {
        if let Some(coding) = given.remove(name) {
            return coding;
        }
        let tensor = folded.weights.get(name).unwrap_or(tensor);
        let shape = tensor.shape().to_vec();
        if let Some(&value) = folded.constants.get(name) {
            return Coding::Constant { dtype: DType::F32, shape, value: f64::from(value).into() };
        }
        let is_vector = tensor.dtype().is_float() && tensor.element_count() > 1;
        if is_vector && !is_norm(net, name) && !is_mask(tensor) {
            let values = tensor.to_f32();
            let step = step_for_levels(&values, VECTOR_LEVELS);
            return Coding::Quantized(round_vector(&values, &shape, step));
        }
        Coding::Raw(tensor.clone())
    };
    original.iter().map(|(name, tensor)| (name.to_string(), coding(name, tensor))).collect()
}

/// True for the tensors of a batch normalisation that is kept: its variances span orders of
/// magnitude, so they stay as they are.
fn is_norm(net: Option<&Net>, name: &str) -> bool {
    let (module, suffix) = name.rsplit_once('.').unwrap_or(("", name));
    let Some(net) = net else { return suffix == "running_var" };
    net.nodes().iter().any(|n| n.name == module && matches!(n.op, Op::BatchNorm { .. }))
}
