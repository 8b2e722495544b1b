//! Images of another size.

use std::fmt;

use image::imageops::{FilterType, crop_imm, resize};
use image::{ImageBuffer, Luma, Primitive};
use rayon::prelude::*;

use super::Pixels;

/// How an image of any size becomes a square one.
///
/// The text form is that of a [`Shift`](super::Shift): `size:N` or `crop:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Both sides are scaled to so many pixels.
    Scale(usize),
    /// The shorter side is scaled to 8/7 of so many pixels, the longer in proportion, and the middle is cut out: what
    /// networks of ImageNet are evaluated on (256 and 224).
    Crop(usize),
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resize::Scale(size) => write!(f, "size:{size}"),
            Resize::Crop(size) => write!(f, "crop:{size}"),
        }
    }
}

impl Resize {
    /// Height and width of what comes out.
    pub fn side(self) -> usize {
        match self {
            Resize::Scale(side) | Resize::Crop(side) => side,
        }
    }

    /// Height and width to which the image is scaled before it is cut; rounded as torchvision does.
    fn scaled(self, height: usize, width: usize) -> [usize; 2] {
        match self {
            Resize::Scale(side) => [side, side],
            Resize::Crop(side) => {
                let (shorter, longer) = (height.min(width), height.max(width));
                let short = (side * 8).div_ceil(7);
                let long = short * longer / shorter;
                if height <= width { [short, long] } else { [long, short] }
            }
        }
    }
}

/// Images of `shape` (channels, height, width) with another size: linear interpolation, over the area that a
/// pixel stands for where they become smaller, as Pillow's and torchvision's on images. Integers stay integers; real
/// numbers are from 0 to `scale`, full intensity, which the scaling of floats takes for 1.
pub(super) fn resized(pixels: &Pixels, shape: [usize; 3], scale: f32, resize: Resize) -> Pixels {
    match pixels {
        Pixels::U8(values) => Pixels::U8(resized_planes(values, shape, resize)),
        Pixels::F32(values) => {
            let values: Vec<f32> = values.iter().map(|value| value / scale).collect();
            let mut resized = resized_planes(&values, shape, resize);
            resized.iter_mut().for_each(|value| *value *= scale);
            Pixels::F32(resized)
        }
    }
}

/// Sides beyond so many times the other are cut off before a crop is scaled, which sees nothing of them.
const LARGEST_ASPECT: usize = 16;

/// The planes of any number of images of one size, with another size.
pub(super) fn resized_planes<P>(values: &[P], [_, height, width]: [usize; 3], to: Resize) -> Vec<P>
where
    P: Primitive + Send + Sync + 'static,
    Luma<P>: image::Pixel<Subpixel = P>,
{
    let seen = |side: usize, other: usize| match to {
        Resize::Scale(_) => side,
        Resize::Crop(_) => side.min(LARGEST_ASPECT * other),
    };
    let (seen_height, seen_width) = (seen(height, width), seen(width, height));
    let (first_row, first_column) = ((height - seen_height) / 2, (width - seen_width) / 2);
    let (side, [scaled_height, scaled_width]) = (to.side(), to.scaled(seen_height, seen_width));
    // torchvision rounds halves to the even number.
    let middle = |size: usize| ((size - side) as f64 / 2.0).round_ties_even() as u32;
    let (top, left) = (middle(scaled_height), middle(scaled_width));
    let mut all = vec![P::DEFAULT_MIN_VALUE; values.len() / (height * width) * side * side];
    let planes = values.par_chunks_exact(height * width).zip(all.par_chunks_exact_mut(side * side));
    planes.for_each(|(plane, target)| {
        let image: ImageBuffer<Luma<P>, &[P]> =
            ImageBuffer::from_raw(width as u32, height as u32, plane).expect("a plane's pixels");
        let seen = crop_imm(
            &image,
            first_column as u32,
            first_row as u32,
            seen_width as u32,
            seen_height as u32,
        );
        let scaled =
            resize(&*seen, scaled_width as u32, scaled_height as u32, FilterType::Triangle);
        let cut = crop_imm(&scaled, left, top, side as u32, side as u32).to_image();
        target.copy_from_slice(cut.as_raw());
    });
    all
}
