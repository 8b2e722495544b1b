//! Linear probes in closed form.

use faer::{Mat, MatRef, Side};

/// Penalties that are tried: 17, from 1e3 down to 1e-5, two a decade.
pub fn penalties() -> impl Iterator<Item = f64> {
    (0..17).map(|i| 10f64.powf(3.0 - f64::from(i) / 2.0))
}

/// Rows of features, one per sample, with targets.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    /// Samples x features.
    pub features: MatRef<'a, f64>,
    /// Samples x targets.
    pub targets: MatRef<'a, f64>,
}

/// A linear map of features, fitted by least squares with a penalty on its squared weights, but not on its offset.
#[derive(Clone, Debug)]
pub struct Ridge {
    mean: Vec<f64>,
    offset: Vec<f64>,
    /// Features x targets.
    weights: Mat<f64>,
}

/// Fits for every penalty, and returns the probe that `score` likes best on the validation samples, with that score
/// and its penalty. Nothing if the features are not finite.
pub fn fit_best(
    train: Samples<'_>,
    validation: Samples<'_>,
    score: impl Fn(MatRef<'_, f64>, MatRef<'_, f64>) -> f64,
) -> Option<(Ridge, f64, f64)> {
    let fits = Fits::new(train)?;
    let mut best: Option<(Ridge, f64, f64)> = None;
    for penalty in penalties() {
        let ridge = fits.with(penalty);
        let found = score(ridge.predict(validation.features).as_ref(), validation.targets);
        if best.as_ref().is_none_or(|(_, best, _)| found > *best) {
            best = Some((ridge, found, penalty));
        }
    }
    best
}

/// What all penalties share: the eigenvectors of the smaller of both products of the features with themselves.
struct Fits {
    mean: Vec<f64>,
    offset: Vec<f64>,
    /// Of features, or of samples where these are fewer.
    vectors: Mat<f64>,
    values: Vec<f64>,
    /// Eigenvectors^T x (features^T targets, or targets).
    projected: Mat<f64>,
    /// Centred features, where the eigenvectors are those of samples.
    rows: Option<Mat<f64>>,
}

impl Fits {
    fn new(Samples { features, targets }: Samples<'_>) -> Option<Self> {
        let (mean, offset) = (means(features), means(targets));
        let centred = |matrix: MatRef<'_, f64>, mean: &[f64]| {
            Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)] - mean[j])
        };
        let (rows, targets) = (centred(features, &mean), centred(targets, &offset));
        let of_samples = rows.nrows() < rows.ncols();
        let gram = match of_samples {
            true => &rows * rows.transpose(),
            false => rows.transpose() * &rows,
        };
        let all = (0..gram.nrows()).flat_map(|i| (0..gram.ncols()).map(move |j| (i, j)));
        if !all.into_iter().all(|at| gram[at].is_finite()) {
            return None;
        }
        let eigen = gram.self_adjoint_eigen(Side::Lower).ok()?;
        let vectors = eigen.U().to_owned();
        let values = eigen.S().column_vector().iter().map(|&value| value.max(0.0)).collect();
        let projected = match of_samples {
            true => vectors.transpose() * &targets,
            false => vectors.transpose() * (rows.transpose() * &targets),
        };
        let rows = of_samples.then_some(rows);
        Some(Fits { mean, offset, vectors, values, projected, rows })
    }

    fn with(&self, penalty: f64) -> Ridge {
        let scaled = Mat::from_fn(self.projected.nrows(), self.projected.ncols(), |i, j| {
            self.projected[(i, j)] / (self.values[i] + penalty)
        });
        let solved = &self.vectors * scaled;
        let weights = match &self.rows {
            Some(rows) => rows.transpose() * solved,
            None => solved,
        };
        Ridge { mean: self.mean.clone(), offset: self.offset.clone(), weights }
    }
}

impl Ridge {
    /// Samples x targets.
    ///
    /// # Panics
    /// If there are other features.
    pub fn predict(&self, features: MatRef<'_, f64>) -> Mat<f64> {
        let centred = Mat::from_fn(features.nrows(), features.ncols(), |i, j| {
            features[(i, j)] - self.mean[j]
        });
        let mut found = centred * &self.weights;
        for i in 0..found.nrows() {
            (0..found.ncols()).for_each(|j| found[(i, j)] += self.offset[j]);
        }
        found
    }
}

