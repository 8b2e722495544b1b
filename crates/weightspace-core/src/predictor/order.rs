//! Which coordinates each tile of a tensor gets: permutations that bring similar kernels together.

use super::{PredictorError, Tiling};

/// The position, a filter and a tile within it, whose coordinates each tile of a tensor gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Its own.
    Identity,
    /// Tile i of filter f gets (`filters[f]`, `tiles[i]`).
    Axes {
        /// A permutation of the filters.
        filters: Vec<u32>,
        /// A permutation of the tiles of every filter.
        tiles: Vec<u32>,
    },
    /// Tile i of filter f of I tiles gets (`filters[f]`, `tiles[f * I + i]`).
    InFilter {
        /// A permutation of the filters.
        filters: Vec<u32>,
        /// Of each filter a permutation of its tiles, end to end.
        tiles: Vec<u32>,
    },
    /// Row r gets that of row `0[r]`: one permutation of all tiles of the tensor.
    CrossFilter(Vec<u32>),
}

/// The kinds of [`Order`]. The discriminants are the codes in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// [`Order::Identity`].
    Identity = 0,
    /// [`Order::Axes`].
    Axes = 1,
    /// [`Order::InFilter`].
    InFilter = 2,
    /// [`Order::CrossFilter`].
    CrossFilter = 3,
}

impl OrderKind {
    /// Every kind; the position of each is its code in files.
    pub const ALL: [OrderKind; 4] =
        [OrderKind::Identity, OrderKind::Axes, OrderKind::InFilter, OrderKind::CrossFilter];

    /// The name used in listings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            OrderKind::Identity => "identity",
            OrderKind::Axes => "axes",
            OrderKind::InFilter => "in-filter",
            OrderKind::CrossFilter => "cross-filter",
        }
    }

    /// Number of permutations and length of each, in the order in which they are stored.
    pub(crate) fn permutations(self, tiling: &Tiling) -> [(usize, usize); 2] {
        let (filters, tiles) = (tiling.filters(), tiling.tiles_per_filter());
        match self {
            OrderKind::Identity => [(0, 0); 2],
            OrderKind::Axes => [(1, filters), (1, tiles)],
            OrderKind::InFilter => [(1, filters), (filters, tiles)],
            OrderKind::CrossFilter => [(1, filters * tiles), (0, 0)],
        }
    }
}

impl Order {
    /// The order of that kind with these permutations, those of [`OrderKind::permutations`].
    pub(crate) fn from_permutations(kind: OrderKind, first: Vec<u32>, second: Vec<u32>) -> Self {
        match kind {
            OrderKind::Identity => Order::Identity,
            OrderKind::Axes => Order::Axes { filters: first, tiles: second },
            OrderKind::InFilter => Order::InFilter { filters: first, tiles: second },
            OrderKind::CrossFilter => Order::CrossFilter(first),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> OrderKind {
        match self {
            Order::Identity => OrderKind::Identity,
            Order::Axes { .. } => OrderKind::Axes,
            Order::InFilter { .. } => OrderKind::InFilter,
            Order::CrossFilter(_) => OrderKind::CrossFilter,
        }
    }

    /// The numbers of the permutations, those of [`OrderKind::permutations`].
    pub(crate) fn permutations(&self) -> [&[u32]; 2] {
        match self {
            Order::Identity => [&[]; 2],
            Order::Axes { filters, tiles } | Order::InFilter { filters, tiles } => [filters, tiles],
            Order::CrossFilter(rows) => [rows, &[]],
        }
    }

    /// Filter and tile whose coordinates a row gets.
    ///
    /// # Panics
    /// If the order does not fit the tiling.
    pub fn position(&self, tiling: &Tiling, row: usize) -> (usize, usize) {
        let count = tiling.tiles_per_filter();
        let (filter, tile) = (row / count, row % count);
        match self {
            Order::Identity => (filter, tile),
            Order::Axes { filters, tiles } => (filters[filter] as usize, tiles[tile] as usize),
            Order::InFilter { filters, tiles } => (filters[filter] as usize, tiles[row] as usize),
            Order::CrossFilter(rows) => {
                let row = rows[row] as usize;
                (row / count, row % count)
            }
        }
    }

    /// Information content of the permutations in bits: the sum of log2(n!). A file stores them in
    /// that size, and a few bytes more.
    pub fn bits(&self, tiling: &Tiling) -> f64 {
        let of_length = |n: usize| (2..=n).map(|i| (i as f64).log2()).sum::<f64>();
        let permutations = self.kind().permutations(tiling);
        permutations.into_iter().map(|(count, length)| count as f64 * of_length(length)).sum()
    }

    /// Refuses what are no permutations of the tiling.
    ///
    /// # Errors
    /// `Permutation`.
    pub fn check(&self, tiling: &Tiling) -> Result<(), PredictorError> {
        let expected = self.kind().permutations(tiling);
        for (numbers, (count, length)) in self.permutations().into_iter().zip(expected) {
            if numbers.len() != count * length {
                return Err(PredictorError::Permutation { length, found: numbers.len() });
            }
            for permutation in numbers.chunks(length.max(1)) {
                let mut seen = vec![false; length];
                for &number in permutation {
                    match seen.get_mut(number as usize) {
                        Some(seen) if !*seen => *seen = true,
                        _ => return Err(PredictorError::Permutation { length, found: length }),
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiling() -> Tiling {
        Tiling { shape: vec![2, 3, 3, 3], tile: 9 }
    }

    #[test]
    fn positions_follow_the_permutations() {
        let axes = Order::Axes { filters: vec![1, 0], tiles: vec![2, 0, 1] };
        assert_eq!(axes.position(&tiling(), 0), (1, 2));
        assert_eq!(axes.position(&tiling(), 5), (0, 1));
        let in_filter = Order::InFilter { filters: vec![1, 0], tiles: vec![2, 0, 1, 0, 2, 1] };
        assert_eq!(in_filter.position(&tiling(), 3), (0, 0));
        assert_eq!(in_filter.position(&tiling(), 4), (0, 2));
        let cross = Order::CrossFilter(vec![5, 4, 3, 2, 1, 0]);
        assert_eq!(cross.position(&tiling(), 1), (1, 1));
        assert_eq!(Order::Identity.position(&tiling(), 4), (1, 1));
        for order in [axes, in_filter, cross, Order::Identity] {
            order.check(&tiling()).unwrap();
            let mut all: Vec<_> = (0..6).map(|row| order.position(&tiling(), row)).collect();
            all.sort();
            assert_eq!(all, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)], "{order:?}");
        }
    }

    #[test]
    fn what_is_no_permutation_is_refused() {
        for order in [
            Order::CrossFilter(vec![0; 6]),
            Order::CrossFilter(vec![0, 1, 2, 3, 4, 6]),
            Order::CrossFilter(vec![0, 1, 2]),
            Order::Axes { filters: vec![0, 1], tiles: vec![0, 1, 1] },
            Order::InFilter { filters: vec![0, 1], tiles: vec![0, 1, 2] },
        ] {
            assert!(order.check(&tiling()).is_err(), "{order:?}");
        }
    }

    #[test]
    fn bits_are_those_of_all_orders() {
        let order = Order::InFilter { filters: vec![0, 1], tiles: vec![0, 1, 2, 0, 1, 2] };
        assert!((order.bits(&tiling()) - (2f64 * 6.0 * 6.0).log2()).abs() < 1e-12);
        assert_eq!(Order::Identity.bits(&tiling()), 0.0);
    }
}
