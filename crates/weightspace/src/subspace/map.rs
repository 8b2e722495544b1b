//! The linear map from coefficients to projected weights, and its adjoint.

use std::ops::Range;
use std::sync::Arc;

use weightspace_core::basis::{Matrix, Projection};
use weightspace_nn::comm::{Communicator, Solo};

/// basis alpha: the weights of all projected tensors, end to end, without what they are added to. See
/// [`Projection`] for the scales.
///
/// Of several ranks every one generates the columns of its part of the coefficients alone (PRANC,
/// section 3.2); the weights are then summed, and gradients of coefficients are gathered.
pub struct Map {
    projection: Projection,
    comm: Arc<dyn Communicator>,
    /// The gain of every coefficient.
    gains: Vec<f32>,
    /// Coefficients times their gains; or, on the way back, the gradient of this rank's.
    scaled: Vec<f32>,
}

/// What a rank has of a segment.
struct Part {
    matrix: Matrix,
    /// Of the matrix.
    columns: Range<usize>,
    /// The same among the coefficients of all segments.
    coefficients: Range<usize>,
    weights: Range<usize>,
}

impl Map {
    /// The map of a projection; allocates what it needs.
    pub fn new(projection: Projection) -> Self {
        let matrices = projection.matrices().iter();
        let gains = matrices.flat_map(|m| (0..m.columns).map(|j| m.column_gain(j).factor() as f32));
        let gains: Vec<f32> = gains.collect();
        Map { projection, comm: Arc::new(Solo), scaled: vec![0.0; gains.len()], gains }
    }

    /// Divides the coefficients among ranks.
    pub fn attach(&mut self, comm: Arc<dyn Communicator>) {
        self.comm = comm;
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
        for Part { matrix, columns, coefficients, weights } in self.parts() {
            let sums = &mut out[weights];
            match columns.is_empty() {
                true => sums.fill(0.0),
                false => {
                    let own = &self.scaled[coefficients];
                    matrix.expand(columns, own, 0..matrix.rows, sums);
                }
            }
        }
        self.comm.sum_f32(out);
        self.scale_rows(out);
    }

    /// Writes the transposed basis x gradient, which is used as working memory.
    pub fn apply_adjoint(&mut self, gradient: &mut [f32], out: &mut [f32]) {
        self.scale_rows(gradient);
        let parts: Vec<Part> = self.parts().collect();
        for Part { matrix, columns, coefficients, weights } in parts {
            if !columns.is_empty() {
                let own = &mut self.scaled[coefficients];
                matrix.pullback(columns, &mut gradient[weights], own);
            }
        }
        let part = self.comm.part();
        let own = part.range(out.len());
        self.comm.gather_f32(&self.scaled[own], &part.lengths(out.len()), out);
        out.iter_mut().zip(&self.gains).for_each(|(gradient, gain)| *gradient *= gain);
    }

    /// What this rank has of every segment.
    fn parts(&self) -> impl Iterator<Item = Part> {
        let own = self.comm.part().range(self.gains.len());
        let mut end = 0;
        let matrices = self.projection.matrices().iter();
        matrices.zip(self.projection.segments()).map(move |(&matrix, segment)| {
            let first = end;
            end += matrix.columns;
            let start = own.start.clamp(first, end);
            let coefficients = start..own.end.clamp(start, end);
            let columns = coefficients.start - first..coefficients.end - first;
            let weights = self.projection.weights_of(&segment.tensors);
            Part { matrix, columns, coefficients, weights }
        })
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

    /// Ranks that divide the coefficients make the same weights and gradients but for rounding.
    #[test]
    fn ranks_share_the_work() {
        let net = arch::build("mlp:64-32-10", &Default::default()).unwrap();
        for info in &BASES {
            for split in [Split::Flat, Split::PerLayer] {
                let config = SubspaceConfig {
                    basis: info.basis,
                    coefficients: 300,
                    split: split.clone(),
                    ..SubspaceConfig::default()
                };
                let both = |comm: Arc<dyn Communicator>| {
                    let key = Key::from_seed(3);
                    let mut map = Map::new(projection(&net, &config, key, Start::Zero).unwrap());
                    map.attach(comm);
                    let count = map.projection().weight_count();
                    let alpha: Vec<f32> = (0..300).map(|i| (i % 7) as f32 - 3.0).collect();
                    let (mut weights, mut pulled) = (vec![0.0; count], vec![0.0; 300]);
                    map.apply(&alpha, &mut weights);
                    map.apply_adjoint(&mut weights.clone(), &mut pulled);
                    [weights, pulled].concat()
                };
                let alone = both(Arc::new(Solo));
                let largest = alone.iter().fold(0f32, |max, value| max.max(value.abs()));
                for size in [2, 3, 4] {
                    let results: Vec<Vec<f32>> = std::thread::scope(|scope| {
                        let ranks = weightspace_nn::comm::threads(size).into_iter();
                        let ranks: Vec<_> =
                            ranks.map(|rank| scope.spawn(|| both(Arc::new(rank)))).collect();
                        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
                    });
                    for result in results {
                        let differences = result.iter().zip(&alone).map(|(a, b)| (a - b).abs());
                        let difference = differences.fold(0f32, f32::max);
                        assert!(difference < 2e-6 * largest, "{}, {size}: {difference}", info.name);
                    }
                }
            }
        }
    }

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
