//! Random crops and flips of training images.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use weightspace_core::random::{Key, Stream};

use super::{Dataset, Image, Preprocessing, PreprocessingError};

/// Random crops after padding with black pixels, then random horizontal flips, as torchvision's
/// `RandomCrop(size, padding=N)` and `RandomHorizontalFlip` on images that are normalised
/// afterwards.
///
/// The text and serialised form is `crop4-flip`, `crop4`, `flip` or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Augmentation {
    /// Pixels of padding on every side before the crop, at most 4,096: images move by up to that
    /// many in each direction, all distances equally likely.
    pub crop: u32,
    /// Whether every other image is mirrored.
    pub flip: bool,
}

/// How training images are shown: what happens to each is a function of this and its index alone.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is done to every image.
    pub preprocessing: &'a Preprocessing,
    /// What is done at random.
    pub augmentation: Augmentation,
    /// Seed of all that is random.
    pub seed: u64,
    /// The epoch; in each an image is changed anew.
    pub epoch: u32,
}

/// Crops beyond this are taken for a mistake.
const LARGEST_CROP: u32 = 4096;

/// The text describes no augmentation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown augmentation '{0}', expected cropN (N from 1 to {LARGEST_CROP}), flip, cropN-flip or none"
)]
pub struct AugmentationError(String);

impl Augmentation {
    /// Images as they are.
    pub const NONE: Self = Self { crop: 0, flip: false };

    /// How sample `index` is changed in an epoch.
    fn draw(self, key: Key, epoch: u32, index: usize) -> Change {
        let mut stream = Stream::new(key, u64::from(epoch) << 32 | index as u64);
        let mut offset = || stream.below(2 * self.crop + 1) as isize - self.crop as isize;
        let (rows, columns) = (offset(), offset());
        Change { rows, columns, flip: self.flip && stream.next_u32() >= 1 << 31 }
    }
}

impl FromStr for Augmentation {
    type Err = AugmentationError;

    fn from_str(text: &str) -> Result<Self, AugmentationError> {
        let crop = |part: &str| {
            let pixels = part.strip_prefix("crop")?.parse().ok()?;
            (1..=LARGEST_CROP).contains(&pixels).then_some(pixels)
        };
        let parsed = match (text, text.split_once('-')) {
            ("none", _) => Some(Self::NONE),
            ("flip", _) => Some(Self { crop: 0, flip: true }),
            (_, Some((part, "flip"))) => crop(part).map(|crop| Self { crop, flip: true }),
            _ => crop(text).map(|crop| Self { crop, flip: false }),
        };
        parsed.ok_or_else(|| AugmentationError(text.to_owned()))
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.crop, self.flip) {
            (0, false) => f.write_str("none"),
            (0, true) => f.write_str("flip"),
            (crop, false) => write!(f, "crop{crop}"),
            (crop, true) => write!(f, "crop{crop}-flip"),
        }
    }
}

impl TryFrom<String> for Augmentation {
    type Error = AugmentationError;

    fn try_from(text: String) -> Result<Self, AugmentationError> {
        text.parse()
    }
}

impl From<Augmentation> for String {
    fn from(augmentation: Augmentation) -> String {
        augmentation.to_string()
    }
}

