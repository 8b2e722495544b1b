//! Another encoding for a trained predictor, of the same function in fewer parameters.

use faer::Mat;
use weightspace_core::predictor::{Encoding, Grid, PredictorError};

use super::{Model, ModelConfig};

/// A predictor whose encoding has been replaced.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The predictor.
    pub model: Model,
    /// Its coefficients.
    pub coefficients: Vec<f32>,
    /// Largest change of a sum of the first layer.
    pub error: f64,
}

impl Model {
    /// The same predictor on Chebyshev polynomials up to `degree`: sines and cosines of long waves are
    /// nearly polynomials, so that a few of these hold what 80 features of a coordinate say. The first
    /// layer's weights are those of the least squares over the coordinates that occur.
    ///
    /// # Errors
    /// Raw coordinates, or a degree beyond its limit.
    ///
    /// # Panics
    /// If the coefficients or the grid are not this model's.
    pub fn to_polynomials(
        &self,
        grid: &Grid,
        coefficients: &[f32],
        degree: u32,
    ) -> Result<Folded, PredictorError> {
        let model = self.with_encoding(grid, Encoding::Chebyshev { degree })?;
        let sums = self.sums(coefficients);
        let (hidden, degree) = (self.hidden(), degree as usize);
        let mut weight = vec![0.0; hidden * 3 * degree];
        let mut bias = vec![0f64; hidden];
        let mut error = 0f64;
        for (axis, sums) in sums.iter().enumerate() {
            let count = self.values()[axis].len();
            let features = model.features(axis);
            // The constant polynomial is the bias' part of the axis.
            let basis = Mat::from_fn(count, degree + 1, |i, j| match j {
                0 => 1.0,
                _ => f64::from(features[i * degree + j - 1]),
            });
            let sums = Mat::from_fn(count, hidden, |i, j| f64::from(sums[i * hidden + j]));
            let inverse = basis.thin_svd().expect("finite numbers").pseudoinverse();
            let found = inverse * &sums;
            let difference = &basis * &found - &sums;
            error = error.max(difference.norm_max());
            for unit in 0..hidden {
                bias[unit] += found[(0, unit)];
                for j in 0..degree {
                    weight[unit * 3 * degree + axis * degree + j] = found[(j + 1, unit)] as f32;
                }
            }
        }
        let mut folded = vec![0.0; model.coefficients().len()];
        model.set(&mut folded, "layers.0.weight", &weight);
        let old = &coefficients[self.range("layers.0.bias")];
        let bias: Vec<f32> =
            bias.iter().zip(old).map(|(a, &b)| (a + f64::from(b)) as f32).collect();
        model.set(&mut folded, "layers.0.bias", &bias);
        let rest = model.rest();
        folded[rest..].copy_from_slice(&coefficients[self.rest()..]);
        Ok(Folded { model, coefficients: folded, error })
    }

    /// The same predictor on tables of the first layer's sums.
    ///
    /// # Errors
    /// None that this predictor itself does not have.
    ///
    /// # Panics
    /// If the coefficients or the grid are not this model's.
    pub fn to_tables(&self, grid: &Grid, coefficients: &[f32]) -> Result<Folded, PredictorError> {
        let model = self.with_encoding(grid, Encoding::DirectTables)?;
        let mut folded = self.sums(coefficients).concat();
        folded.extend_from_slice(&coefficients[self.range("layers.0.bias").start..]);
        assert_eq!(folded.len(), model.coefficients().len(), "coefficients of the predictor");
        Ok(Folded { model, coefficients: folded, error: 0.0 })
    }

    fn with_encoding(&self, grid: &Grid, encoding: Encoding) -> Result<Model, PredictorError> {
        let config = ModelConfig { encoding, hidden: self.hidden(), layers: self.layers() };
        Model::new(grid, self.net().class_count(), &config)
    }

    /// What each distinct coordinate of every axis adds to the first layer's sums.
    fn sums(&self, coefficients: &[f32]) -> [Vec<f32>; 3] {
        let mut weights = vec![0.0; self.net().parameter_count()];
        let mut without_bias = coefficients.to_vec();
        without_bias[self.range("layers.0.bias")].fill(0.0);
        self.expand(&without_bias, &mut weights);
        [0, 1, 2].map(|axis| weights[self.table(axis)].to_vec())
    }

    fn set(&self, coefficients: &mut [f32], name: &str, values: &[f32]) {
        coefficients[self.range(name)].copy_from_slice(values);
    }
}
