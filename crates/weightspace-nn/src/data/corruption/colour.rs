//! Changes of intensity and colour, pixel by pixel.

use weightspace_core::random::Stream;

use super::{Canvas, mix};

/// Adds to the value of hue, saturation and value, which is the largest of the channels.
pub(super) fn brightness(canvas: &mut Canvas, added: f32, _: &mut Stream) {
    let (len, channels) = (canvas.plane_len(), canvas.channels);
    for pixel in 0..len {
        let positions = (0..channels).map(|channel| channel * len + pixel);
        let largest = positions.clone().map(|p| canvas.values[p]).fold(0.0, f32::max);
        let brighter = (largest + added).min(1.0);
        for position in positions {
            let value = &mut canvas.values[position];
            // Black has no hue: it becomes grey.
            *value = if largest > 0.0 { *value / largest * brighter } else { brighter };
        }
    }
}

pub(super) fn contrast(canvas: &mut Canvas, factor: f32, _: &mut Stream) {
    let len = canvas.plane_len();
    for plane in canvas.values.chunks_exact_mut(len) {
        let sum: f64 = plane.iter().map(|&value| f64::from(value)).sum();
        let mean = (sum / len as f64) as f32;
        plane.iter_mut().for_each(|value| *value = mix(mean, *value, factor));
    }
}

/// Of red, green and blue. The luminance is that of ITU-R BT.601.
pub(super) fn greyscale(canvas: &mut Canvas, share: f32, _: &mut Stream) {
    let (red, rest) = canvas.values.split_at_mut(canvas.height * canvas.width);
    let (green, blue) = rest.split_at_mut(red.len());
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        let luminance = 0.299 * *red + 0.587 * *green + 0.114 * *blue;
        for value in [red, green, blue] {
            *value = mix(*value, luminance, share);
        }
    }
}

pub(super) fn solarize(canvas: &mut Canvas, threshold: f32, _: &mut Stream) {
    for value in &mut canvas.values {
        if *value >= threshold {
            *value = 1.0 - *value;
        }
    }
}
