//! Linear assignment.

/// For each row of a square matrix the column that it gets, each column once, such that the sum of the
/// elements is largest. All elements are finite. Of a constant matrix it is the identity.
///
/// Shortest augmenting paths (Jonker and Volgenant), as in SciPy.
pub(super) fn maximise(matrix: &[f64], size: usize) -> Vec<usize> {
    let costs: Vec<f64> = matrix.iter().map(|value| -value).collect();
    let solution = lsap::solve(size, size, &costs, false);
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
        fn no_assignment_is_better(size in 1usize..7, seed in proptest::collection::vec(-1e3f64..1e3, 36)) {
            let matrix = &seed[..size * size];
            let found = maximise(matrix, size);
            prop_assert!(is_assignment(&found, size));
            let best = brute_force(matrix, size, 0, 0);
            prop_assert!((value(matrix, &found) - best).abs() < 1e-9, "{} < {best}", value(matrix, &found));
        }

        #[test]
        fn ties_are_no_trouble(size in 1usize..7, seed in proptest::collection::vec(0u8..3, 36)) {
            let matrix: Vec<f64> = seed[..size * size].iter().map(|&v| f64::from(v)).collect();
            let found = maximise(&matrix, size);
            prop_assert!(is_assignment(&found, size));
            prop_assert_eq!(value(&matrix, &found), brute_force(&matrix, size, 0, 0));
        }
    }

    #[test]
    fn constant_matrices_move_nothing() {
        for constant in [0.0, -7.5, 1e300] {
            assert_eq!(maximise(&[constant; 25], 5), [0, 1, 2, 3, 4]);
        }
        assert!(maximise(&[], 0).is_empty());
    }

    #[test]
    fn large_and_small_numbers_side_by_side() {
        let matrix = [1e300, 1e-300, 0.0, 0.0, 1e-300, 1e300, 1e300, 0.0, -1e300];
        let found = maximise(&matrix, 3);
        assert!(is_assignment(&found, 3));
        assert_eq!(value(&matrix, &found), 2e300);
    }
}
