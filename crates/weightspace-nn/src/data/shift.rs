//! Shifted data sets: `NAME+SHIFT[+SHIFT..]`, the images of a data set changed or left out in fixed ways, one after
//! the other.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::channels::with_channels;
use super::corruption::{CORRUPTIONS, Corruption, DEFAULT_SEVERITY, SEVERITIES};
use super::resize::{Resize, resized};
use super::{DATASETS, DataError, Dataset};

/// How the images of a data set differ from those that are published.
///
/// The text form is `CORRUPTION[:SEVERITY]`, for instance `contrast:5`, with severity 3 if none is
/// given; or `classes:N,...`, for instance `classes:0,3,5`; or `size:N` and `crop:N`, for instance `crop:224`; or
/// `channels:3` and `channels:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Every image is damaged.
    Corruption {
        /// Entry of the table.
        corruption: &'static Corruption,
        /// From 1, hardly visible, to 5.
        severity: u8,
    },
    /// Only images of these labels stay, ascending. They keep their labels, and the data set its
    /// number of classes.
    Classes(Vec<u16>),
    /// Images become square ones of one size.
    Resize(Resize),
    /// Grey images get three equal channels, or coloured ones become grey.
    Channels(usize),
}

/// Sizes beyond this are taken for a mistake.
const LARGEST_SIZE: usize = 1024;

/// The text describes no shift; the message lists those that there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShiftError {
    /// No shift has this name.
    #[error("unknown shift '{0}'; known are {known}, classes:N,..., size:N, crop:N, channels:N", known = known())]
    UnknownName(String),
    /// What follows the name of a corruption is not from 1 to 5.
    #[error("severity '{text}' of {corruption}, expected 1 to {SEVERITIES}")]
    Severity {
        /// Name of the corruption.
        corruption: &'static str,
        /// What is given.
        text: String,
    },
    /// What follows `classes:` is not a list of labels.
    #[error("classes '{0}', expected labels separated by commas, each once, for instance 0,3,5")]
    Classes(String),
    /// What follows `size:` or `crop:` is no size.
    #[error("{name} '{text}', expected a number from 1 to {LARGEST_SIZE}")]
    Size {
        /// What precedes it.
        name: String,
        /// What is given.
        text: String,
    },
    /// What follows `channels:` is neither 1 nor 3.
    #[error("channels '{0}', expected 1 or 3")]
    Channels(String),
}

fn known() -> String {
    let names = CORRUPTIONS.iter().map(|corruption| corruption.name);
    format!("{} (each with :1 to :{SEVERITIES})", names.collect::<Vec<_>>().join(", "))
}

impl FromStr for Shift {
    type Err = ShiftError;

    fn from_str(text: &str) -> Result<Self, ShiftError> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let given = argument.unwrap_or_default();
        match name {
            "classes" => parse_classes(given)
                .map(Shift::Classes)
                .ok_or_else(|| ShiftError::Classes(given.to_owned())),
            "size" => parse_size(name, given).map(|size| Shift::Resize(Resize::Scale(size))),
            "crop" => parse_size(name, given).map(|size| Shift::Resize(Resize::Crop(size))),
            "channels" => match given {
                "1" => Ok(Shift::Channels(1)),
                "3" => Ok(Shift::Channels(3)),
                _ => Err(ShiftError::Channels(given.to_owned())),
            },
            _ => parse_corruption(text, name, argument),
        }
    }
}

fn parse_corruption(text: &str, name: &str, argument: Option<&str>) -> Result<Shift, ShiftError> {
    let known = CORRUPTIONS.iter().find(|corruption| corruption.name == name);
    let corruption = known.ok_or_else(|| ShiftError::UnknownName(text.to_owned()))?;
    let severity = match argument.map(str::parse) {
        None => DEFAULT_SEVERITY,
        Some(Ok(severity @ 1..=SEVERITIES)) => severity,
        Some(_) => {
            let text = argument.unwrap_or_default().to_owned();
            return Err(ShiftError::Severity { corruption: corruption.name, text });
        }
    };
    Ok(Shift::Corruption { corruption, severity })
}

