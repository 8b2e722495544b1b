//! Linear assignment.

use std::mem;

/// For each row of a square matrix the column that it gets, each column once, such that the sum of the
/// elements is largest. All elements are finite. Of a constant matrix without prices it is the identity.
///
/// Each column has a price, not much larger than the elements, which is taken off all of them. That changes the sums of
/// all assignments alike, and so none's rank; but where prices are such that rows want different columns, each row gets what it wants and nothing is
/// left to solve.
pub(super) fn maximise(matrix: &[f64], prices: &[f64]) -> Vec<usize> {
    row_maxima(matrix, prices).unwrap_or_else(|| shortest_paths(matrix, prices))
}

/// The column of the largest element of each row at these prices, if they are all different.
fn row_maxima(matrix: &[f64], prices: &[f64]) -> Option<Vec<usize>> {
    let mut taken = vec![false; prices.len()];
    let column = |row: &[f64]| {
        let value = |(element, price): (&f64, &f64)| element - price;
        let largest = row.iter().zip(prices).map(value).fold(f64::NEG_INFINITY, f64::max);
        let column = row.iter().zip(prices).position(|pair| value(pair) == largest)?;
        (!mem::replace(&mut taken[column], true)).then_some(column)
    };
    matrix.chunks_exact(prices.len().max(1)).map(column).collect()
}

/// Shortest augmenting paths (Jonker and Volgenant), as in SciPy.
fn shortest_paths(matrix: &[f64], prices: &[f64]) -> Vec<usize> {
    let size = prices.len();
    let rows = matrix.chunks_exact(size.max(1));
    let costs = rows.flat_map(|row| row.iter().zip(prices).map(|(element, price)| price - element));
    let solution = lsap::solve(size, size, &costs.collect::<Vec<_>>(), false);
    solution.expect("a square matrix of finite numbers has an assignment").1
}

/// Sum of the elements that an assignment takes.
pub(super) fn value(matrix: &[f64], assignment: &[usize]) -> f64 {
    let rows = matrix.chunks_exact(assignment.len().max(1));
    rows.zip(assignment).map(|(row, &column)| row[column]).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest value of all assignments of the rows from `row` on to the columns not in `taken`.
    fn brute_force(matrix: &[f64], size: usize, row: usize, taken: u32) -> f64 {
        if row == size {
            return 0.0;
        }
        let free = (0..size).filter(|column| taken >> column & 1 == 0);
        let values = free.map(|column| {
            matrix[row * size + column] + brute_force(matrix, size, row + 1, taken | 1 << column)
        });
        values.fold(f64::NEG_INFINITY, f64::max)
    }

    fn is_assignment(assignment: &[usize], size: usize) -> bool {
        let mut sorted = assignment.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..size)
    }

    proptest! {
        #[test]
        fn no_assignment_is_better(
            size in 1usize..7,
            seed in proptest::collection::vec(-1e3f64..1e3, 36),
            prices in proptest::collection::vec(-1e3f64..1e3, 6),
        ) {
            let matrix = &seed[..size * size];
            let found = maximise(matrix, &prices[..size]);
            prop_assert!(is_assignment(&found, size));
            let best = brute_force(matrix, size, 0, 0);
            prop_assert!((value(matrix, &found) - best).abs() < 1e-9, "{} < {best}", value(matrix, &found));
        }

        #[test]
        fn ties_are_no_trouble(size in 1usize..7, seed in proptest::collection::vec(0u8..3, 36)) {
            let matrix: Vec<f64> = seed[..size * size].iter().map(|&v| f64::from(v)).collect();
            let found = maximise(&matrix, &vec![0.0; size]);
            prop_assert!(is_assignment(&found, size));
            prop_assert_eq!(value(&matrix, &found), brute_force(&matrix, size, 0, 0));
        }
    }

    #[test]
    fn constant_matrices_move_nothing() {
        for constant in [0.0, -7.5, 1e300] {
            assert_eq!(maximise(&[constant; 25], &[0.0; 5]), [0, 1, 2, 3, 4]);
        }
        assert!(maximise(&[], &[]).is_empty());
    }

    /// The second unit is small: the first one's weights are the closest in direction, not in place.
    #[test]
    fn at_the_right_prices_each_row_has_its_own_column() {
        let matrix = [4.0, 1.8, 2.0, 1.0];
        assert_eq!(row_maxima(&matrix, &[0.0, 0.0]), None);
        assert_eq!(row_maxima(&matrix, &[2.0, 0.5]), Some(vec![0, 1]));
        assert_eq!(shortest_paths(&matrix, &[0.0, 0.0]), [0, 1]);
    }

    #[test]
    fn large_and_small_numbers_side_by_side() {
        let matrix = [1e300, 1e-300, 0.0, 0.0, 1e-300, 1e300, 1e300, 0.0, -1e300];
        let found = maximise(&matrix, &[0.0; 3]);
        assert!(is_assignment(&found, 3));
        assert_eq!(value(&matrix, &found), 2e300);
    }
}
