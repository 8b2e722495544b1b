//! What a probe sees of a feature: networks that have diverged have weights beyond all others', and must not decide
//! everything.

use faer::{Mat, MatRef};
use serde::Serialize;

/// Times the distance between the quartiles of the training samples that a feature may lie outside of them.
const REACH: f64 = 3.0;

/// What a probe sees of a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Its value, moved to the edge of what most of the training samples have (Tukey's outer fences) where it is far
    /// outside of it.
    #[default]
    Values,
    /// The share of the training samples that have less, and half of those that have the same.
    Ranks,
}

/// A scale for every feature of some training samples.
#[derive(Clone, Debug)]
pub(super) struct Scaler {
    features: Vec<Scaled>,
}

#[derive(Clone, Debug)]
enum Scaled {
    /// Between the least and the largest value that is believed.
    Clamped(f64, f64),
    /// The training samples' values, ascending.
    Ranked(Vec<f64>),
}

impl Scaler {
    /// Of samples x features. Nothing without samples, or if a feature is not finite.
    pub fn new(scale: Scale, features: MatRef<'_, f64>) -> Option<Self> {
        if features.nrows() == 0 {
            return None;
        }
        let of = |column: usize| {
            let mut sorted: Vec<f64> = features.col(column).iter().copied().collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let finite = sorted.iter().all(|value| value.is_finite());
            finite.then(|| match scale {
                Scale::Values => fences(&sorted),
                Scale::Ranks => Scaled::Ranked(sorted),
            })
        };
        let features: Option<Vec<Scaled>> = (0..features.ncols()).map(of).collect();
        Some(Scaler { features: features? })
    }

    /// What the probe sees, samples x features.
    ///
    /// # Panics
    /// If there are other features.
    pub fn apply(&self, features: MatRef<'_, f64>) -> Mat<f64> {
        assert_eq!(features.ncols(), self.features.len(), "features");
        let of = |i, j| match (&self.features[j], features[(i, j)]) {
            (&Scaled::Clamped(low, high), value) => f64::clamp(value, low, high),
            (Scaled::Ranked(sorted), value) => rank(sorted, value),
        };
        Mat::from_fn(features.nrows(), features.ncols(), of)
    }
}

/// Where more than half of the samples have the same value every other would be far outside, and all are believed.
fn fences(sorted: &[f64]) -> Scaled {
    let quartile = |quarter: usize| sorted[quarter * (sorted.len() - 1) / 4];
    let (low, high) = (quartile(1), quartile(3));
    match REACH * (high - low) {
        reach if reach > 0.0 => Scaled::Clamped(low - reach, high + reach),
        _ => Scaled::Clamped(f64::NEG_INFINITY, f64::INFINITY),
    }
}

fn rank(sorted: &[f64], value: f64) -> f64 {
    let less = sorted.partition_point(|&other| other < value);
    let same = sorted[less..].partition_point(|&other| other <= value);
    (less as f64 + 0.5 * same as f64) / sorted.len() as f64
}

#[cfg(test)]
mod tests {
    use weightspace_core::random::{Key, Stream};

    use super::super::ridge::{Samples, determination, fit_best};
    use super::*;

    fn column(values: &[f64]) -> Mat<f64> {
        Mat::from_fn(values.len(), 1, |i, _| values[i])
    }

    fn scaled(scale: Scale, train: &[f64], values: &[f64]) -> Vec<f64> {
        let scaler = Scaler::new(scale, column(train).as_ref()).unwrap();
        scaler.apply(column(values).as_ref()).col(0).iter().copied().collect()
    }

    #[test]
    fn values_far_outside_are_moved_to_the_fences() {
        // Quartiles 1 and 3.
        let train = [0.0, 1.0, 2.0, 3.0, 1e9];
        assert_eq!(scaled(Scale::Values, &train, &[2.5, -1e30, 8.9, 1e9]), [2.5, -5.0, 8.9, 9.0]);
        assert_eq!(scaled(Scale::Values, &[4.0, 4.0, 4.0, 4.0, 7.0], &[7.0, 1e9]), [7.0, 1e9]);
    }

    #[test]
    fn ranks_are_shares_of_the_training_samples() {
        let train = [3.0, 1.0, 1.0, 1e9];
        let expected = [0.0, 0.25, 0.5, 0.625, 0.875, 1.0];
        assert_eq!(scaled(Scale::Ranks, &train, &[0.0, 1.0, 2.0, 3.0, 1e9, 1e30]), expected);
    }

    /// One network that has diverged, in training or among those that are predicted, does not decide the score.
    #[test]
    fn a_diverged_network_ruins_no_probe() {
        let mut stream = Stream::new(Key::from_seed(9), 0);
        let mut features = Mat::from_fn(200, 5, |_, _| f64::from(stream.normal()));
        let factors = Mat::from_fn(5, 1, |_, _| f64::from(stream.normal()));
        let targets = &features * &factors;
        features[(10, 2)] = 1e9;
        features[(160, 4)] = -1e12;
        for scale in [Scale::Values, Scale::Ranks] {
            let scaler = Scaler::new(scale, features.as_ref().subrows(0, 100)).unwrap();
            let seen = scaler.apply(features.as_ref());
            let part = |from: usize, count: usize| Samples {
                features: seen.as_ref().subrows(from, count),
                targets: targets.as_ref().subrows(from, count),
            };
            let (ridge, ..) = fit_best(part(0, 100), part(100, 50), determination).unwrap();
            let found = ridge.predict(part(150, 50).features);
            let score = determination(found.as_ref(), part(150, 50).targets);
            assert!(score > 0.5, "{scale:?}: {score}");
        }
    }

    #[test]
    fn features_that_are_not_finite_have_no_scale() {
        for scale in [Scale::Values, Scale::Ranks] {
            assert!(Scaler::new(scale, column(&[1.0, f64::INFINITY]).as_ref()).is_none());
            assert!(Scaler::new(scale, column(&[]).as_ref()).is_none());
        }
    }
}
