//! From trained weights to a `.wsp` file.

use std::collections::BTreeMap;

use weightspace_core::StateDict;
use weightspace_core::container::{self, Coding, Header, Quantized};
use weightspace_nn::engine::batch_norm_affine;
use weightspace_nn::net::{Net, Op, ParameterKind, ParameterSpec};

use crate::quantize::QuantizeError;
use crate::subspace::Quantizer;
use crate::vectors;

/// A rounded tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounded {
    /// What integers are multiplied with.
    pub step: f32,
    /// In row-major order.
    pub integers: Vec<i32>,
}

/// The bytes of a file: `rounded` tensors by name, and everything else of `tensors`, the network's state dict, as
/// integers of `vector_bits` bits.
///
/// # Errors
/// If a tensor of the network is missing.
pub fn encode(
    net: &Net,
    header: &Header,
    tensors: &StateDict,
    rounded: &BTreeMap<String, Rounded>,
    vector_bits: u8,
) -> Result<Vec<u8>, QuantizeError> {
    let coding = |spec: ParameterSpec| {
        let coding = match (rounded.get(&spec.name), gains(net, &spec, tensors, rounded)?) {
            (Some(Rounded { step, integers }), _) => Coding::Quantized(Quantized {
                shape: spec.shape.clone(),
                scale: *step,
                channel_exponents: None,
                values: integers.clone(),
            }),
            (None, Some(gains)) => Coding::Quantized(relative(&gains, vector_bits)),
            (None, None) => vectors::coding(net, &spec, tensors, Quantizer::new(vector_bits))?,
        };
        Ok((spec.name, coding))
    };
    let codings: Result<Vec<_>, QuantizeError> = net.parameters().into_iter().map(coding).collect();
    Ok(container::encode(header, &codings?)?)
}

/// What a batch normalisation multiplies its channels with; 0 for those whose weights are all 0, which would have
/// the largest of all.
fn gains(
    net: &Net,
    spec: &ParameterSpec,
    tensors: &StateDict,
    rounded: &BTreeMap<String, Rounded>,
) -> Result<Option<Vec<f32>>, QuantizeError> {
    let node = net.node(spec.node);
    if spec.kind != ParameterKind::NormWeight || !matches!(node.op, Op::BatchNorm { .. }) {
        return Ok(None);
    }
    let affine = batch_norm_affine(net, spec.node, tensors)?;
    let mut gains: Vec<f32> = affine.iter().map(|&(scale, _)| scale as f32).collect();
    let weight = node.inputs.first().map(|&input| format!("{}.weight", net.node(input).name));
    if let Some(Rounded { integers, .. }) = weight.and_then(|name| rounded.get(&name)) {
        let rows = integers.chunks_exact((integers.len() / gains.len()).max(1));
        for (gain, _) in gains.iter_mut().zip(rows).filter(|(_, row)| row.iter().all(|&q| q == 0)) {
            *gain = 0.0;
        }
    }
    Ok(Some(gains))
}

/// Numbers of any magnitude, all with about the same relative error: each has its own exponent, in eighths
/// of octaves, and an integer in the lowest eighth of `bits` bits.
fn relative(values: &[f32], bits: u8) -> Quantized {
    let lowest = f32::from(1u16 << (bits - 1));
    let largest =
        values.iter().fold(0f32, |most, v| most.max(v.abs())).max(f32::MIN_POSITIVE * 1e6);
    let exponent = |value: &f32| match value.abs() {
        magnitude if magnitude > 0.0 => {
            (8.0 * (largest / magnitude).log2()).floor().min(255.0) as u8
        }
        _ => 0,
    };
    let exponents: Vec<u8> = values.iter().map(exponent).collect();
    let mut quantized = Quantized {
        shape: vec![values.len()],
        scale: largest / lowest,
        channel_exponents: Some(exponents),
        values: Vec::new(),
    };
    // Rounded down, an exponent leaves a magnitude of 0.917 to 1 of its power of two.
    let integer = |(c, value): (usize, &f32)| (value / quantized.channel_scale(c)).round() as i32;
    quantized.values = values.iter().enumerate().map(integer).collect();
    quantized
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn small_and_large_numbers_have_the_same_relative_error() {
        let values = [3.0f32, -0.17, 0.0, 0.0021, 299.0, 1.0];
        let found = relative(&values, 8).dequantize();
        for (value, found) in values.iter().zip(found) {
            assert!((value - found).abs() <= 0.005 * value.abs(), "{value} {found}");
        }
    }
}
