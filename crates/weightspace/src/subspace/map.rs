//! The linear map from coefficients to projected weights, and its adjoint.

use weightspace_core::basis::Projection;

/// basis alpha: the weights of all projected tensors, end to end, without what they are added to. See
/// [`Projection`] for the scales.
pub struct Map {
    projection: Projection,
    /// The gain of every coefficient.
    gains: Vec<f32>,
    /// Coefficients times their gains.
    scaled: Vec<f32>,
}

impl Map {
    /// The map of a projection; allocates what it needs.
    pub fn new(projection: Projection) -> Self {
        let matrices = projection.matrices().iter();
        let gains = matrices.flat_map(|m| (0..m.columns).map(|j| m.column_gain(j).factor() as f32));
        let gains: Vec<f32> = gains.collect();
        Map { projection, scaled: vec![0.0; gains.len()], gains }
    }

    /// The projection.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// The gain of every coefficient.
    pub fn gains(&self) -> &[f32] {
        &self.gains
    }

    /// Writes basis x coefficients.
    pub fn apply(&mut self, coefficients: &[f32], out: &mut [f32]) {
        let scaled = self.scaled.iter_mut().zip(coefficients).zip(&self.gains);
        scaled.for_each(|((scaled, a), gain)| *scaled = a * gain);
        let mut first = 0;
        for (segment, matrix) in self.projection.segments().iter().zip(self.projection.matrices()) {
            let sums = &mut out[self.projection.weights_of(&segment.tensors)];
            let own = &self.scaled[first..first + matrix.columns];
            matrix.expand(0..matrix.columns, own, 0..matrix.rows, sums);
            first += matrix.columns;
        }
        self.scale_rows(out);
    }

    /// Writes the transposed basis x gradient, which is used as working memory.
    pub fn apply_adjoint(&self, gradient: &mut [f32], out: &mut [f32]) {
        self.scale_rows(gradient);
        let mut first = 0;
        for (segment, matrix) in self.projection.segments().iter().zip(self.projection.matrices()) {
            let gradient = &mut gradient[self.projection.weights_of(&segment.tensors)];
            let own = &mut out[first..first + matrix.columns];
            matrix.pullback(0..matrix.columns, gradient, own);
            first += matrix.columns;
        }
        out.iter_mut().zip(&self.gains).for_each(|(gradient, gain)| *gradient *= gain);
    }

    /// Times 1 / sqrt(3 fan-in).
    fn scale_rows(&self, weights: &mut [f32]) {
        let mut rest = weights;
        for tensor in self.projection.tensors() {
            let (own, behind) = rest.split_at_mut(tensor.len);
            let scale = (1.0 / (3 * tensor.fan_in) as f64).sqrt() as f32;
            own.iter_mut().for_each(|weight| *weight *= scale);
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests {
    use weightspace_core::basis::{BASES, Start};
    use weightspace_core::random::{Key, Stream};
    use weightspace_nn::arch;

    use super::super::{Split, SubspaceConfig, projection};
    use super::*;

    /// <A a, g> = <a, A^T g>, and no column is longer than others: the norm of an initialised network.
    #[test]
    fn adjoint_identity_and_norms_for_every_basis_and_split() {
        let net = arch::build("lenet-mnist", &Default::default()).unwrap();
        let norm: f64 = net
            .layout()
            .entries()
            .iter()
            .map(|e| e.element_count() as f64 / (3 * e.fan_in) as f64)
            .sum();
        for info in &BASES {
            for split in [Split::Flat, Split::PerLayer] {
                let config = SubspaceConfig {
                    basis: info.basis,
                    coefficients: 300,
                    split: split.clone(),
                    ..SubspaceConfig::default()
                };
                let key = Key::from_seed(3);
                let mut map = Map::new(projection(&net, &config, key, Start::Zero).unwrap());
                let normal = |len, stream| {
                    let mut values = vec![0f32; len];
                    Stream::new(Key::from_seed(1), stream).fill_normal(&mut values);
                    values
                };
                let (alpha, gradient) = (normal(300, 0), normal(44_426, 1));
                let (mut weights, mut pulled) = (vec![0.0; 44_426], vec![0.0; 300]);
                map.apply(&alpha, &mut weights);
                map.apply_adjoint(&mut gradient.clone(), &mut pulled);
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let (one, other) = (dot(&weights, &gradient), dot(&alpha, &pulled));
                let length = dot(&weights, &weights).sqrt() * dot(&gradient, &gradient).sqrt();
                assert!(
                    (one - other).abs() < 1e-5 * length,
                    "{}, {split}: {one}, {other}",
                    info.name
                );
                // The paper's basis vectors are initialised networks: 8.9 long for this one.
                let length = dot(&weights, &weights).sqrt() / dot(&alpha, &alpha).sqrt();
                let expected = match split {
                    Split::Flat => norm.sqrt(),
                    _ => continue,
                };
                assert!((length / expected - 1.0).abs() < 0.12, "{}: {length}", info.name);
                assert!((expected - 8.9).abs() < 0.05);
            }
        }
    }
}
