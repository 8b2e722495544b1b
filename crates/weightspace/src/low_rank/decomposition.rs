//! Singular values of a layer's weight, plain or in the metric of its inputs.

use faer::linalg::solvers::Llt;
use faer::{Mat, Par, Side};
use weightspace_core::exact_product;

use crate::quantize::second_order::regularised;
use crate::quantize::statistics::Statistics;

/// A weight W = sum over k of u_k v_k^T, the terms in descending order of their energy.
#[derive(Clone)]
pub(super) struct Decomposition {
    rows: usize,
    columns: usize,
    /// u_k, orthonormal, one after the other.
    left: Vec<f32>,
    /// v_k, one after the other; they hold the singular values.
    right: Vec<f32>,
    /// Energy of each term: of the weights, or of the outputs, which have 1 altogether.
    energies: Vec<f64>,
    /// Mean inputs, where they are known.
    mean: Option<Vec<f64>>,
}

/// Two matrices whose product is near a weight: \[rows, rank\] and \[rank, columns\], row-major.
pub(super) struct Factors {
    pub rows: usize,
    pub rank: usize,
    pub columns: usize,
    pub left: Vec<f32>,
    pub right: Vec<f32>,
}

impl Decomposition {
    /// Decomposes a weight \[rows, columns\], row-major. With the inputs' covariance H = L L^T the
    /// singular values are those of W L. `None` if the weight is empty or they do not converge.
    pub(super) fn new(
        weight: &[f32],
        rows: usize,
        statistics: Option<&Statistics>,
    ) -> Option<Self> {
        let columns = weight.len().checked_div(rows)?;
        // Layers of groups have inputs that the statistics do not tell apart.
        let statistics = statistics.filter(|s| s.original_mean.len() == columns);
        let weight = Mat::from_fn(rows, columns, |i, j| f64::from(weight[i * columns + j]));
        let lower = statistics.and_then(|s| {
            let covariance = regularised(&s.covariance);
            Some(Llt::new(covariance.as_ref(), Side::Lower).ok()?.L().to_owned())
        });
        let metric = lower.as_ref().map(|lower| &weight * lower);
        let svd = metric.as_ref().unwrap_or(&weight).thin_svd().ok()?;
        let count = rows.min(columns);
        let singular: Vec<f64> = (0..count).map(|k| svd.S()[k]).collect();
        // v_k^T = s_k q_k^T L^-1: what W = (W L) L^-1 has of it.
        let mut right = Mat::from_fn(columns, count, |j, k| svd.V()[(j, k)] * singular[k]);
        if let Some(lower) = &lower {
            let transposed = lower.transpose();
            faer::linalg::triangular_solve::solve_upper_triangular_in_place(
                transposed,
                right.as_mut(),
                Par::rayon(0),
            );
        }
        let total: f64 = singular.iter().map(|s| s * s).sum();
        let whole = if total > 0.0 { total } else { 1.0 };
        let left = (0..count).flat_map(|k| svd.U().col(k).iter().map(|&u| u as f32));
        let values = |k: usize| right.col(k).iter().map(|&v| v as f32);
        Some(Decomposition {
            rows,
            columns,
            left: left.collect(),
            right: (0..count).flat_map(values).collect(),
            energies: singular.iter().map(|s| s * s / whole).collect(),
            mean: statistics.map(|s| s.original_mean.clone()),
        })
    }

    /// Elements of the weight.
    pub(super) fn element_count(&self) -> usize {
        self.rows * self.columns
    }

    /// Elements that each term adds to the factors.
    pub(super) fn elements_per_rank(&self) -> usize {
        self.rows + self.columns
    }

    /// Energy of each term, in descending order.
    pub(super) fn energies(&self) -> &[f64] {
        &self.energies
    }

    /// The first `rank` terms.
    pub(super) fn factors(&self, rank: usize) -> Factors {
        let Decomposition { rows, columns, .. } = *self;
        let left = (0..rows).flat_map(|i| (0..rank).map(move |k| self.left[k * rows + i]));
        Factors {
            rows,
            rank,
            columns,
            left: left.collect(),
            right: self.right[..rank * columns].to_vec(),
        }
    }

