//! Damage to images in the manner of CIFAR-10-C (Hendrycks and Dietterich 2019): fixed corruptions
//! of five severities, the same on every machine.
//!
//! To add a corruption, write a function of a [`Canvas`] and name it in [`CORRUPTIONS`].

mod blur;
mod colour;
mod fog;
mod noise;
mod rotation;

use std::fmt;

use rayon::prelude::*;
use weightspace_core::random::{Key, Stream};

use super::{Pixels, Split};

/// Severities go from 1 to this.
pub(super) const SEVERITIES: u8 = 5;
/// The severity where none is given.
pub(super) const DEFAULT_SEVERITY: u8 = 3;

/// One kind of damage.
///
/// It is done to the published pixels, before augmentation and preprocessing, where 0 is black and
/// 1 full intensity, in `f32` arithmetic that every machine rounds alike. Results are cut off at 0
/// and 1; bytes are rounded to the nearest, halves up. Random numbers of image `index` come from
/// stream 2 `index` of purpose `corruption` and seed 0, of 2 `index` + 1 for the test split.
pub struct Corruption {
    /// Name on the command line.
    pub name: &'static str,
    /// What it does, in words.
    pub title: &'static str,
    /// Its parameter at severities 1 to 5, in the units that the title states.
    pub levels: [f32; SEVERITIES as usize],
    /// Channels that an image must have, if not any number.
    channels: Option<usize>,
    apply: fn(&mut Canvas, f32, &mut Stream),
}

/// Every corruption, in the order in which they are listed.
///
/// Levels of `gaussian-noise` to `pixelate`, `brightness` and `contrast` but for `motion-blur` are
/// those of CIFAR-10-C.
pub static CORRUPTIONS: [Corruption; 12] = [
    Corruption {
        name: "gaussian-noise",
        title: "normal noise of this standard deviation on every value",
        levels: [0.04, 0.06, 0.08, 0.09, 0.1],
        channels: None,
        apply: noise::gaussian,
    },
    Corruption {
        name: "shot-noise",
        title: "every value counted in Poisson events, this many at full intensity",
        levels: [500.0, 250.0, 100.0, 75.0, 50.0],
        channels: None,
        apply: noise::shot,
    },
    Corruption {
        name: "impulse-noise",
        title: "this share of the values set to 0 or 1",
        levels: [0.01, 0.02, 0.03, 0.05, 0.07],
        channels: None,
        apply: noise::impulse,
    },
    Corruption {
        name: "gaussian-blur",
        title: "a normal filter of this standard deviation in pixels",
        levels: [0.4, 0.6, 0.7, 0.8, 1.0],
        channels: None,
        apply: blur::gaussian,
    },
    Corruption {
        name: "motion-blur",
        title: "mean of this many pixels, the pixel and its neighbours to the left",
        levels: [2.0, 3.0, 4.0, 5.0, 6.0],
        channels: None,
        apply: blur::motion,
    },
    Corruption {
        name: "pixelate",
        title: "means over a grid that is this much smaller",
        levels: [0.95, 0.9, 0.85, 0.75, 0.65],
        channels: None,
        apply: blur::pixelate,
    },
    Corruption {
        name: "brightness",
        title: "this much brighter at the same hue and saturation",
        levels: [0.05, 0.1, 0.15, 0.2, 0.3],
        channels: None,
        apply: colour::brightness,
    },
    Corruption {
        name: "contrast",
        title: "distance from the mean of the channel times this",
        levels: [0.75, 0.5, 0.4, 0.3, 0.15],
        channels: None,
        apply: colour::contrast,
    },
    Corruption {
        name: "fog",
        title: "smooth random noise added, from 0 to this, then darkened to the range before",
        levels: [0.2, 0.5, 0.75, 1.0, 1.5],
        channels: None,
        apply: fog::fog,
    },
    Corruption {
        name: "greyscale",
        title: "this share of the way to the luminance, for images of 3 channels",
        levels: [0.2, 0.4, 0.6, 0.8, 1.0],
        channels: Some(3),
        apply: colour::greyscale,
    },
    Corruption {
        name: "solarize",
        title: "values from this on inverted; at 5 the negative",
        levels: [0.8, 0.6, 0.4, 0.2, 0.0],
        channels: None,
        apply: colour::solarize,
    },
    Corruption {
        name: "rotate",
        title: "turned by this many degrees counter-clockwise on black",
        levels: [6.0, 12.0, 18.0, 24.0, 30.0],
        channels: None,
        apply: rotation::rotate,
    },
];