fn parse_size(name: &str, text: &str) -> Result<usize, ShiftError> {
    match text.parse() {
        Ok(size @ 1..=LARGEST_SIZE) => Ok(size),
        _ => Err(ShiftError::Size { name: name.to_owned(), text: text.to_owned() }),
    }
}

fn parse_classes(list: &str) -> Option<Vec<u16>> {
    let labels: Result<Vec<u16>, _> = list.split(',').map(str::parse).collect();
    let mut labels = labels.ok()?;
    labels.sort_unstable();
    labels.is_sorted_by(|a, b| a < b).then_some(labels)
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shift::Corruption { corruption, severity } => {
                write!(f, "{}:{severity}", corruption.name)
            }
            Shift::Classes(labels) => {
                let labels: Vec<_> = labels.iter().map(u16::to_string).collect();
                write!(f, "classes:{}", labels.join(","))
            }
            Shift::Resize(resize) => resize.fmt(f),
            Shift::Channels(count) => write!(f, "channels:{count}"),
        }
    }
}

/// Parts of the name of a data set: what it is without shifts, and the shifts in their order.
///
/// The path of `folder:PATH` may contain a `+` itself: there, what exists is the path, and of what does not only what reads
/// as a shift is one.
pub(super) fn split_name(name: &str) -> Result<(&str, Vec<Shift>), DataError> {
    let mut prefixes = DATASETS.iter().filter_map(|info| info.name.strip_suffix("PATH"));
    let prefix = prefixes.find(|prefix| name.starts_with(prefix));
    let exists =
        |base: &str| prefix.is_some_and(|prefix| Path::new(&base[prefix.len()..]).exists());
    let (mut base, mut shifts) = (name, Vec::new());
    while let Some((before, text)) = base.rsplit_once('+') {
        if exists(base) || prefix.is_some_and(|prefix| before.len() < prefix.len()) {
            break;
        }
        match text.parse() {
            Ok(shift) => shifts.push(shift),
            Err(ShiftError::UnknownName(_)) if prefix.is_some() && !exists(before) => break,
            Err(source) => return Err(DataError::Shift { name: name.to_owned(), source }),
        }
        base = before;
    }
    shifts.reverse();
    Ok((base, shifts))
}

impl Dataset {
    /// The same data set shifted, and named after that: `+SHIFT` follows its name. Labels and the
    /// number of classes stay. Corruptions change all images on all threads, each as a function of
    /// the published split, its index and its pixels alone ([`Corruption`]).
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] if the images have not the channels that the shift asks for, or if a label has no
    /// class or no image is left.
    pub fn shifted(self, shift: &Shift) -> Result<Self, DataError> {
        let name = format!("{}+{shift}", self.name());
        let inconsistent = |problem| DataError::Inconsistent { dataset: name.clone(), problem };
        match shift {
            Shift::Corruption { corruption, severity } => {
                corruption.check(self.shape()).map_err(inconsistent)?;
                let (shape, scale, split) = (self.shape(), self.scale(), self.split());
                Ok(self.with_changed_pixels(name, |pixels| {
                    corruption.apply(*severity, pixels, shape, scale, split);
                }))
            }
            &Shift::Resize(resize) => {
                let ([channels, ..], side) = (self.shape(), resize.side());
                let pixels = resized(self.pixels(), self.shape(), self.scale(), resize);
                Ok(self.with_images(name, [channels, side, side], pixels))
            }
            &Shift::Channels(count) => {
                let [found, height, width] = self.shape();
                if found == count {
                    return Ok(self.renamed(name));
                }
                let pixels = with_channels(self.pixels(), self.shape(), count)
                    .ok_or_else(|| inconsistent(format!("images of {found} channels")))?;
                Ok(self.with_images(name, [count, height, width], pixels))
            }
            Shift::Classes(labels) => {
                let classes = self.class_count();
                if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
                    return Err(inconsistent(format!("label {label} of {classes} classes")));
                }
                let kept = self.with_labels(name.clone(), |label| labels.contains(&label));
                match kept.is_empty() {
                    true => Err(inconsistent("no image has one of these labels".to_owned())),
                    false => Ok(kept),
                }
            }
        }
    }
}
