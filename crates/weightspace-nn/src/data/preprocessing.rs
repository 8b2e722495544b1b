//! From pixels to the numbers that a network sees.

use std::fmt;
use std::str::FromStr;

use super::channels::channels_advice;

/// Scaling to [0, 1], optional padding with black, and normalisation per channel:
/// `(pixel / scale - mean) / std`, each operation rounded to `f32` as PyTorch's `ToTensor` and
/// `Normalize` do, so that the results are bit-identical.
///
/// The text form is the name of a [`Preset`] (`cifar10`), with `-padN` for padding to N x N pixels
/// (`unit-pad32`), or `mean=0.49,0.48,0.45,std=0.2,0.2,0.2` with an optional `,pad=32`. One value
/// serves all channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    mean: Vec<f32>,
    std: Vec<f32>,
    pad: Option<usize>,
}

/// A named mean and standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Name in the text form of a [`Preprocessing`].
    pub name: &'static str,
    /// Mean of every channel, or one for all.
    pub mean: &'static [f32],
    /// Standard deviation of every channel, or one for all.
    pub std: &'static [f32],
}

/// Every preset. `none` is another name of `unit`.
pub static PRESETS: [Preset; 7] = [
    Preset { name: "unit", mean: &[0.0], std: &[1.0] },
    Preset { name: "half", mean: &[0.5], std: &[0.5] },
    Preset { name: "imagenet", mean: &[0.485, 0.456, 0.406], std: &[0.229, 0.224, 0.225] },
    Preset { name: "cifar10", mean: &[0.4914, 0.4822, 0.4465], std: &[0.2470, 0.2435, 0.2616] },
    Preset { name: "cifar100", mean: &[0.5071, 0.4865, 0.4409], std: &[0.2673, 0.2564, 0.2762] },
    Preset { name: "mnist", mean: &[0.1307], std: &[0.3081] },
    Preset { name: "fashion-mnist", mean: &[0.2860], std: &[0.3530] },
];

/// Padding beyond this is taken for a mistake.
const LARGEST_PAD: usize = 4096;

/// Why a preprocessing cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessingError {
    /// The text names no preset.
    #[error(
        "unknown preprocessing '{0}'; known are {known}, each also with -padN, and mean=..,std=..[,pad=N]",
        known = PRESETS.map(|preset| preset.name).join(", ")
    )]
    UnknownName(String),
    /// The text has a part that cannot be read.
    #[error("preprocessing '{text}': {problem}")]
    Malformed {
        /// Text as given.
        text: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// The images have another number of channels.
    #[error(
        "preprocessing '{preprocessing}' is for {expected} channels, the images have {found}{advice}",
        advice = channels_advice(*expected, *found)
    )]
    Channels {
        /// Text form of the preprocessing.
        preprocessing: String,
        /// Channels of the preprocessing.
        expected: usize,
        /// Channels of the images.
        found: usize,
    },
    /// The images are larger than the size to pad to.
    #[error(
        "preprocessing '{preprocessing}' pads to a smaller size than the images' {height} x {width}"
    )]
    TooLarge {
        /// Text form of the preprocessing.
        preprocessing: String,
        /// Height of the images.
        height: usize,
        /// Width of the images.
        width: usize,
    },
}

impl Preprocessing {
    /// Pixels scaled to [0, 1] and nothing else.
    pub fn unit() -> Self {
        Self { mean: vec![0.0], std: vec![1.0], pad: None }
    }

