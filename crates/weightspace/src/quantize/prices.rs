//! What values cost in a file, estimated from the values of the last pass of rounding.
//!
//! The coder of files predicts a value from the rows, columns, input channels and kernels before it
//! (`core::entropy`), so that a zero among zeros is nearly free. Here values are told apart by how
//! large they are expected to be, and counted in each class.

/// The most classes of expected magnitude.
const MOST_CLASSES: usize = 8;

/// Values that a class should have, for every value that it can tell apart.
const VALUES_PER_CLASS: f64 = 64.0;

/// How many values of its column the expectation of a column's mean counts for.
const PRIOR: f64 = 8.0;

/// Largest magnitude that is told apart.
const LARGEST: i32 = 1 << 12;

/// What each of several classes of values costs.
pub struct Prices {
    columns: usize,
    /// Class of every value.
    class: Vec<u8>,
    bits: Vec<Bits>,
}

/// Estimated bits of every value of one class, up to what all of them share.
pub struct Bits {
    /// Of the values from `-largest` to `largest`.
    bits: Vec<f64>,
    largest: i32,
}

impl Prices {
    /// Counts values `[rows, columns]`, `area` columns of which are one kernel, up to `limit`.
    pub fn new(values: &[i32], columns: usize, area: usize, limit: i32) -> Self {
        let expected = expected_magnitudes(values, columns, area.max(1));
        let mean = expected.iter().sum::<f64>() / values.len().max(1) as f64;
        let classes = values.len() as f64 / (VALUES_PER_CLASS * (1.0 + mean));
        let classes = (classes as usize).clamp(1, MOST_CLASSES);
        let edges = quantiles(&expected, classes);
        let class = expected.iter().map(|e| edges.partition_point(|edge| edge <= e) as u8);
        let class: Vec<u8> = class.collect();
        let of_class = |wanted: usize| {
            let both = values.iter().zip(&class);
            both.filter(move |(_, class)| usize::from(**class) == wanted).map(|(&value, _)| value)
        };
        let bits = (0..classes).map(|class| Bits::new(of_class(class), limit)).collect();
        Prices { columns, class, bits }
    }

    /// The prices at one place.
    pub fn of(&self, row: usize, column: usize) -> &Bits {
        &self.bits[usize::from(self.class[row * self.columns + column])]
    }
}

impl Bits {
    /// From a histogram of values, smoothed so that no value is impossible.
    fn new(values: impl Iterator<Item = i32>, limit: i32) -> Self {
        let largest = limit.min(LARGEST);
        let mut counts = vec![0.0; 2 * largest as usize + 1];
        for value in values {
            counts[(value.clamp(-largest, largest) + largest) as usize] += 1.0;
        }
        // Signs are noise: average them out.
        for i in 0..largest as usize {
            let mean = 0.5 * (counts[i] + counts[2 * largest as usize - i]);
            counts[i] = mean;
            counts[2 * largest as usize - i] = mean;
        }
        let bits = counts.iter().map(|count: &f64| -(count + 0.25).log2()).collect();
        Bits { bits, largest }
    }

    /// Of a value.
    pub fn of(&self, value: i32) -> f64 {
        self.bits[(value.clamp(-self.largest, self.largest) + self.largest) as usize]
    }
}

/// How large every value is expected to be: mean magnitude of its row times that of its column, over
/// that of all.
fn expected_magnitudes(values: &[i32], columns: usize, area: usize) -> Vec<f64> {
    let rows = values.len() / columns;
    let mut of_row = vec![0.0; rows];
    let mut of_column = vec![0.0; columns];
    for (k, value) in values.iter().enumerate() {
        let magnitude = f64::from(value.unsigned_abs().min(LARGEST as u32));
        of_row[k / columns] += magnitude / columns as f64;
        of_column[k % columns] += magnitude / rows as f64;
    }
    let mean = (of_row.iter().sum::<f64>() / rows as f64).max(1e-9);
    // A column of few rows says little; its input channel and its place in the kernel say more.
    let mut of_input = vec![0.0; columns.div_ceil(area)];
    let mut of_position = vec![0.0; area];
    for (j, magnitude) in of_column.iter().enumerate() {
        of_input[j / area] += magnitude / area as f64;
        of_position[j % area] += magnitude * area as f64 / columns as f64;
    }
    for (j, magnitude) in of_column.iter_mut().enumerate() {
        let expected = of_input[j / area] * of_position[j % area] / mean;
        *magnitude = (*magnitude * rows as f64 + PRIOR * expected) / (rows as f64 + PRIOR);
    }
    (0..values.len()).map(|k| of_row[k / columns] * of_column[k % columns] / mean).collect()
}

/// The edges between `classes` classes of about as many values.
fn quantiles(values: &[f64], classes: usize) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    (1..classes).map(|i| sorted[i * sorted.len() / classes]).collect()
}

#[cfg(test)]
mod tests {
    use super::Prices;

    #[test]
    fn zeros_are_cheap_among_zeros() {
        // Every second row has values, half of them 1 or -1.
        let (rows, columns) = (64, 90);
        let noise = |k: usize| (k as u32).wrapping_mul(2_654_435_761) >> 30;
        let value = |k: usize| match (k / columns % 2, noise(k)) {
            (1, 0) => 1,
            (1, 2) => -1,
            _ => 0,
        };
        let values: Vec<i32> = (0..rows * columns).map(value).collect();
        let prices = Prices::new(&values, columns, 9, 100);
        let of_nonzero = |row| prices.of(row, 0).of(1) - prices.of(row, 0).of(0);
        // Empty rows have 2,880 zeros and no ones, the others half of zeros and a quarter of ones.
        assert!(of_nonzero(0) > 9.0, "{}", of_nonzero(0));
        assert!((of_nonzero(1) - 1.0).abs() < 0.5, "{}", of_nonzero(1));
        assert_eq!(prices.of(0, 0).of(-1), prices.of(0, 0).of(1));
    }

    #[test]
    fn few_values_are_not_told_apart() {
        let prices = Prices::new(&[0, 0, 0, 5, -5, 5], 3, 1, 7);
        assert_eq!(prices.of(0, 0).of(5), prices.of(1, 2).of(5));
        assert!(prices.of(0, 0).of(7) > prices.of(0, 0).of(5));
        // Beyond the limit nothing is chosen, but nothing fails.
        assert_eq!(prices.of(0, 0).of(1 << 23), prices.of(0, 0).of(7));
    }
}
