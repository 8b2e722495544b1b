//! Second-order rounding (GPTQ, Frantar et al. 2022) with the price of the bits in the objective.
//!
//! Weights are rounded column by column; the error of each is made good by the columns that are
//! still free, in the metric of the inputs' covariance. Of the candidates for a value the one with
//! the smallest loss + price * bits is taken, as in rate-distortion optimised video coding. Then
//! every value is chosen again, given all others, until none changes: the first columns were rounded
//! before it was known what the last ones would leave over.

use faer::linalg::solvers::{Llt, Solve};
use faer::{Mat, Side};
use rayon::prelude::*;

use super::prices::Prices;
use super::statistics::Statistics;

/// Relative ridge added to the covariance.
const DAMPING: f64 = 2e-3;

/// The most often that all values of a row are chosen again.
const MOST_SWEEPS: usize = 10;

/// The metric of one layer's rounding errors, ready for use.
pub struct Metric<'a> {
    /// Covariance of the inputs, `[columns, columns]`.
    covariance: &'a Mat<f64>,
    /// What is added to its diagonal.
    ridge: f64,
    /// Columns in the order of rounding: most important first.
    order: Vec<usize>,
    /// `U` with (covariance + ridge)^-1 = U^T U, upper triangular, in that order, row-major.
    factor: Vec<f64>,
    /// Geometric mean of the diagonal of the factor, to the power -2: loss of a unit error.
    unit_loss: f64,
}

/// What is added to the diagonal of a covariance to make it safely invertible.
fn ridge(covariance: &Mat<f64>) -> f64 {
    let d = covariance.nrows();
    let mean = (0..d).map(|i| covariance[(i, i)]).sum::<f64>() / d as f64;
    if mean > 0.0 { DAMPING * mean } else { 1.0 }
}

/// The covariance with a ridge that makes it safely invertible.
pub(crate) fn regularised(covariance: &Mat<f64>) -> Mat<f64> {
    let (d, ridge) = (covariance.nrows(), ridge(covariance));
    Mat::from_fn(d, d, |i, j| covariance[(i, j)] + if i == j { ridge } else { 0.0 })
}

impl<'a> Metric<'a> {
    /// Factorises the covariance of a layer's inputs; `None` if it is not finite.
    pub fn new(statistics: &'a Statistics) -> Option<Self> {
        let covariance = &statistics.covariance;
        let h = regularised(covariance);
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
        let ridge = ridge(covariance);
        unit_loss.is_finite().then_some(Metric { covariance, ridge, order, factor, unit_loss })
    }

    /// Rounds a row, the weights in the order of their importance: each takes over what the
    /// rounding of those before it leaves to be made good.
    fn round_in_order(&self, row: &[f32], values: &mut [i32], choice: &Choice<'_>) {
        let columns = row.len();
        let mut free: Vec<f64> = self.order.iter().map(|&j| f64::from(row[j])).collect();
        for i in 0..columns {
            let factor = &self.factor[i * columns..(i + 1) * columns];
            let column = self.order[i];
            let value = choice.of(free[i], factor[i], column);
            values[column] = value;
            let error = (free[i] - f64::from(value) * choice.scale) / factor[i];
            for (w, u) in free[i + 1..].iter_mut().zip(&factor[i + 1..]) {
                *w -= error * u;
            }
        }
    }

    /// Chooses every value of a row again, given all others, until none changes (coordinate
    /// descent); `products` are (H + ridge) times the row's errors.
    fn descend(&self, products: &mut [f64], values: &mut [i32], choice: &Choice<'_>) {
        for _ in 0..MOST_SWEEPS {
            let mut changed = false;
            for j in 0..values.len() {
                let curvature = self.covariance[(j, j)] + self.ridge;
                let old = f64::from(values[j]) * choice.scale;
                let value = choice.of(old + products[j] / curvature, curvature.sqrt().recip(), j);
                if value == values[j] {
                    continue;
                }
                changed = true;
                values[j] = value;
                let change = f64::from(value) * choice.scale - old;
                let covariances = self.covariance.col(j).iter();
                products.iter_mut().zip(covariances).for_each(|(p, h)| *p -= h * change);
                products[j] -= self.ridge * change;
            }
            if !changed {
                break;
            }
        }
    }
}

