//! Images of another number of channels.

use rayon::prelude::*;

use super::Pixels;

/// Images of `shape` (channels, height, width) with one channel or three: grey is repeated, as Pillow and torchvision
/// convert it, and red, green and blue become their luminance of ITU-R BT.601. `None` unless it is from one channel to
/// three or back.
pub(super) fn with_channels(pixels: &Pixels, shape: [usize; 3], count: usize) -> Option<Pixels> {
    let [found, height, width] = shape;
    let plane = height * width;
    match (found, count) {
        (1, 3) => Some(match pixels {
            Pixels::U8(values) => Pixels::U8(repeated(values, plane)),
            Pixels::F32(values) => Pixels::F32(repeated(values, plane)),
        }),
        (3, 1) => Some(match pixels {
            Pixels::U8(values) => {
                Pixels::U8(grey(values, plane, f32::from, |value| (value + 0.5) as u8))
            }
            Pixels::F32(values) => Pixels::F32(grey(values, plane, |value| value, |value| value)),
        }),
        _ => None,
    }
}

/// What a user may do about images of `found` channels where `expected` are needed, for the end of a message; empty
/// where nothing helps.
pub fn channels_advice(expected: usize, found: usize) -> &'static str {
    match (expected, found) {
        (3, 1) => "; the data NAME+channels:3 is the same in three equal channels",
        (1, 3) => "; the data NAME+channels:1 is the same in grey",
        _ => "",
    }
}

fn repeated<P: Copy>(values: &[P], plane: usize) -> Vec<P> {
    values.chunks_exact(plane).flat_map(|grey| [grey; 3]).flatten().copied().collect()
}

fn grey<P: Copy + Default + Send + Sync>(
    values: &[P],
    plane: usize,
    number: impl Fn(P) -> f32 + Sync,
    rounded: impl Fn(f32) -> P + Sync,
) -> Vec<P> {
    let mut all = vec![P::default(); values.len() / 3];
    let images = values.par_chunks_exact(3 * plane).zip(all.par_chunks_exact_mut(plane));
    images.for_each(|(image, target)| {
        for (pixel, target) in target.iter_mut().enumerate() {
            let [red, green, blue] =
                [0, 1, 2].map(|channel| number(image[channel * plane + pixel]));
            *target = rounded(0.299 * red + 0.587 * green + 0.114 * blue);
        }
    });
    all
}
