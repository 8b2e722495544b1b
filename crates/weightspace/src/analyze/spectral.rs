//! How the singular values of every layer change, and how far its weights move.

use faer::Mat;
use rayon::prelude::*;
use serde::Serialize;
use weightspace_core::{StateDict, Tensor};

use super::{AnalyzeError, layer_weights};

/// A layer in two versions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSpectrum {
    /// Name of the weight.
    pub name: String,
    /// Its shape, as the matrix \[output channels, inputs of one output\].
    pub shape: [usize; 2],
    /// Share of the larger half of the singular values (rounded down) in the sum of their squares, in
    /// the first version.
    pub ratio_a: f64,
    /// The same in the second version.
    pub ratio_b: f64,
    /// By how much it changes.
    pub change: f64,
    /// Euclidean norm of the difference of the weights.
    pub distance: f64,
    /// That norm relative to the first version's weights; `null` for weights that are all zero.
    pub relative_distance: Option<f64>,
}

/// Compares all weights of two versions with the same tensors, in their order.
///
/// # Errors
/// `Diverged` if a tensor has no singular values that can be computed.
pub fn spectral(a: &StateDict, b: &StateDict) -> Result<Vec<LayerSpectrum>, AnalyzeError> {
    let pairs = layer_weights(a).filter_map(|(name, tensor)| Some((name, tensor, b.get(name)?)));
    let pairs: Vec<_> = pairs.collect();
    pairs.par_iter().map(|(name, a, b)| layer(name, a, b)).collect()
}

fn layer(name: &str, a: &Tensor, b: &Tensor) -> Result<LayerSpectrum, AnalyzeError> {
    let rows = a.shape()[0];
    let shape = [rows, a.element_count() / rows];
    let diverged = || AnalyzeError::Diverged(name.to_owned());
    let ratio = |tensor| ratio(tensor, shape).ok_or_else(diverged);
    let (ratio_a, ratio_b) = (ratio(a)?, ratio(b)?);
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let distance = squares(&mut a.iter_f64().zip(b.iter_f64()).map(|(a, b)| a - b));
    let norm = squares(&mut a.iter_f64());
    Ok(LayerSpectrum {
        name: name.to_owned(),
        shape,
        ratio_a,
        ratio_b,
        change: ratio_b - ratio_a,
        distance,
        relative_distance: (norm > 0.0).then(|| distance / norm),
    })
}

/// Share of the larger half of the singular values in the sum of their squares; 0 if all are 0.
fn ratio(tensor: &Tensor, [rows, columns]: [usize; 2]) -> Option<f64> {
    let values: Vec<f64> = tensor.iter_f64().collect();
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let matrix = Mat::from_fn(rows, columns, |i, j| values[i * columns + j]);
    let singular = matrix.singular_values().ok()?;
    let squares = || singular.iter().map(|s| s * s);
    let total: f64 = squares().sum();
    let half: f64 = squares().take(singular.len() / 2).sum();
    Some(if total > 0.0 { half / total } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(values: &[f32]) -> StateDict {
        [("w".to_string(), Tensor::from_f32(vec![3, 3, 1], values))].into_iter().collect()
    }

    #[test]
    fn ratios_and_distances_of_known_matrices() {
        let a = dict(&[3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0]);
        let b = dict(&[3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let found = spectral(&a, &b).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].shape), ("w", [3, 3]));
        assert!((found[0].ratio_a - 9.0 / 14.0).abs() < 1e-12);
        assert!((found[0].ratio_b - 1.0).abs() < 1e-12);
        assert!((found[0].distance - 5f64.sqrt()).abs() < 1e-12);
        assert!((found[0].relative_distance.unwrap() - (5f64 / 14.0).sqrt()).abs() < 1e-12);
        let zero = dict(&[0.0; 9]);
        assert_eq!(spectral(&zero, &zero).unwrap()[0].relative_distance, None);
        let nan = dict(&[f32::NAN; 9]);
        assert!(matches!(spectral(&a, &nan), Err(AnalyzeError::Diverged(_))));
    }
}
