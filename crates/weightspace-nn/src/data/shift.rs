//! Shifted data sets: `NAME+SHIFT`, the images of a data set changed or left out in one fixed way.

use std::fmt;
use std::str::FromStr;

use super::corruption::{CORRUPTIONS, Corruption, DEFAULT_SEVERITY, SEVERITIES};
use super::resize::resized;
use super::{DATASETS, DataError, Dataset};

/// How the images of a data set differ from those that are published.
///
/// The text form is `CORRUPTION[:SEVERITY]`, for instance `contrast:5`, with severity 3 if none is
/// given; or `classes:N,...`, for instance `classes:0,3,5`; or `size:N`, for instance `size:28`.
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
    /// Images are scaled to so many pixels a side.
    Size(usize),
}

/// Sizes beyond this are taken for a mistake.
const LARGEST_SIZE: usize = 1024;

/// The text describes no shift; the message lists those that there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShiftError {
    /// No shift has this name.
    #[error("unknown shift '{0}'; known are {known}, classes:N,..., size:N", known = known())]
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
    /// What follows `size:` is no size.
    #[error("size '{0}', expected a number from 1 to {LARGEST_SIZE}")]
    Size(String),
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
        if name == "classes" {
            let list = argument.unwrap_or_default();
            return parse_classes(list)
                .map(Shift::Classes)
                .ok_or_else(|| ShiftError::Classes(list.to_owned()));
        }
        if name == "size" {
            let text = argument.unwrap_or_default();
            return match text.parse() {
                Ok(size @ 1..=LARGEST_SIZE) => Ok(Shift::Size(size)),
                _ => Err(ShiftError::Size(text.to_owned())),
            };
        }
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
            Shift::Size(size) => write!(f, "size:{size}"),
        }
    }
}

/// Parts of the name of a data set: what it is without a shift, and the shift if there is one.
///
/// The path of `folder:PATH` may contain a `+` itself: there, only what reads as a shift is one.
pub(super) fn split_name(name: &str) -> Result<(&str, Option<Shift>), DataError> {
    let is_path = DATASETS
        .iter()
        .filter_map(|info| info.name.strip_suffix("PATH"))
        .any(|prefix| name.starts_with(prefix));
    let parts = if is_path { name.rsplit_once('+') } else { name.split_once('+') };
    let Some((base, text)) = parts else { return Ok((name, None)) };
    match text.parse() {
        Ok(shift) => Ok((base, Some(shift))),
        Err(ShiftError::UnknownName(_)) if is_path => Ok((name, None)),
        Err(source) => Err(DataError::Shift { name: name.to_owned(), source }),
    }
}

impl Dataset {
    /// The same data set shifted, and named after that: `+SHIFT` follows its name. Labels and the
    /// number of classes stay. Corruptions change all images on all threads, each as a function of
    /// the published split, its index and its pixels alone ([`Corruption`]).
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] if the images have no colours to take away, or if a label has no
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
            &Shift::Size(size) => {
                let [channels, ..] = self.shape();
                let pixels = resized(self.pixels(), self.shape(), self.scale(), size);
                Ok(self.with_images(name, [channels, size, size], pixels))
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
