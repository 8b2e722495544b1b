//! Predictor networks: a small network that gives the weights of another one, tile by tile, from the
//! coordinates (layer, filter, tile) of each (NeRN, "Neural Representation for Neural Networks"; Choi
//! et al., "Decoupled training of weight predictors").
//!
//! [`Tiling`] cuts a tensor into tiles, [`Order`] says which coordinates each tile gets, [`Grid`] holds
//! those of a whole network, [`Encoding`] makes features of them, [`Predictor`] weights of these.
//! `docs/format.md`, section 15, is normative.

mod decoder;
mod encoding;
mod grid;
mod order;
mod sine;
mod tiling;

pub use decoder::{Features, Linear, Predictor};
pub(crate) use decoder::{LAYERS, check_layers};
pub use encoding::Encoding;
pub use grid::{AXES, CoordinateScale, Grid};
pub use order::{Order, OrderKind};
pub use tiling::Tiling;

/// Outputs that a layer of a predictor, and features that a coordinate, may have.
pub const WIDTH: usize = 1 << 16;

/// Why tensors, coordinates and layers are no predictor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PredictorError {
    /// A tensor that cannot be cut into tiles.
    #[error("a tensor of shape {shape:?} cannot be cut into tiles of {tile}")]
    Shape {
        /// Its dimensions.
        shape: Vec<usize>,
        /// Elements of a tile.
        tile: usize,
    },
    /// An order that is none of its tensor's tiles.
    #[error("{found} numbers are no permutations of {length}")]
    Permutation {
        /// Length of the permutation.
        length: usize,
        /// Numbers that were found.
        found: usize,
    },
    /// More distinct coordinates than an axis may have.
    #[error("more than 2^20 distinct coordinates on the {axis} axis")]
    Values {
        /// Name of the axis.
        axis: &'static str,
    },
    /// Parameters of an encoding beyond the limits.
    #[error(
        "an encoding beyond the limits: positional has 1 to 256 levels and a base above 0 and at most 4, chebyshev a \
         degree of 1 to 256 and coordinates that are not raw, tables a width of 1 to {WIDTH}"
    )]
    Encoding {
        /// The encoding.
        encoding: Encoding,
        /// The scale of the coordinates.
        scale: CoordinateScale,
    },
    /// A layer that does not follow the one before it, is too wide, or one too few or too many.
    #[error("layer {layer} of the predictor does not fit")]
    Layer {
        /// Number of the layer.
        layer: usize,
    },
    /// A tile of more elements than the predictor has outputs.
    #[error("tiles of {tile} elements of a tensor {shape:?}, the predictor has {outputs} outputs")]
    Tile {
        /// Dimensions of the tensor.
        shape: Vec<usize>,
        /// Elements of a tile.
        tile: usize,
        /// Outputs of the last layer.
        outputs: usize,
    },
    /// More sums of the first layer than may be kept.
    #[error("{values} distinct coordinates of {outputs} outputs each, the limit is 2^26")]
    FirstSums {
        /// Distinct coordinates of the three axes together.
        values: usize,
        /// Outputs of the first layer.
        outputs: usize,
    },
    /// A table that has not one row for each distinct coordinate.
    #[error("the table of the {axis} axis does not have a row for each coordinate")]
    Table {
        /// Name of the axis.
        axis: &'static str,
    },
    /// Not one scale for each tensor.
    #[error("{scales} scales, not one for each tensor")]
    Scales {
        /// How many there are.
        scales: usize,
    },
}

/// Number of weights and biases of linear layers of these widths: of the input, of each layer's output.
pub fn parameter_count(widths: &[usize]) -> usize {
    widths.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_predictors_have_their_sizes() {
        for (hidden, expected) in [
            (120, 73_569),
            (140, 94_229),
            (180, 142_749),
            (220, 200_869),
            (280, 306_049),
            (300, 345_909),
            (320, 388_169),
            (360, 479_889),
            (510, 909_339),
            (680, 1_559_249),
            (700, 1_647_109),
            (750, 1_877_259),
            (1024, 3_404_809),
            (1372, 5_994_277),
        ] {
            let inputs = 3 * Encoding::NERN.width(hidden);
            let count = parameter_count(&[inputs, hidden, hidden, hidden, hidden, 9]);
            assert_eq!(count, expected, "H = {hidden}");
            assert_eq!(count, 3 * hidden * hidden + (inputs + 13) * hidden + 9);
        }
    }

    #[test]
    fn six_features_of_each_coordinate_take_a_third_off() {
        let count = |hidden| parameter_count(&[18, hidden, hidden, hidden, hidden, 9]);
        assert_eq!((count(140), count(180), count(360)), (63_149, 102_789, 399_969));
    }
}