    /// Adds to a bias what keeps the mean outputs, where mean inputs are known.
    pub(super) fn correct(&self, bias: &mut [f32], weight: &[f32], stored: &[f32]) {
        let Some(mean) = &self.mean else { return };
        let rows = weight.chunks_exact(self.columns).zip(stored.chunks_exact(self.columns));
        for (bias, (weight, stored)) in bias.iter_mut().zip(rows) {
            let difference = weight.iter().zip(stored).map(|(a, b)| f64::from(a - b));
            *bias += difference.zip(mean).map(|(d, mean)| d * mean).sum::<f64>() as f32;
        }
    }
}

impl Factors {
    /// The product, row-major.
    pub(super) fn product(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        exact_product::accumulate(&mut out, &self.left, &self.right, self.rank, self.columns);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight() -> Vec<f32> {
        (0..6 * 10).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect()
    }

    fn statistics() -> Statistics {
        let covariance =
            Mat::from_fn(
                10,
                10,
                |i, j| if i == j { (i + 1) as f64 } else { 0.3 / (1 + i + j) as f64 },
            );
        let mean = (0..10).map(|j| j as f64 / 10.0).collect::<Vec<_>>();
        let current_mean = mean.clone();
        Statistics { original_mean: mean, current_mean, covariance, cross: None, missing: None }
    }

    fn squares(values: impl Iterator<Item = f32>) -> f64 {
        values.map(|v| f64::from(v).powi(2)).sum()
    }

    #[test]
    fn all_terms_give_the_weight_and_fewer_the_nearest() {
        let weight = weight();
        let plain = Decomposition::new(&weight, 6, None).unwrap();
        let whitened = Decomposition::new(&weight, 6, Some(&statistics())).unwrap();
        for decomposition in [&plain, &whitened] {
            let product = decomposition.factors(6).product();
            assert!(weight.iter().zip(&product).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        // Eckart and Young: the error is the energy of the terms that are left out.
        let whole = squares(weight.iter().copied());
        for rank in 1..6 {
            let product = plain.factors(rank).product();
            let error = squares(weight.iter().zip(&product).map(|(a, b)| a - b));
            let left_out: f64 = plain.energies()[rank..].iter().sum();
            assert!((error / whole - left_out).abs() < 1e-6, "{rank}: {error} {left_out}");
            let other = whitened.factors(rank).product();
            assert!(squares(weight.iter().zip(&other).map(|(a, b)| a - b)) > error);
        }
    }

    #[test]
    fn the_metric_of_the_inputs_lowers_the_error_of_the_outputs() {
        let (weight, statistics) = (weight(), statistics());
        let error = |decomposition: &Decomposition| -> f64 {
            let product = decomposition.factors(3).product();
            let d: Vec<f64> = weight.iter().zip(&product).map(|(a, b)| f64::from(a - b)).collect();
            let c = &statistics.covariance;
            let row = |d: &[f64]| -> f64 {
                (0..10)
                    .flat_map(|i| (0..10).map(move |j| (i, j)))
                    .map(|(i, j)| d[i] * c[(i, j)] * d[j])
                    .sum()
            };
            d.chunks(10).map(row).sum()
        };
        let plain = error(&Decomposition::new(&weight, 6, None).unwrap());
        let whitened = error(&Decomposition::new(&weight, 6, Some(&statistics)).unwrap());
        assert!(whitened < 0.95 * plain, "{whitened} {plain}");
    }

    #[test]
    fn a_corrected_bias_keeps_the_mean_output() {
        let (weight, statistics) = (weight(), statistics());
        let decomposition = Decomposition::new(&weight, 6, Some(&statistics)).unwrap();
        let stored = decomposition.factors(2).product();
        let mut bias = vec![0.0; 6];
        decomposition.correct(&mut bias, &weight, &stored);
        let mean = |row: &[f32]| -> f64 {
            row.iter().zip(&statistics.original_mean).map(|(&w, m)| f64::from(w) * m).sum()
        };
        for (i, bias) in bias.iter().enumerate() {
            let (a, b) = (mean(&weight[i * 10..][..10]), mean(&stored[i * 10..][..10]));
            assert!((a - b - f64::from(*bias)).abs() < 1e-5);
        }
    }
}