/// Moves the weights to where, on the current inputs, they best give the original outputs, and what
/// by now is missing in the value that is added to these:
/// W' = W + (W (C - H) + M) (H + ridge)^-1 with the cross covariances C and M.
pub fn compensate(weight: &mut [f32], statistics: &Statistics) {
    let Some(cross) = &statistics.cross else { return };
    let h = regularised(&statistics.covariance);
    let d = h.nrows();
    let rows = weight.len() / d;
    let Ok(llt) = Llt::new(h.as_ref(), Side::Lower) else { return };
    // In transposed form: solve (H + ridge) X = (C - H)^T W^T + M^T, W' = W + X^T.
    let difference = cross - &statistics.covariance;
    let w = Mat::from_fn(d, rows, |j, o| f64::from(weight[o * d + j]));
    let mut right = difference.transpose() * &w;
    if let Some(missing) = &statistics.missing {
        right += missing.covariance.transpose();
    }
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

/// How the values of one row are chosen.
struct Choice<'a> {
    rounding: &'a Rounding<'a>,
    row: usize,
    scale: f64,
    /// Price of one bit.
    price: f64,
}

impl Choice<'_> {
    /// The value for weight `w` in `column`, whose unit error costs `1 / u^2`.
    #[inline]
    fn of(&self, w: f64, u: f64, column: usize) -> i32 {
        let limit = f64::from(self.rounding.limit);
        let exact = w / self.scale;
        let nearest = exact.round().clamp(-limit, limit);
        let Some(prices) = self.rounding.prices.filter(|_| self.price > 0.0) else {
            return nearest as i32;
        };
        let bits = prices.of(self.row, column);
        let cost = |q: f64| {
            let error = (w - q * self.scale) / u;
            error * error + self.price * bits.of(q as i32)
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
    metric: Option<&Metric<'_>>,
    rounding: &Rounding<'_>,
) -> Vec<i32> {
    let mut values = vec![0; weight.len()];
    let squares = rounding.scales.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>();
    let unit_loss = metric.map_or(1.0, |metric| metric.unit_loss);
    let price = rounding.price * squares / rounding.scales.len().max(1) as f64 * unit_loss;
    let choice =
        |row: usize| Choice { rounding, row, scale: f64::from(rounding.scales[row]), price };
    let rows = || weight.par_chunks_exact(columns).enumerate();
    rows().zip(values.par_chunks_exact_mut(columns)).for_each(|((row, weight), values)| {
        let choice = choice(row);
        match metric {
            Some(metric) => metric.round_in_order(weight, values, &choice),
            None => {
                for (column, (value, &w)) in values.iter_mut().zip(weight).enumerate() {
                    *value = choice.of(f64::from(w), 1.0, column);
                }
            }
        }
    });
    let Some(metric) = metric else { return values };
    let error = |row: usize, column: usize| {
        let at = row * columns + column;
        f64::from(weight[at]) - f64::from(values[at]) * f64::from(rounding.scales[row])
    };
    let errors = Mat::from_fn(columns, rounding.scales.len(), |j, row| error(row, j));
    let products = metric.covariance * &errors + faer::Scale(metric.ridge) * &errors;
    values.par_chunks_exact_mut(columns).enumerate().for_each(|(row, values)| {
        let mut products: Vec<f64> = products.col(row).iter().copied().collect();
        metric.descend(&mut products, values, &choice(row));
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

#[cfg(test)]
mod tests {
    use weightspace_core::random::{Key, Stream};

    use super::*;
    use crate::quantize::statistics::Missing;

    const COLUMNS: usize = 6;

    /// From -1 to 1.
    fn noise(stream: u64, count: usize) -> Vec<f32> {
        let mut values = vec![0.0; count];
        Stream::new(Key::from_seed(1), stream).fill_uniform(&mut values);
        values.iter().map(|value| 2.0 * value - 1.0).collect()
    }

    /// Of inputs that hardly differ from one another.
    fn statistics() -> Statistics {
        let (shared, own) = (noise(0, 200), noise(1, 200 * COLUMNS));
        let input = |sample: usize, j: usize| {
            f64::from(shared[sample]) + 0.4 * f64::from(own[sample * COLUMNS + j])
        };
        let covariance = Mat::from_fn(COLUMNS, COLUMNS, |i, j| {
            (0..200).map(|sample| input(sample, i) * input(sample, j)).sum::<f64>() / 200.0
        });
        let mean = vec![0.0; COLUMNS];
        let original_mean = mean.clone();
        Statistics { original_mean, current_mean: mean, covariance, cross: None, missing: None }
    }

    fn weight(rows: usize) -> Vec<f32> {
        noise(2, rows * COLUMNS).iter().map(|value| 3.0 * value).collect()
    }

    /// Error of the outputs, in the metric with its ridge.
    fn loss(weight: &[f32], values: &[i32], metric: &Metric<'_>) -> f64 {
        let e = |j: usize| f64::from(weight[j]) - f64::from(values[j]);
        let h = |i: usize, j: usize| {
            metric.covariance[(i, j)] + if i == j { metric.ridge } else { 0.0 }
        };
        (0..COLUMNS).map(|i| (0..COLUMNS).map(|j| e(i) * h(i, j) * e(j)).sum::<f64>()).sum()
    }

    /// The least loss of any values within one step of the weights.
    fn best(weight: &[f32], metric: &Metric<'_>) -> f64 {
        let candidates = (0..3usize.pow(COLUMNS as u32)).map(|code| {
            let digit = |j: usize| (code / 3usize.pow(j as u32) % 3) as i32 - 1;
            let value = |(j, w): (usize, &f32)| w.round() as i32 + digit(j);
            let values: Vec<i32> = weight.iter().enumerate().map(value).collect();
            loss(weight, &values, metric)
        });
        candidates.fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_value_can_be_changed_for_the_better() {
        let (statistics, rows) = (statistics(), 50);
        let (weight, metric) = (weight(rows), Metric::new(&statistics).unwrap());
        let scales = vec![1.0; rows];
        let rounding = Rounding { scales: &scales, limit: 100, price: 0.0, prices: None };
        let values = round(&weight, COLUMNS, Some(&metric), &rounding);
        let (mut ours, mut least, mut nearest) = (0.0, 0.0, 0.0);
        for (weight, values) in weight.chunks(COLUMNS).zip(values.chunks(COLUMNS)) {
            let own = loss(weight, values, &metric);
            for j in 0..COLUMNS {
                for change in [-1, 1] {
                    let mut other = values.to_vec();
                    other[j] += change;
                    assert!(loss(weight, &other, &metric) >= own - 1e-9);
                }
            }
            let rounded: Vec<i32> = weight.iter().map(|w| w.round() as i32).collect();
            ours += own;
            least += best(weight, &metric);
            nearest += loss(weight, &rounded, &metric);
        }
        assert!(ours < 1.3 * least, "{ours}, the best is {least}, nearest {nearest}");
        assert!(ours < 0.5 * nearest, "{ours}, nearest {nearest}");
    }

    #[test]
    fn a_price_of_bits_makes_zeros() {
        let (statistics, rows) = (statistics(), 200);
        let metric = Metric::new(&statistics).unwrap();
        // Most are small, as those of networks are.
        let weight: Vec<f32> = weight(rows).iter().map(|w| 0.2 * w.powi(3)).collect();
        let scales = vec![1.0; rows];
        let free = Rounding { scales: &scales, limit: 100, price: 0.0, prices: None };
        let zeros = |values: &[i32]| values.iter().filter(|&&value| value == 0).count();
        let values = round(&weight, COLUMNS, Some(&metric), &free);
        let prices = Prices::new(&values, COLUMNS, 1, 100);
        let dear = Rounding { price: 0.2, prices: Some(&prices), ..free };
        let fewer = round(&weight, COLUMNS, Some(&metric), &dear);
        let (before, after) = (zeros(&values), zeros(&fewer));
        assert!(after > before + before / 20, "{before} zeros, then {after}");
    }

    #[test]
    fn what_is_missing_in_the_shortcut_is_made_good_where_inputs_tell_of_it() {
        let mut statistics = statistics();
        let (before, change) = (weight(2), weight(4)[2 * COLUMNS..].to_vec());
        // Missing is another product with the same inputs.
        let product = |o: usize, j: usize| -> f64 {
            (0..COLUMNS)
                .map(|k| f64::from(change[o * COLUMNS + k]) * statistics.covariance[(k, j)])
                .sum()
        };
        let covariance = Mat::from_fn(2, COLUMNS, product);
        statistics.cross = Some(statistics.covariance.clone());
        statistics.missing = Some(Missing { mean: vec![0.0; 2], covariance });
        let mut after = before.clone();
        compensate(&mut after, &statistics);
        for ((after, before), change) in after.iter().zip(&before).zip(&change) {
            // But for the ridge.
            assert!((after - before - change).abs() < 0.1 * change.abs() + 0.1, "{after}");
        }
    }
}
