//! Sixteen images side by side.

use super::super::{LANES, Vector};

/// Writes value i of image l to lane l of vector i.
pub(in crate::lanes) fn transpose(images: [&[f32]; LANES], target: &mut [Vector]) {
    let count = target.len();
    let images = images.map(|image| &image[..count]);
    for (i, target) in target.iter_mut().enumerate() {
        *target = Vector(images.map(|image| image[i]));
    }
}
