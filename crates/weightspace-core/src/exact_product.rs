//! Matrix products that have the same bits on every machine: each element is one sum in a fixed order,
//! however the work is tiled or shared. `docs/format.md`, section 14, is normative.

use crate::InstructionSet;

/// Inner indices that are worked on at a time, so that a panel of the right factor stays in cache.
const INNER_BLOCK: usize = 256;

/// C += A B with C of m x `columns`, A of m x `inner` and B of `inner` x `columns`, all row-major.
///
/// Every element begins with what is in C and adds the terms in ascending order of the inner index: each
/// product rounded to nearest, then each sum, never fused. It works on one thread: callers share out the
/// rows.
///
/// # Panics
/// If a length is not the product of its dimensions.
pub fn accumulate(c: &mut [f32], a: &[f32], b: &[f32], inner: usize, columns: usize) {
    accumulate_with(InstructionSet::best(), c, a, b, inner, columns);
}

/// As [`accumulate`], with the kernels of one instruction set.
///
/// # Panics
/// As [`accumulate`], or if this machine does not have the instruction set.
pub fn accumulate_with(
    set: InstructionSet,
    c: &mut [f32],
    a: &[f32],
    b: &[f32],
    inner: usize,
    columns: usize,
) {
    assert_eq!(b.len(), inner * columns, "the right factor is {inner} x {columns}");
    if c.is_empty() || b.is_empty() {
        return;
    }
    assert!(c.len().is_multiple_of(columns), "rows of {columns} columns");
    assert_eq!(a.len(), c.len() / columns * inner, "the left factor has {inner} columns");
    let product = Product { a, b, inner, columns };
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 if is_x86_feature_detected!("avx512f") => {
            // SAFETY: the processor has AVX-512F.
            unsafe { product.avx512(c) }
        }
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 if is_x86_feature_detected!("avx2") => {
            // SAFETY: the processor has AVX2.
            unsafe { product.avx2(c) }
        }
        _ => {
            assert_eq!(set, InstructionSet::Portable, "not available on this machine");
            product.run::<2, 24>(c);
        }
    }
}

struct Product<'a> {
    a: &'a [f32],
    b: &'a [f32],
    inner: usize,
    columns: usize,
}

impl Product<'_> {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn avx512(&self, c: &mut [f32]) {
        self.run::<4, 32>(c);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn avx2(&self, c: &mut [f32]) {
        self.run::<4, 24>(c);
    }

    /// In tiles of ROWS x COLUMNS sums, which should fit into the registers.
    #[inline(always)]
    fn run<const ROWS: usize, const COLUMNS: usize>(&self, c: &mut [f32]) {
        let mut panel = Vec::with_capacity(INNER_BLOCK.min(self.inner));
        for first in (0..self.inner).step_by(INNER_BLOCK) {
            let block = first..self.inner.min(first + INNER_BLOCK);
            for column in (0..self.columns).step_by(COLUMNS) {
                let width = COLUMNS.min(self.columns - column);
                panel.clear();
                panel.extend(block.clone().map(|k| {
                    let from = k * self.columns + column;
                    let mut row = [0.0; COLUMNS];
                    row[..width].copy_from_slice(&self.b[from..from + width]);
                    row
                }));
                let mut row = 0;
                let mut tiles = c.chunks_exact_mut(ROWS * self.columns);
                for tile in &mut tiles {
                    let a = |i| &self.a[(row + i) * self.inner..][block.clone()];
                    self.tile(std::array::from_fn::<_, ROWS, _>(a), &panel, tile, column);
                    row += ROWS;
                }
                for tile in tiles.into_remainder().chunks_exact_mut(self.columns) {
                    let a = &self.a[row * self.inner..][block.clone()];
                    self.tile([a], &panel, tile, column);
                    row += 1;
                }
            }
        }
    }

    /// Adds the terms of a block of inner indices to ROWS rows of C, at the columns of the panel.
    #[inline(always)]
    fn tile<const ROWS: usize, const COLUMNS: usize>(
        &self,
        a: [&[f32]; ROWS],
        panel: &[[f32; COLUMNS]],
        c: &mut [f32],
        column: usize,
    ) {
        let width = COLUMNS.min(self.columns - column);
        let a = a.map(|row| &row[..panel.len()]);
        let mut sums = [[0.0f32; COLUMNS]; ROWS];
        for (i, sums) in sums.iter_mut().enumerate() {
            let from = i * self.columns + column;
            sums[..width].copy_from_slice(&c[from..from + width]);
        }
        for (k, b) in panel.iter().enumerate() {
            for i in 0..ROWS {
                let a = a[i][k];
                for j in 0..COLUMNS {
                    sums[i][j] += a * b[j];
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            let from = i * self.columns + column;
            c[from..from + width].copy_from_slice(&sums[..width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Stream};
    use proptest::prelude::*;

    fn uniform(count: usize, purpose: &str) -> Vec<f32> {
        let mut values = vec![0.0; count];
        Stream::new(Key::for_purpose(1, purpose), 0).fill_uniform(&mut values);
        values.iter().map(|v| v - 0.5).collect()
    }

    /// The definition.
    fn reference(c: &mut [f32], a: &[f32], b: &[f32], inner: usize, columns: usize) {
        for (position, sum) in c.iter_mut().enumerate() {
            let (i, j) = (position / columns, position % columns);
            for k in 0..inner {
                *sum += a[i * inner + k] * b[k * columns + j];
            }
        }
    }

    fn check(rows: usize, inner: usize, columns: usize) {
        let (a, b) = (uniform(rows * inner, "a"), uniform(inner * columns, "b"));
        let start = uniform(rows * columns, "c");
        let mut expected = start.clone();
        reference(&mut expected, &a, &b, inner, columns);
        for set in InstructionSet::available() {
            let mut c = start.clone();
            accumulate_with(set, &mut c, &a, &b, inner, columns);
            assert!(c == expected, "{set:?} of {rows} x {inner} x {columns}");
        }
    }

    #[test]
    fn long_sums_keep_their_order() {
        check(9, 600, 40);
        check(33, 257, 65);
    }

    #[test]
    fn nothing_times_nothing() {
        accumulate(&mut [], &[], &[], 0, 0);
        accumulate(&mut [], &[], &[1.0, 2.0], 1, 2);
        let mut c = [1.0, 2.0];
        accumulate(&mut c, &[], &[], 0, 2);
        assert_eq!(c, [1.0, 2.0]);
    }

    #[test]
    fn special_values_go_their_way() {
        let mut c = [0.0; 3];
        accumulate(&mut c, &[f32::INFINITY, 1.0], &[0.0, 1.0, -1.0, 1.0, 1.0, 1.0], 2, 3);
        assert!(c[0].is_nan() && c[1] == f32::INFINITY && c[2] == f32::NEG_INFINITY);
    }

    proptest! {
        #[test]
        fn every_instruction_set_follows_the_definition(
            rows in 1usize..20, inner in 1usize..20, columns in 1usize..70,
        ) {
            check(rows, inner, columns);
        }
    }
}
