//! Filters of 3 x 3 weights on the way to Winograd's 16 positions, and their gradients back.

use super::POSITIONS;
use crate::kernels::maps::BLOCK;

/// G g G^T of one 3 x 3 filter.
pub fn transform_filter(g: [f32; 9]) -> [f32; POSITIONS] {
    let mut half = [[0.0; 3]; 4];
    for column in 0..3 {
        let [a, b, c] = [g[column], g[3 + column], g[6 + column]];
        for (row, value) in lift(a, b, c).into_iter().enumerate() {
            half[row][column] = value;
        }
    }
    let mut all = [0.0; POSITIONS];
    for (row, values) in all.as_chunks_mut::<4>().0.iter_mut().zip(half) {
        *row = lift(values[0], values[1], values[2]);
    }
    all
}

/// G applied to three values.
fn lift(a: f32, b: f32, c: f32) -> [f32; 4] {
    [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c]
}

/// G^T u G of one transformed filter's gradient.
pub fn transform_filter_gradient(u: [f32; POSITIONS]) -> [f32; 9] {
    let drop = |u: [f32; 4]| {
        let (sum, difference) = (0.5 * (u[1] + u[2]), 0.5 * (u[1] - u[2]));
        [u[0] + sum, difference, sum + u[3]]
    };
    let rows: [[f32; 3]; 4] = std::array::from_fn(|r| drop(std::array::from_fn(|c| u[4 * r + c])));
    let mut g = [0.0; 9];
    for column in 0..3 {
        let values = drop(std::array::from_fn(|r| rows[r][column]));
        for (row, value) in values.into_iter().enumerate() {
            g[3 * row + column] = value;
        }
    }
    g
}

/// Calls `f(index of position 0 in the transformed weights, output, input)` for every filter; each
/// of the other positions is a sixteenth of all weights further.
pub fn for_each_filter(
    out_channels: usize,
    in_channels: usize,
    mut f: impl FnMut(usize, usize, usize),
) {
    let inputs = in_channels.next_multiple_of(BLOCK);
    for output in 0..out_channels {
        for input in 0..in_channels {
            let block = output / BLOCK;
            f((block * inputs + input) * BLOCK + output % BLOCK, output, input);
        }
    }
}