fn means(matrix: MatRef<'_, f64>) -> Vec<f64> {
    let rows = matrix.nrows().max(1) as f64;
    (0..matrix.ncols()).map(|j| matrix.col(j).iter().sum::<f64>() / rows).collect()
}

/// Coefficient of determination of the first target: 1 - mean square of errors / variance of the targets.
pub fn determination(found: MatRef<'_, f64>, targets: MatRef<'_, f64>) -> f64 {
    let mean = means(targets)[0];
    let error: f64 = (0..found.nrows()).map(|i| (found[(i, 0)] - targets[(i, 0)]).powi(2)).sum();
    let variance: f64 = (0..found.nrows()).map(|i| (targets[(i, 0)] - mean).powi(2)).sum();
    1.0 - error / variance
}

/// Share of samples whose largest prediction is where their largest target is.
pub fn accuracy(found: MatRef<'_, f64>, targets: MatRef<'_, f64>) -> f64 {
    let largest = |matrix: MatRef<'_, f64>, i: usize| {
        (0..matrix.ncols()).max_by(|&a, &b| matrix[(i, a)].total_cmp(&matrix[(i, b)]))
    };
    let right = (0..found.nrows()).filter(|&i| largest(found, i) == largest(targets, i)).count();
    right as f64 / found.nrows().max(1) as f64
}

#[cfg(test)]
mod tests {
    use weightspace_core::random::{Key, Stream};

    use super::*;

    fn drawn(rows: usize, columns: usize, number: u64) -> Mat<f64> {
        let mut stream = Stream::new(Key::from_seed(9), number);
        Mat::from_fn(rows, columns, |_, _| f64::from(stream.normal()))
    }

    /// The gradient of the penalised squares is 0 where the fit is, with fewer and with more features than samples.
    #[test]
    fn fits_are_where_the_gradient_vanishes() {
        for (rows, columns) in [(40, 7), (9, 30)] {
            let (features, targets) = (drawn(rows, columns, 0), drawn(rows, 2, 1));
            let samples = Samples { features: features.as_ref(), targets: targets.as_ref() };
            let fits = Fits::new(samples).unwrap();
            for penalty in [1e-2, 10.0] {
                let ridge = fits.with(penalty);
                let error = ridge.predict(features.as_ref()) - &targets;
                let gradient =
                    features.transpose() * &error + &ridge.weights * faer::Scale(penalty);
                assert!(gradient.norm_max() < 1e-8, "{rows} x {columns}: {}", gradient.norm_max());
                assert!(means(error.as_ref()).iter().all(|mean| mean.abs() < 1e-10));
            }
        }
    }

    #[test]
    fn a_linear_target_is_found() {
        let (features, factors) = (drawn(200, 5, 2), drawn(5, 1, 3));
        let targets = &features * &factors;
        let part = |from: usize, count: usize| Samples {
            features: features.as_ref().subrows(from, count),
            targets: targets.as_ref().subrows(from, count),
        };
        let (ridge, score, penalty) = fit_best(part(0, 100), part(100, 50), determination).unwrap();
        assert!(score > 1.0 - 1e-9 && penalty < 1e-4);
        let test = part(150, 50);
        let found = ridge.predict(test.features);
        assert!(determination(found.as_ref(), test.targets) > 1.0 - 1e-9);
    }

    #[test]
    fn features_that_are_not_finite_have_no_fit() {
        let mut features = drawn(5, 2, 4);
        features[(0, 0)] = f64::NAN;
        let targets = drawn(5, 1, 5);
        let samples = Samples { features: features.as_ref(), targets: targets.as_ref() };
        assert!(fit_best(samples, samples, determination).is_none());
    }

    #[test]
    fn scores_are_what_they_say() {
        let targets = Mat::from_fn(3, 1, |i, _| i as f64);
        assert_eq!(determination(targets.as_ref(), targets.as_ref()), 1.0);
        let flat = Mat::from_fn(3, 1, |_, _| 1.0);
        assert_eq!(determination(flat.as_ref(), targets.as_ref()), 0.0);
        let classes = Mat::from_fn(3, 2, |i, j| f64::from(u8::from(i % 2 == j)));
        assert_eq!(accuracy(classes.as_ref(), classes.as_ref()), 1.0);
    }
}
