//! From a trained predictor to a `.wsp` file.

use weightspace_core::StateDict;
use weightspace_core::container::{
    Coding, Header, Predicted, PredictedTensor, Quantized, encode_predicted,
};
use weightspace_nn::Net;
use weightspace_nn::net::{ParameterKind, ParameterSpec};

use super::{Model, Target};
use crate::quantize::codings::VECTOR_LEVELS;
use crate::quantize::grid::{Grid, round_vector, step_for_levels};
use crate::subspace::{EncodeError, Quantizer};
use crate::vectors;

/// Bits of a weight that is neither predicted nor the predictor's own.
const OTHER_BITS: u8 = 8;

/// Bits of the elements of normalisations and biases, where nothing else is asked for.
pub const VECTOR_BITS: u8 = 16;

/// The coefficients of a predictor as a file's inner tensors: tables and weights as integers of `bits` bits
/// (2 to 16) with a scale for each row, biases with 16 bits.
///
/// # Panics
/// If these are not the model's coefficients.
pub fn inner_tensors(model: &Model, coefficients: &[f32], bits: u8) -> Vec<(String, Coding)> {
    let entries = model.coefficients().entries().iter();
    let inner = entries.map(|entry| {
        let values = &coefficients[entry.range()];
        let quantized = match entry.shape.len() {
            1 => round_vector(values, &entry.shape, step_for_levels(values, VECTOR_LEVELS)),
            _ => rounded_rows(values, &entry.shape, bits),
        };
        (format!("predictor.{}", entry.name), Coding::Quantized(quantized))
    });
    inner.collect()
}

/// The bytes of a file: what is predicted through the predictor's `inner` tensors (without masks), and
/// everything else of the network: batch normalisations as two vectors of `vector_bits` bits (2 to 16), other
/// weights with 8.
///
/// `tensors` is the network's state dict in the target's order, of which what is predicted is not used.
///
/// # Errors
/// If a tensor of the network is missing, or the file cannot be written as it should.
pub fn encode(
    header: &Header,
    net: &Net,
    target: &Target,
    model: &Model,
    inner: Vec<(String, Coding)>,
    tensors: &StateDict,
    vector_bits: u8,
) -> Result<Vec<u8>, EncodeError> {
    let coding = |spec: ParameterSpec| -> Result<_, EncodeError> {
        let is_predicted = target.tensors().iter().any(|tensor| tensor.name == spec.name);
        let coding = match (spec.kind, tensors.get(&spec.name)) {
            _ if is_predicted => Coding::Predicted { shape: spec.shape },
            (ParameterKind::Weight, Some(tensor)) => {
                Coding::Quantized(rounded_rows(&tensor.to_f32(), &spec.shape, OTHER_BITS))
            }
            _ => vectors::coding(net, &spec, tensors, Quantizer::new(vector_bits))?,
        };
        Ok((spec.name, coding))
    };
    let codings = net.parameters().into_iter().map(coding).collect::<Result<Vec<_>, _>>()?;
    let pairs = target.tensors().iter().zip(target.grid().tensors());
    let predicted = Predicted {
        coordinates: model.coordinate_scale(),
        encoding: model.encoding(),
        tensors: pairs
            .map(|(tensor, (tiling, order))| PredictedTensor {
                tile: tiling.tile,
                order: order.clone(),
                scale: tensor.scale,
                masked: tensor.mask.is_some(),
            })
            .collect(),
    };
    let mut inner = inner;
    inner.extend(masks(target));
    Ok(encode_predicted(header, &codings, &predicted, &inner)?)
}

/// The masks of a target, of ones and zeros.
fn masks(target: &Target) -> impl Iterator<Item = (String, Coding)> {
    target.tensors().iter().zip(target.grid().tensors()).filter_map(|(tensor, (tiling, _))| {
        let mask = tensor.mask.as_ref()?;
        let values = mask.iter().map(|&value| value as i32).collect();
        let shape = tiling.shape.clone();
        let ones = Quantized { shape, scale: 1.0, channel_exponents: None, values };
        Some((format!("predictor.masks.{}", tensor.name), Coding::Quantized(ones)))
    })
}

/// Integers of so many bits, every row with the scale that its largest value needs.
fn rounded_rows(values: &[f32], shape: &[usize], bits: u8) -> Quantized {
    let rows = shape.first().copied().unwrap_or(1);
    let scales = Grid::Levels((1 << (bits - 1)) - 1).scales(values, rows);
    let columns = (values.len() / rows.max(1)).max(1);
    let limit = scales.limit as f32;
    let rounded = values.chunks(columns).zip(&scales.rows).flat_map(|(row, &scale)| {
        row.iter().map(move |value| (value / scale).round().clamp(-limit, limit) as i32)
    });
    Quantized {
        shape: shape.to_vec(),
        scale: scales.base,
        values: rounded.collect(),
        channel_exponents: scales.exponents,
    }
}
