//! How a tensor is cut into the tiles that a predictor gives one by one.

use std::ops::Range;

/// A tensor cut into tiles of consecutive elements, filter by filter. Tile i of filter f is *row*
/// f I + i of the tensor, with I tiles in a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Dimensions of the tensor, outermost (the filters) first; at least one, and none is 0.
    pub shape: Vec<usize>,
    /// Elements of a tile, at least 1; the last of a filter may have fewer.
    pub tile: usize,
}

impl Tiling {
    /// The tiling of a layer's weight: k x k kernels of convolutions, single elements of other layers.
    pub fn of_kernels(shape: Vec<usize>) -> Self {
        let tile = shape.iter().skip(2).product();
        Tiling { shape, tile }
    }

    /// Number of filters: the first dimension.
    pub fn filters(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of a filter.
    pub fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Number of tiles of a filter.
    pub fn tiles_per_filter(&self) -> usize {
        self.columns().div_ceil(self.tile)
    }

    /// Number of tiles.
    pub fn rows(&self) -> usize {
        self.filters() * self.tiles_per_filter()
    }

    /// Positions in the tensor of the elements of a tile.
    pub fn elements(&self, row: usize) -> Range<usize> {
        let (filter, tile) = (row / self.tiles_per_filter(), row % self.tiles_per_filter());
        let columns = self.columns();
        let first = filter * columns;
        first + tile * self.tile..first + columns.min((tile + 1) * self.tile)
    }

    /// The tiles that have one of these elements.
    pub fn rows_of(&self, elements: Range<usize>) -> Range<usize> {
        if elements.is_empty() {
            return 0..0;
        }
        let columns = self.columns();
        let row = |element: usize| {
            element / columns * self.tiles_per_filter() + element % columns / self.tile
        };
        row(elements.start)..row(elements.end - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kernels_are_tiles() {
        let convolution = Tiling::of_kernels(vec![16, 3, 3, 3]);
        assert_eq!((convolution.tile, convolution.rows()), (9, 48));
        assert_eq!(convolution.elements(4), 36..45);
        let linear = Tiling::of_kernels(vec![10, 64]);
        assert_eq!((linear.tile, linear.rows()), (1, 640));
        assert_eq!(Tiling::of_kernels(vec![7]).rows(), 7);
    }

    #[test]
    fn the_last_tile_of_a_filter_may_be_shorter() {
        let tiling = Tiling { shape: vec![2, 10], tile: 4 };
        let elements: Vec<_> = (0..tiling.rows()).map(|row| tiling.elements(row)).collect();
        assert_eq!(elements, [0..4, 4..8, 8..10, 10..14, 14..18, 18..20]);
    }

    proptest! {
        #[test]
        fn tiles_cover_the_tensor_once(
            shape in proptest::collection::vec(1usize..6, 1..4),
            tile in 1usize..10,
            range in (0usize..125, 0usize..125),
        ) {
            let tiling = Tiling { shape, tile };
            let count = tiling.shape.iter().product::<usize>();
            let all: Vec<usize> = (0..tiling.rows()).flat_map(|row| tiling.elements(row)).collect();
            prop_assert!(all.iter().copied().eq(0..count));
            let elements = range.0.min(range.1).min(count)..range.0.max(range.1).min(count);
            let touched = |row: &usize| {
                let own = tiling.elements(*row);
                !elements.is_empty() && own.start < elements.end && elements.start < own.end
            };
            let expected: Vec<usize> = (0..tiling.rows()).filter(touched).collect();
            prop_assert!(tiling.rows_of(elements.clone()).eq(expected));
        }
    }
}
