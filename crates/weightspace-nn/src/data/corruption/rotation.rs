//! Rotation about the centre.

use weightspace_core::random::Stream;

use super::{Canvas, mix};

/// Linear between pixels; what lies beyond the image is black.
pub(super) fn rotate(canvas: &mut Canvas, degrees: f32, _: &mut Stream) {
    let (sine, cosine) = libm::sincos(f64::from(degrees).to_radians());
    let (sine, cosine) = (sine as f32, cosine as f32);
    let middle = |len: usize| (len as f32 - 1.0) / 2.0;
    let (middle_row, middle_column) = (middle(canvas.height), middle(canvas.width));
    canvas.map_from(|plane, row, column| {
        let (y, x) = (row as f32 - middle_row, column as f32 - middle_column);
        // Rows count downwards: the source of a pixel lies clockwise of it.
        let source_row = middle_row + cosine * y + sine * x;
        let source_column = middle_column + cosine * x - sine * y;
        let (top, left) = (source_row.floor(), source_column.floor());
        let (down, right) = (source_row - top, source_column - left);
        let (top, left) = (top as isize, left as isize);
        let above = mix(plane.or_black(top, left), plane.or_black(top, left + 1), right);
        let below = mix(plane.or_black(top + 1, left), plane.or_black(top + 1, left + 1), right);
        mix(above, below, down)
    });
}