impl Corruption {
    /// Whether images of this shape can be damaged so.
    pub(super) fn check(&self, shape: [usize; 3]) -> Result<(), String> {
        match self.channels {
            Some(expected) if expected != shape[0] => {
                Err(format!("{} needs {expected} channels, images have {}", self.name, shape[0]))
            }
            _ => Ok(()),
        }
    }

    /// Damages all images, in place and in parallel.
    pub(super) fn apply(
        &self,
        severity: u8,
        pixels: &mut Pixels,
        shape: [usize; 3],
        scale: f32,
        split: Option<Split>,
    ) {
        let size: usize = shape.iter().product();
        let level = self.levels[usize::from(severity) - 1];
        let key = Key::for_purpose(0, "corruption");
        let parity = u64::from(split == Some(Split::Test));
        let damage = |canvas: &mut Canvas, index: usize| {
            (self.apply)(canvas, level, &mut Stream::new(key, 2 * index as u64 + parity));
            canvas.values.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
        };
        let canvas = || Canvas::new(shape);
        match pixels {
            Pixels::U8(bytes) => {
                let images = bytes.par_chunks_exact_mut(size).with_min_len(8).enumerate();
                images.for_each_init(canvas, |canvas, (index, image)| {
                    let pixels = canvas.values.iter_mut().zip(&*image);
                    pixels.for_each(|(value, &byte)| *value = f32::from(byte) / scale);
                    damage(canvas, index);
                    let values = image.iter_mut().zip(&canvas.values);
                    values.for_each(|(byte, value)| *byte = (value * scale + 0.5) as u8);
                });
            }
            Pixels::F32(numbers) => {
                let images = numbers.par_chunks_exact_mut(size).with_min_len(8).enumerate();
                images.for_each_init(canvas, |canvas, (index, image)| {
                    let pixels = canvas.values.iter_mut().zip(&*image);
                    pixels.for_each(|(value, &number)| *value = number / scale);
                    damage(canvas, index);
                    let values = image.iter_mut().zip(&canvas.values);
                    values.for_each(|(number, value)| *number = value * scale);
                });
            }
        }
    }
}

impl fmt::Debug for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Entries of the table are told apart by their names.
impl PartialEq for Corruption {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Corruption {}

/// The image that is being damaged.
struct Canvas {
    channels: usize,
    height: usize,
    width: usize,
    /// Channels x height x width, row by row; 0 is black and 1 full intensity.
    values: Vec<f32>,
    /// Of the same length, for values that are still needed while others are written.
    scratch: Vec<f32>,
}

impl Canvas {
    fn new([channels, height, width]: [usize; 3]) -> Self {
        let blank = vec![0.0; channels * height * width];
        Self { channels, height, width, values: blank.clone(), scratch: blank }
    }

    /// Pixels of one channel.
    fn plane_len(&self) -> usize {
        self.height * self.width
    }

    /// Replaces every value by a function of the image before, channel, row and column.
    fn map_from(&mut self, value: impl Fn(Plane<'_>, usize, usize) -> f32) {
        std::mem::swap(&mut self.values, &mut self.scratch);
        let (height, width, len) = (self.height, self.width, self.plane_len());
        let planes = self.scratch.chunks_exact(len).zip(self.values.chunks_exact_mut(len));
        for (values, out) in planes {
            let plane = Plane { values, height, width };
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                for (column, out) in out.iter_mut().enumerate() {
                    *out = value(plane, row, column);
                }
            }
        }
    }
}

/// One channel of an image.
#[derive(Clone, Copy)]
struct Plane<'a> {
    values: &'a [f32],
    height: usize,
    width: usize,
}

impl Plane<'_> {
    /// The value there; beyond the edges, the nearest of the edge.
    fn nearest(&self, row: isize, column: isize) -> f32 {
        let row = row.clamp(0, self.height as isize - 1) as usize;
        let column = column.clamp(0, self.width as isize - 1) as usize;
        self.values[row * self.width + column]
    }

    /// The value there; beyond the edges, black.
    fn or_black(&self, row: isize, column: isize) -> f32 {
        let inside =
            |position: isize, len: usize| usize::try_from(position).ok().filter(|&p| p < len);
        match (inside(row, self.height), inside(column, self.width)) {
            (Some(row), Some(column)) => self.values[row * self.width + column],
            _ => 0.0,
        }
    }
}

/// Position `at` of the way from `from` to `to`.
fn mix(from: f32, to: f32, at: f32) -> f32 {
    from + at * (to - from)
}