    /// Normalisation with one mean and one standard deviation per channel, or one for all channels.
    ///
    /// # Errors
    /// If there are none or not as many of both, or if a value is not finite or a standard
    /// deviation not positive.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self, PreprocessingError> {
        let preprocessing = Self { mean, std, pad: None };
        match preprocessing.problem() {
            None => Ok(preprocessing),
            Some(problem) => {
                Err(PreprocessingError::Malformed { text: preprocessing.to_string(), problem })
            }
        }
    }

    /// Pads with black pixels to `size` x `size`, before normalisation: as much on the left as on
    /// the right and at the top as at the bottom, where an odd pixel goes to the right and to the
    /// bottom.
    pub fn with_pad(self, size: usize) -> Self {
        Self { pad: Some(size), ..self }
    }

    /// Mean of every channel, or one for all.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Standard deviation of every channel, or one for all.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// Height and width to which images are padded.
    pub fn pad(&self) -> Option<usize> {
        self.pad
    }

    /// Channels, height and width of what images of `shape` become.
    ///
    /// # Errors
    /// If the number of channels differs or the images are larger than the padding.
    pub fn output_shape(&self, shape: [usize; 3]) -> Result<[usize; 3], PreprocessingError> {
        let [channels, height, width] = shape;
        if self.mean.len() != 1 && self.mean.len() != channels {
            return Err(PreprocessingError::Channels {
                preprocessing: self.to_string(),
                expected: self.mean.len(),
                found: channels,
            });
        }
        match self.pad {
            None => Ok(shape),
            Some(size) if size >= height.max(width) => Ok([channels, size, size]),
            Some(_) => {
                Err(PreprocessingError::TooLarge { preprocessing: self.to_string(), height, width })
            }
        }
    }

    /// Writes one image of `shape` to `out`, whose length is that of the output shape; `scale` is
    /// the pixel value of full intensity.
    pub(super) fn apply<P: Copy + Into<f32>>(
        &self,
        pixels: &[P],
        shape: [usize; 3],
        scale: f32,
        out: &mut [f32],
    ) -> Result<(), PreprocessingError> {
        let [channels, out_height, out_width] = self.output_shape(shape)?;
        let [_, height, width] = shape;
        assert_eq!(out.len(), channels * out_height * out_width, "length of the image");
        let (top, left) = ((out_height - height) / 2, (out_width - width) / 2);
        let planes = pixels.chunks_exact(height * width);
        let out_planes = out.chunks_exact_mut(out_height * out_width);
        for (channel, (plane, out_plane)) in planes.zip(out_planes).enumerate() {
            let normalised = self.normalised(channel, scale);
            let normalise = |pixels: &[P], out: &mut [f32]| {
                for (out, &pixel) in out.iter_mut().zip(pixels) {
                    *out = normalised(pixel.into());
                }
            };
            if out_plane.len() == plane.len() {
                normalise(plane, out_plane);
                continue;
            }
            out_plane.fill(normalised(0.0));
            let out_rows = out_plane.chunks_exact_mut(out_width).skip(top);
            for (row, out_row) in plane.chunks_exact(width).zip(out_rows) {
                normalise(row, &mut out_row[left..left + width]);
            }
        }
        Ok(())
    }

    /// What a pixel of that channel becomes; `scale` is the pixel value of full intensity.
    pub(super) fn normalised(&self, channel: usize, scale: f32) -> impl Fn(f32) -> f32 + use<> {
        let mean = self.mean[channel.min(self.mean.len() - 1)];
        let std = self.std[channel.min(self.std.len() - 1)];
        move |pixel| (pixel / scale - mean) / std
    }

    fn problem(&self) -> Option<String> {
        if self.mean.is_empty() || self.mean.len() != self.std.len() {
            return Some(format!(
                "{} means and {} standard deviations, expected as many of both",
                self.mean.len(),
                self.std.len()
            ));
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Some(format!("mean {mean} is not finite"));
        }
        let invalid = self.std.iter().find(|std| !(std.is_normal() && **std > 0.0))?;
        Some(format!("standard deviation {invalid} is not positive"))
    }

    fn parse_custom(text: &str) -> Result<Self, String> {
        let (mut mean, mut std, mut pad) = (None, None, None);
        // The list that the next number without a key continues.
        let mut list: Option<&mut Vec<f32>> = None;
        for part in text.split(',') {
            let number = match part.split_once('=') {
                None => part,
                Some(("pad", size)) => {
                    list = None;
                    if pad.replace(parse_pad(size)?).is_some() {
                        return Err("pad is given twice".into());
                    }
                    continue;
                }
                Some((key @ ("mean" | "std"), number)) => {
                    let slot = if key == "mean" { &mut mean } else { &mut std };
                    if slot.is_some() {
                        return Err(format!("{key} is given twice"));
                    }
                    list = Some(slot.insert(Vec::new()));
                    number
                }
                Some((key, _)) => return Err(format!("'{key}' is none of mean, std and pad")),
            };
            let list = list.as_mut().ok_or_else(|| format!("'{part}' follows no mean= or std="))?;
            list.push(number.trim().parse().map_err(|_| format!("'{number}' is not a number"))?);
        }
        let mean = mean.ok_or("mean=.. is missing")?;
        let std = std.ok_or("std=.. is missing")?;
        let preprocessing = Self { mean, std, pad };
        preprocessing.problem().map_or(Ok(preprocessing), Err)
    }
}

fn parse_pad(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(size @ 1..=LARGEST_PAD) => Ok(size),
        _ => Err(format!("'{text}' is not a size to pad to, a number from 1 to {LARGEST_PAD}")),
    }
}

impl FromStr for Preprocessing {
    type Err = PreprocessingError;

    fn from_str(text: &str) -> Result<Self, PreprocessingError> {
        let malformed = |problem| PreprocessingError::Malformed { text: text.to_owned(), problem };
        if text.contains('=') {
            return Self::parse_custom(text).map_err(malformed);
        }
        let (name, pad) = match text.rsplit_once("-pad") {
            Some((name, size)) => (name, Some(parse_pad(size).map_err(malformed)?)),
            None => (text, None),
        };
        let name = if name == "none" { "unit" } else { name };
        let preset = PRESETS
            .iter()
            .find(|preset| preset.name == name)
            .ok_or_else(|| PreprocessingError::UnknownName(text.to_owned()))?;
        Ok(Self { mean: preset.mean.to_vec(), std: preset.std.to_vec(), pad })
    }
}

/// The shortest text that parses to the same value.
impl fmt::Display for Preprocessing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = |preset: &&Preset| preset.mean == self.mean && preset.std == self.std;
        if let Some(preset) = PRESETS.iter().find(same) {
            f.write_str(preset.name)?;
            return self.pad.map_or(Ok(()), |size| write!(f, "-pad{size}"));
        }
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        write!(f, "mean={},std={}", list(&self.mean), list(&self.std))?;
        self.pad.map_or(Ok(()), |size| write!(f, ",pad={size}"))
    }
}
