//! The coefficients whose weights are nearest to given ones: the baseline that fails (PRANC, section 4).
//!
//! k directions that know nothing of the d weights hold about k / d of their energy, so almost nothing
//! of a trained network is left. Coefficients have to be trained for the loss instead.

use super::map::Map;

/// A least-squares solution.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// The coefficients.
    pub coefficients: Vec<f32>,
    /// Share of the sum of squares of the target that they reach, 0 to 1.
    pub kept_energy: f64,
    /// Iterations of conjugate gradients.
    pub iterations: usize,
}

/// Most iterations; nearly orthogonal columns take a handful.
const LARGEST_ITERATIONS: usize = 200;

/// The coefficients that minimise the distance of basis x coefficients from `target` (all projected
/// weights end to end, less what coefficients are added to): conjugate gradients on the normal
/// equations (Hestenes and Stiefel 1952).
pub fn regress(map: &mut Map, target: &[f32]) -> Regression {
    let mut residual = target.to_vec();
    let mut working = target.to_vec();
    let count = map.gains().len();
    let mut coefficients = vec![0f32; count];
    let mut gradient = vec![0f32; count];
    map.apply_adjoint(&mut working, &mut gradient);
    let mut direction = gradient.clone();
    let begin = square(&gradient);
    let mut slope = begin;
    let mut iterations = 0;
    while slope > 1e-10 * begin && iterations < LARGEST_ITERATIONS {
        map.apply(&direction, &mut working);
        let step = slope / square(&working).max(f64::MIN_POSITIVE);
        add(&mut coefficients, step, &direction);
        add(&mut residual, -step, &working);
        working.copy_from_slice(&residual);
        map.apply_adjoint(&mut working, &mut gradient);
        let next = square(&gradient);
        let ratio = (next / slope) as f32;
        direction.iter_mut().zip(&gradient).for_each(|(d, g)| *d = g + ratio * *d);
        slope = next;
        iterations += 1;
    }
    let all = square(target);
    let kept_energy = if all > 0.0 { 1.0 - square(&residual) / all } else { 1.0 };
    Regression { coefficients, kept_energy, iterations }
}

fn square(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum()
}

fn add(target: &mut [f32], factor: f64, values: &[f32]) {
    target.iter_mut().zip(values).for_each(|(t, v)| *t += factor as f32 * v);
}

#[cfg(test)]
mod tests {
    use weightspace_core::basis::{BASES, Start};
    use weightspace_core::random::{Key, Stream};
    use weightspace_nn::arch;

    use super::super::{SubspaceConfig, projection};
    use super::*;

    fn map(basis: weightspace_core::basis::Basis, coefficients: usize) -> Map {
        let net = arch::build("mlp:64-32-10", &Default::default()).unwrap();
        let config = SubspaceConfig { basis, coefficients, ..SubspaceConfig::default() };
        Map::new(projection(&net, &config, Key::from_seed(3), Start::Zero).unwrap())
    }

    #[test]
    fn what_lies_in_the_subspace_is_found_again() {
        for info in &BASES {
            let mut map = map(info.basis, 100);
            let mut alpha = vec![0f32; 100];
            Stream::new(Key::from_seed(1), 0).fill_normal(&mut alpha);
            let mut target = vec![0.0; map.projection().weight_count()];
            map.apply(&alpha, &mut target);
            let found = regress(&mut map, &target);
            assert!(found.kept_energy > 0.999_999, "{}: {found:?}", info.name);
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-2;
            assert!(alpha.iter().zip(&found.coefficients).all(close), "{}", info.name);
        }
    }

    #[test]
    fn of_other_weights_k_of_d_parts_are_kept() {
        for info in &BASES {
            let mut map = map(info.basis, 200);
            let count = map.projection().weight_count();
            let mut target = vec![0.0; count];
            Stream::new(Key::from_seed(1), 0).fill_normal(&mut target);
            let expected = 200.0 / count as f64;
            let found = regress(&mut map, &target).kept_energy;
            assert!((found / expected - 1.0).abs() < 0.4, "{}: {found}, not {expected}", info.name);
        }
    }
}