impl Dataset {
    /// Writes a batch to `out` as [`Dataset::fill`] does, with every image changed at random after
    /// the preprocessing's padding and before its normalisation, on all threads.
    ///
    /// What happens to an image is drawn from stream epoch x 2^32 + index of purpose `augmentation`:
    /// the first row, then the first column of the crop in the padded image, each a number below
    /// 2 `crop` + 1, then a word, from 2^31 on of which the image is mirrored.
    ///
    /// # Errors
    /// If the preprocessing does not fit the images.
    ///
    /// # Panics
    /// If an index is out of range, or `out` has another length than that many images.
    pub fn fill_augmented(
        &self,
        indices: &[usize],
        view: &View,
        out: &mut [f32],
    ) -> Result<(), PreprocessingError> {
        let View { preprocessing, augmentation, seed, epoch } = *view;
        let shape = preprocessing.output_shape(self.shape())?;
        let size = shape.iter().product::<usize>();
        assert_eq!(out.len(), indices.len() * size, "length of the batch");
        let key = Key::for_purpose(seed, "augmentation");
        let [_, height, width] = self.shape();
        let [_, out_height, out_width] = shape;
        out.par_chunks_exact_mut(size).zip(indices).with_min_len(8).for_each(|(out, &index)| {
            let change = augmentation.draw(key, epoch, index);
            let placement = Placement::new([height, width], [out_height, out_width], change);
            for (c, out) in out.chunks_exact_mut(out_height * out_width).enumerate() {
                let plane = c * height * width..(c + 1) * height * width;
                let normalised = preprocessing.normalised(c, self.scale());
                match self.image(index) {
                    Image::U8(image) => placement.write(&image[plane], normalised, out),
                    Image::F32(image) => placement.write(&image[plane], normalised, out),
                }
            }
        });
        Ok(())
    }
}

/// What happens to one image.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// Rows by which the crop begins below the image, and the image therefore moves up.
    rows: isize,
    /// Columns by which it begins to the right.
    columns: isize,
    flip: bool,
}

/// Where the pixels of an image go.
#[derive(Clone, Debug)]
struct Placement {
    /// Columns of the image.
    width: usize,
    /// Columns of the output.
    out_width: usize,
    /// Rows of the output with pixels of the image, and the image's row of the first of them.
    rows: (Range<usize>, usize),
    /// Columns likewise, before they are mirrored.
    columns: (Range<usize>, usize),
    flip: bool,
}

impl Placement {
    /// Height and width of the image, which the output has in its middle, and of the output.
    fn new(image: [usize; 2], out: [usize; 2], change: Change) -> Self {
        Self {
            width: image[1],
            out_width: out[1],
            rows: overlap(image[0], out[0], change.rows),
            columns: overlap(image[1], out[1], change.columns),
            flip: change.flip,
        }
    }

    fn write<P>(&self, plane: &[P], normalised: impl Fn(f32) -> f32, out: &mut [f32])
    where
        P: Copy + Into<f32>,
    {
        let black = normalised(0.0);
        let (rows, first_row) = self.rows.clone();
        let (columns, first_column) = self.columns.clone();
        let columns = match self.flip {
            true => self.out_width - columns.end..self.out_width - columns.start,
            false => columns,
        };
        let (above, rest) = out.split_at_mut(rows.start * self.out_width);
        let (inside, below) = rest.split_at_mut(rows.len() * self.out_width);
        above.fill(black);
        below.fill(black);
        let sources = plane.chunks_exact(self.width).skip(first_row);
        for (out, source) in inside.chunks_exact_mut(self.out_width).zip(sources) {
            let source = &source[first_column..first_column + columns.len()];
            out[..columns.start].fill(black);
            out[columns.end..].fill(black);
            let out = &mut out[columns.clone()];
            let pixels = source.iter().map(|&pixel| normalised(pixel.into()));
            if self.flip {
                out.iter_mut().rev().zip(pixels).for_each(|(out, pixel)| *out = pixel);
            } else {
                out.iter_mut().zip(pixels).for_each(|(out, pixel)| *out = pixel);
            }
        }
    }
}

/// Positions of an output of `out` pixels that an image of `len` pixels in its middle covers when
/// it is seen from `offset` pixels further on, and the image's pixel at the first of them.
fn overlap(len: usize, out: usize, offset: isize) -> (Range<usize>, usize) {
    let start = ((out - len) / 2) as isize - offset;
    let visible = |position: isize| position.clamp(0, out as isize) as usize;
    let covered = visible(start)..visible(start + len as isize);
    let first = (covered.start as isize - start).clamp(0, len as isize);
    (covered, first as usize)
}
