//! Loss of detail.

use weightspace_core::random::Stream;

use super::Canvas;

/// Edges are continued by their own values; the filter ends at four standard deviations.
pub(super) fn gaussian(canvas: &mut Canvas, deviation: f32, _: &mut Stream) {
    let radius = (4.0 * deviation + 0.5) as isize;
    let weight = |offset: isize| {
        let distance = offset as f64 / f64::from(deviation);
        libm::exp(-0.5 * distance * distance)
    };
    let total: f64 = (-radius..=radius).map(weight).sum();
    let filter: Vec<(isize, f32)> =
        (-radius..=radius).map(|offset| (offset, (weight(offset) / total) as f32)).collect();
    canvas.map_from(|plane, row, column| {
        let (row, column) = (row as isize, column as isize);
        filter.iter().map(|&(offset, weight)| weight * plane.nearest(row + offset, column)).sum()
    });
    canvas.map_from(|plane, row, column| {
        let (row, column) = (row as isize, column as isize);
        filter.iter().map(|&(offset, weight)| weight * plane.nearest(row, column + offset)).sum()
    });
}

/// The trail of a motion to the right; the left edge is continued by its own values.
pub(super) fn motion(canvas: &mut Canvas, length: f32, _: &mut Stream) {
    let pixels = length as isize;
    canvas.map_from(|plane, row, column| {
        let (row, column) = (row as isize, column as isize);
        (0..pixels).map(|offset| plane.nearest(row, column - offset)).sum::<f32>() / length
    });
}

/// Every pixel becomes the mean of those whose centres lie in the same cell of the smaller grid: a
/// reduction with a box filter, enlarged again by the nearest pixel.
pub(super) fn pixelate(canvas: &mut Canvas, factor: f32, _: &mut Stream) {
    let rows = cells(canvas.height, factor);
    let columns = cells(canvas.width, factor);
    let (width, len) = (canvas.width, canvas.plane_len());
    for plane in canvas.values.chunks_exact_mut(len) {
        for &(top, bottom) in &rows {
            for &(left, right) in &columns {
                let positions = (top..bottom)
                    .flat_map(|row| (left..right).map(move |column| row * width + column));
                let sum: f32 = positions.clone().map(|position| plane[position]).sum();
                let mean = sum / ((bottom - top) * (right - left)) as f32;
                positions.for_each(|position| plane[position] = mean);
            }
        }
    }
}

/// First position of every cell and the one after its last, of `len` positions in `len * factor`
/// cells, rounded down.
fn cells(len: usize, factor: f32) -> Vec<(usize, usize)> {
    let count = ((len as f32 * factor) as usize).max(1);
    let cell = |position: usize| (2 * position + 1) * count / (2 * len);
    let mut cells = Vec::with_capacity(count);
    let mut start = 0;
    for end in 1..=len {
        if end == len || cell(end) != cell(start) {
            cells.push((start, end));
            start = end;
        }
    }
    cells
}
