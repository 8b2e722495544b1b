//! Second-order rounding (GPTQ, Frantar et al. 2022) with the price of the bits in the objective.
//!
//! Weights are rounded column by column; the error of each is made good by the columns that are
//! still free, in the metric of the inputs' covariance. Of the candidates for a value the one with
//! the smallest loss + price * bits is taken, as in rate-distortion optimised video coding.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};
use rayon::prelude::*;

use super::statistics::Statistics;

/// Relative ridge added to the covariance.
const DAMPING: f64 = 2e-3;

/// The metric of one layer's rounding errors, ready for use.
pub struct Metric {
    /// Columns in the order of rounding: most important first.
    order: Vec<usize>,
    /// `U` with (covariance + ridge)^-1 = U^T U, upper triangular, in that order, row-major.
    factor: Vec<f64>,
    /// Geometric mean of the diagonal of the factor, to the power -2: loss of a unit error.
    unit_loss: f64,
}

/// The covariance with a ridge that makes it safely invertible.
pub(crate) fn regularised(covariance: &Mat<f64>) -> Mat<f64> {
    let d = covariance.nrows();
    let mean = (0..d).map(|i| covariance[(i, i)]).sum::<f64>() / d as f64;
    let ridge = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    Mat::from_fn(d, d, |i, j| covariance[(i, j)] + if i == j { ridge } else { 0.0 })
}

impl Metric {
    /// Factorises the covariance of a layer's inputs; `None` if it is not finite.
    pub fn new(statistics: &Statistics) -> Option<Self> {
        let h = regularised(&statistics.covariance);
        let d = h.nrows();
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|&a, &b| h[(b, b)].total_cmp(&h[(a, a)]));
        // With the order reversed, H = L L^T; then U = L^-1 reversed again.
        let at = |i: usize| order[d - 1 - i];
        let reversed = Mat::from_fn(d, d, |i, j| h[(at(i), at(j))]);
        let lower = Llt::new(reversed.as_ref(), Side::Lower).ok()?;
        let mut inverse = Mat::<f64>::zeros(d, d);
        faer::linalg::triangular_inverse::invert_lower_triangular(
            inverse.as_mut(),
            lower.L(),
            faer::Par::rayon(0),
        );
        let mut factor = vec![0.0; d * d];
        for i in 0..d {
            for j in i..d {
                factor[i * d + j] = inverse[(d - 1 - i, d - 1 - j)];
            }
        }
        let mean_log = (0..d).map(|i| factor[i * d + i].ln()).sum::<f64>() / d as f64;
        let unit_loss = (-2.0 * mean_log).exp();
        unit_loss.is_finite().then_some(Metric { order, factor, unit_loss })
    }
}

/// Moves the weights to where, on the current inputs, they best give the original outputs:
/// W' = W C (H + ridge)^-1 with the cross covariance C.
pub fn compensate(weight: &mut [f32], statistics: &Statistics) {
    let Some(cross) = &statistics.cross else { return };
    let h = regularised(&statistics.covariance);
    let d = h.nrows();
    let rows = weight.len() / d;
    let Ok(llt) = Llt::new(h.as_ref(), Side::Lower) else { return };
    // (C - H0) in transposed form: solve (H + ridge) X = (C - H0)^T W^T, W' = W + X^T.
    let difference = cross - &statistics.covariance;
    let w = Mat::from_fn(d, rows, |j, o| f64::from(weight[o * d + j]));
    let right = difference.transpose() * &w;
    let moved = llt.solve(&right);
    for o in 0..rows {
        for j in 0..d {
            let change = moved[(j, o)];
            if change.is_finite() {
                weight[o * d + j] += change as f32;
            }
        }
    }
}

/// Estimated bits of every value from -`limit` to `limit`.
pub struct Prices {
    bits: Vec<f64>,
    limit: i32,
}

