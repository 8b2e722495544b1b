//! Fog: smooth random noise, the same in all channels.

use weightspace_core::random::Stream;

use super::{Canvas, mix};

/// Cells of the noise along every side; the finest is that of a picture of 32 pixels.
const OCTAVES: [usize; 5] = [2, 4, 8, 16, 32];
/// Amplitude of an octave relative to the one before.
const DECAY: f32 = 0.5;

/// Adds noise with values from 0 to `thickness`, then divides so that the brightest possible pixel is
/// as bright as the brightest was.
///
/// The noise is a sum of octaves. Each has a uniform random number at every corner of a grid of
/// equal cells over the image and is linear between them; the sum is stretched to its full range.
pub(super) fn fog(canvas: &mut Canvas, thickness: f32, stream: &mut Stream) {
    let (height, width, len) = (canvas.height, canvas.width, canvas.plane_len());
    let noise = &mut canvas.scratch[..len];
    noise.fill(0.0);
    let mut amplitude = 1.0;
    for cells in OCTAVES {
        let mut corners = vec![0.0; (cells + 1) * (cells + 1)];
        stream.fill_uniform(&mut corners);
        for (row, noise) in noise.chunks_exact_mut(width).enumerate() {
            let (top, down) = cell(row, height, cells);
            for (column, noise) in noise.iter_mut().enumerate() {
                let (left, right) = cell(column, width, cells);
                let corner = &corners[top * (cells + 1) + left..];
                let above = mix(corner[0], corner[1], right);
                let below = mix(corner[cells + 1], corner[cells + 2], right);
                *noise += amplitude * mix(above, below, down);
            }
        }
        amplitude *= DECAY;
    }
    let smallest = noise.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = noise.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // An image of one pixel has noise of one value.
    let range = (largest - smallest).max(f32::MIN_POSITIVE);
    let brightest = canvas.values.iter().copied().fold(0.0, f32::max);
    let darkening = brightest / (brightest + thickness);
    for plane in canvas.values.chunks_exact_mut(len) {
        for (value, &noise) in plane.iter_mut().zip(&*noise) {
            *value = (*value + thickness * ((noise - smallest) / range)) * darkening;
        }
    }
}

/// The cell in which the centre of a pixel lies, and how far into it.
fn cell(position: usize, len: usize, cells: usize) -> (usize, f32) {
    let at = (position as f32 + 0.5) / len as f32 * cells as f32;
    // Rounding could reach the end of the last cell in images of millions of pixels a side.
    let cell = (at as usize).min(cells - 1);
    (cell, at - cell as f32)
}
