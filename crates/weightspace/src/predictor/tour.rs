//! Greedy nearest-neighbour tours: from row 0 on, always to the most similar row not yet visited, the
//! first of equals.

use faer::{Accum, MatMut, MatRef};
use weightspace_nn::linalg::multiply;

use super::nearest::Nearest;

/// More rows than this are searched with a tree, where they are short enough for that.
const MOST_IN_MATRIX: usize = 1024;

/// Longer rows than this are not searched with a tree: too few boxes could be left out.
const LONGEST_IN_TREE: usize = 32;

/// How alike two rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Similarity {
    /// Inner product: the cosine, of rows of length 1.
    Cosine,
    /// Minus the square of the distance.
    Distance,
}

impl Similarity {
    /// Of kernels of so many values: the cosine, which of single values says no more than the sign.
    pub fn of_kernels(len: usize) -> Self {
        if len == 1 { Similarity::Distance } else { Similarity::Cosine }
    }
}

/// The order in which a tour visits rows (row-major, `width` values each).
///
/// # Panics
/// If the values are not whole rows.
pub fn tour(rows: &[f32], width: usize, similarity: Similarity) -> Vec<u32> {
    assert!(width > 0 && rows.len().is_multiple_of(width), "rows of {width} values");
    let count = rows.len() / width;
    match count > MOST_IN_MATRIX && width <= LONGEST_IN_TREE {
        true => with_tree(rows, width, similarity),
        false => with_matrix(rows, width, similarity),
    }
}

/// Looks the similarities of all pairs up in their matrix.
fn with_matrix(rows: &[f32], width: usize, similarity: Similarity) -> Vec<u32> {
    let count = rows.len() / width;
    let mut products = vec![0.0; count * count];
    let matrix = MatRef::from_row_major_slice(rows, count, width);
    let target = MatMut::from_row_major_slice_mut(&mut products, count, count);
    multiply(target, Accum::Replace, 1.0, matrix, matrix.transpose());
    let squares: Vec<f32> = (0..count).map(|i| products[i * count + i]).collect();
    let mut order = Vec::with_capacity(count);
    let mut unvisited: Vec<u32> = (0..count as u32).collect();
    let mut next = 0;
    while !unvisited.is_empty() {
        let row = unvisited.remove(next);
        order.push(row);
        let products = &products[row as usize * count..][..count];
        let value = |other: u32| match similarity {
            Similarity::Cosine => products[other as usize],
            Similarity::Distance => 2.0 * products[other as usize] - squares[other as usize],
        };
        let mut best = f32::NEG_INFINITY;
        for (position, &other) in unvisited.iter().enumerate() {
            if value(other) > best {
                (best, next) = (value(other), position);
            }
        }
        // Where nothing compares, to the first.
        next = if best == f32::NEG_INFINITY { 0 } else { next };
    }
    order
}

/// Searches a tree from which visited rows are taken. Where half are left it is built anew, so that its
/// bounds stay tight.
fn with_tree(rows: &[f32], width: usize, similarity: Similarity) -> Vec<u32> {
    let count = rows.len() / width;
    let mut unvisited: Vec<u32> = (0..count as u32).collect();
    let mut tree = Nearest::new(rows, width, similarity, unvisited.clone());
    let mut visited = vec![false; count];
    let mut order = Vec::with_capacity(count);
    let mut next = Some(0);
    while let Some(row) = next {
        tree.remove(row);
        visited[row as usize] = true;
        order.push(row);
        let left = count - order.len();
        if left > 0 && 2 * left < unvisited.len() {
            unvisited.retain(|&row| !visited[row as usize]);
            tree = Nearest::new(rows, width, similarity, unvisited.clone());
        }
        next = tree.nearest(&rows[row as usize * width..][..width]);
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weightspace_core::random::{Key, Stream};

    use super::*;

    /// The definition.
    fn brute_force(rows: &[f32], width: usize, similarity: Similarity) -> Vec<u32> {
        let row = |i: u32| &rows[i as usize * width..][..width];
        let value = |a: u32, b: u32| {
            row(a).iter().zip(row(b)).fold(0f32, |sum, (a, b)| match similarity {
                Similarity::Cosine => sum + a * b,
                Similarity::Distance => sum - (a - b) * (a - b),
            })
        };
        let mut rest: Vec<u32> = (0..(rows.len() / width) as u32).collect();
        let mut order = vec![rest.remove(0)];
        while !rest.is_empty() {
            let last = *order.last().unwrap();
            let best = (0..rest.len()).reduce(|best, i| {
                if value(last, rest[i]) > value(last, rest[best]) { i } else { best }
            });
            order.push(rest.remove(best.unwrap()));
        }
        order
    }

    fn normalized(rows: &mut [f32], width: usize) {
        for row in rows.chunks_exact_mut(width) {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.iter_mut().for_each(|v| *v /= if norm > 0.0 { norm } else { 1.0 });
        }
    }

    fn random_rows(count: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut rows = vec![0.0; count * width];
        Stream::new(Key::from_seed(seed), 0).fill_normal(&mut rows);
        normalized(&mut rows, width);
        rows
    }

    #[test]
    fn trees_and_matrices_make_the_greedy_tour() {
        for (count, width) in [(1, 9), (2, 9), (700, 9), (1500, 9), (900, 1), (300, 25)] {
            let rows = random_rows(count, width, 5);
            for similarity in [Similarity::Cosine, Similarity::Distance] {
                let expected = brute_force(&rows, width, similarity);
                assert_eq!(with_tree(&rows, width, similarity), expected, "{count} x {width}");
            }
            let expected = brute_force(&rows, width, Similarity::Cosine);
            if width > 1 {
                assert_eq!(with_matrix(&rows, width, Similarity::Cosine), expected);
            }
        }
    }

    proptest! {
        /// Rows of few distinct values: with many equal rows, rows of zeros and ties.
        #[test]
        fn of_equals_the_first_is_next(
            values in prop::collection::vec(-1i8..=1, 3 * 80),
            cosine in any::<bool>(),
        ) {
            let mut rows: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
            normalized(&mut rows, 3);
            let similarity = if cosine { Similarity::Cosine } else { Similarity::Distance };
            let expected = brute_force(&rows, 3, similarity);
            prop_assert_eq!(with_tree(&rows, 3, similarity), &expected[..]);
        }
    }

    /// Otherwise a pruned network would take hours.
    #[test]
    fn equal_rows_are_no_longer_work() {
        let mut rows = random_rows(60_000, 9, 2);
        rows[9 * 10_000..].fill(0.0);
        let order = with_tree(&rows, 9, Similarity::Cosine);
        assert_eq!(order.len(), 60_000);
        let rows: Vec<f32> = (0..60_000).map(|i| if i % 3 == 0 { i as f32 } else { 0.0 }).collect();
        assert_eq!(with_tree(&rows, 1, Similarity::Distance)[..4], [0, 1, 2, 4]);
    }
}
