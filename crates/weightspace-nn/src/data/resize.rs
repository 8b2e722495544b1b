//! Images of another size.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma, Primitive};
use rayon::prelude::*;

use super::Pixels;

/// Images of `shape` (channels, height, width) scaled to `size` x `size`: linear interpolation, over the area that a
/// pixel stands for where they become smaller, as Pillow's and torchvision's on images. Integers stay integers; real
/// numbers are from 0 to `scale`, full intensity, which the scaling of floats takes for 1.
pub(super) fn resized(pixels: &Pixels, shape: [usize; 3], scale: f32, size: usize) -> Pixels {
    match pixels {
        Pixels::U8(values) => Pixels::U8(planes(values, shape, size)),
        Pixels::F32(values) => {
            let values: Vec<f32> = values.iter().map(|value| value / scale).collect();
            let mut resized = planes(&values, shape, size);
            resized.iter_mut().for_each(|value| *value *= scale);
            Pixels::F32(resized)
        }
    }
}

fn planes<P>(values: &[P], [_, height, width]: [usize; 3], size: usize) -> Vec<P>
where
    P: Primitive + Send + Sync + 'static,
    Luma<P>: image::Pixel<Subpixel = P>,
{
    let mut all = vec![P::DEFAULT_MIN_VALUE; values.len() / (height * width) * size * size];
    let planes = values.par_chunks_exact(height * width).zip(all.par_chunks_exact_mut(size * size));
    planes.for_each(|(plane, target)| {
        let image: ImageBuffer<Luma<P>, &[P]> =
            ImageBuffer::from_raw(width as u32, height as u32, plane).expect("a plane's pixels");
        let scaled = resize(&image, size as u32, size as u32, FilterType::Triangle);
        target.copy_from_slice(scaled.as_raw());
    });
    all
}