impl Prices {
    /// From a histogram of values, smoothed so that no value is impossible.
    pub fn new(values: &[i32], limit: i32) -> Self {
        let shown = limit.min(1 << 12);
        let mut counts = vec![0.0; 2 * shown as usize + 1];
        for &value in values {
            counts[(value.clamp(-shown, shown) + shown) as usize] += 1.0;
        }
        // Signs are noise: average them out.
        for i in 0..shown as usize {
            let mean = 0.5 * (counts[i] + counts[2 * shown as usize - i]);
            counts[i] = mean;
            counts[2 * shown as usize - i] = mean;
        }
        let total = values.len() as f64 + 0.25 * counts.len() as f64;
        let bits = counts.iter().map(|c| (total / (c + 0.25)).log2()).collect();
        Prices { bits, limit: shown }
    }

    fn of(&self, value: i32) -> f64 {
        self.bits[(value.clamp(-self.limit, self.limit) + self.limit) as usize]
    }
}

/// How values are chosen.
#[derive(Clone, Copy)]
pub struct Rounding<'a> {
    /// Scale of every row.
    pub scales: &'a [f32],
    /// Largest absolute value.
    pub limit: i32,
    /// Price of one bit relative to the loss of an error of one (root mean square) step; 0 rounds
    /// to nearest.
    pub price: f64,
    /// Estimated bits; needed when the price is not 0.
    pub prices: Option<&'a Prices>,
}

impl Rounding<'_> {
    /// The value for weight `w` whose unit error costs `1 / u^2`.
    #[inline]
    fn choose(&self, w: f64, scale: f64, u: f64, price_of_bit: f64) -> i32 {
        let limit = f64::from(self.limit);
        let exact = w / scale;
        let nearest = exact.round().clamp(-limit, limit);
        let Some(prices) = self.prices.filter(|_| self.price > 0.0) else { return nearest as i32 };
        let cost = |q: f64| {
            let error = (w - q * scale) / u;
            error * error + price_of_bit * prices.of(q as i32)
        };
        let mut best = (cost(nearest), nearest);
        for candidate in [nearest - nearest.signum(), 0.0] {
            if candidate != best.1 {
                let c = cost(candidate);
                if c < best.0 {
                    best = (c, candidate);
                }
            }
        }
        best.1 as i32
    }
}

/// Rounds a weight `[rows, columns]`; with a metric by second order, without to nearest.
pub fn round(
    weight: &[f32],
    columns: usize,
    metric: Option<&Metric>,
    rounding: &Rounding<'_>,
) -> Vec<i32> {
    let mut values = vec![0; weight.len()];
    let squares = rounding.scales.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>();
    let price = rounding.price * squares / rounding.scales.len().max(1) as f64;
    let rows = weight.par_chunks_exact(columns).zip(values.par_chunks_exact_mut(columns));
    rows.zip(rounding.scales.par_iter()).for_each(|((row, values), &scale)| {
        let scale = f64::from(scale);
        let Some(metric) = metric else {
            for (value, &w) in values.iter_mut().zip(row) {
                *value = rounding.choose(f64::from(w), scale, 1.0, price);
            }
            return;
        };
        let price = price * metric.unit_loss;
        let mut free: Vec<f64> = metric.order.iter().map(|&j| f64::from(row[j])).collect();
        for i in 0..columns {
            let factor = &metric.factor[i * columns..(i + 1) * columns];
            let q = rounding.choose(free[i], scale, factor[i], price);
            values[metric.order[i]] = q;
            let error = (free[i] - f64::from(q) * scale) / factor[i];
            for (w, u) in free[i + 1..].iter_mut().zip(&factor[i + 1..]) {
                *w -= error * u;
            }
        }
    });
    values
}

/// Mean over outputs of the variance of the output error, for errors `[rows, columns]`.
pub fn output_error(errors: &[f32], statistics: &Statistics) -> f64 {
    let d = statistics.covariance.nrows();
    let rows = errors.len() / d;
    let e = Mat::from_fn(rows, d, |o, j| f64::from(errors[o * d + j]));
    let product = &e * &statistics.covariance;
    let total: f64 =
        (0..rows).map(|o| (0..d).map(|j| product[(o, j)] * e[(o, j)]).sum::<f64>()).sum();
    total / rows.max(1) as f64
}
