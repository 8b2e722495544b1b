//! Labelled images for training and evaluation, resident in memory.
//!
//! [`open`] finds a data set of the table [`DATASETS`] by name and reads one [`Split`] of it into a
//! [`Dataset`]; a [`Preprocessing`] turns its pixels into normalised `f32` images; and
//! [`split_train_validation`] holds out a part by seed.
//!
//! ```
//! use weightspace_nn::data::{self, Split};
//!
//! let digits = data::open("digits", None, Split::Test)?;
//! let mut batch = vec![0.0; 2 * 64];
//! digits.fill(&[0, 7], &"unit".parse()?, &mut batch)?;
//! # Ok::<(), data::DataError>(())
//! ```
//!
//! To add a data set, write a file with its [`DatasetInfo`] and name that in [`DATASETS`]; a
//! [`Corruption`] likewise in [`CORRUPTIONS`].

mod augment;
mod batches;
mod channels;
mod cifar;
mod class_names;
mod corruption;
mod dataset;
mod digits;
mod error;
mod files;
mod folder;
mod idx;
mod info;
mod matlab;
mod mixture;
mod mnist;
mod preprocessing;
mod resize;
mod shift;
mod split;
mod stl10;
mod svhn;
mod usps;

use std::path::Path;

pub use augment::{Augmentation, AugmentationError, View};
pub use batches::Batches;
pub use channels::channels_advice;
pub use corruption::{CORRUPTIONS, Corruption};
pub use dataset::{Dataset, Image, Pixels};
pub use error::DataError;
pub use info::{DatasetInfo, Origin};
pub use mixture::Mixtures;
pub use preprocessing::{PRESETS, Preprocessing, PreprocessingError, Preset};
pub use resize::Resize;
pub use shift::{Shift, ShiftError};
pub use split::split_train_validation;

use info::Request;

/// Part of a data set as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Images to train on.
    Train,
    /// Images to evaluate on.
    Test,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
        })
    }
}

/// Every data set that [`open`] knows, in the order in which they are listed.
pub static DATASETS: [DatasetInfo; 9] = [
    digits::DIGITS,
    mnist::MNIST,
    mnist::FASHION_MNIST,
    usps::USPS,
    cifar::CIFAR10,
    cifar::CIFAR100,
    stl10::STL10,
    svhn::SVHN,
    folder::FOLDER,
];

/// The table's entry for `name`, which for a folder of images is `folder:PATH`. A shift does not
/// matter, but must exist.
///
/// # Errors
/// [`DataError::UnknownName`] and [`DataError::Shift`] name all that are known.
pub fn info(name: &str) -> Result<&'static DatasetInfo, DataError> {
    let (name, _) = shift::split_name(name)?;
    let known = |info: &&DatasetInfo| match info.name.strip_suffix("PATH") {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|path| !path.is_empty()),
        None => info.name == name,
    };
    DATASETS.iter().find(known).ok_or_else(|| DataError::UnknownName {
        name: name.to_owned(),
        known: DATASETS.iter().map(|info| info.name).collect::<Vec<_>>().join(", "),
    })
}

/// Name of a data set without its shift, which is `name` itself if it has none.
///
/// # Errors
/// [`DataError::Shift`] if it has one that does not exist.
pub fn base_name(name: &str) -> Result<&str, DataError> {
    shift::split_name(name).map(|(base, _)| base)
}

/// Reads one split of the data set `name` into memory; of `NAME+SHIFT`, [shifted](Shift).
///
/// `data_dir` is the directory that holds the folders of all data sets; `digits` is part of the
/// program and needs none, and the path in `folder:PATH` does not refer to it. Images of a folder that have different
/// sizes get one if a [`Shift::Resize`] comes before all shifts that change pixels.
///
/// A file may hold fewer images than the published data set, for experiments on a part, but no
/// broken ones: sizes, element types, pixel values and labels are checked.
///
/// # Errors
/// Unknown names, shifts that do not fit the images, missing files (with the archive to get and where to put it) and malformed files.
pub fn open(name: &str, data_dir: Option<&Path>, split: Split) -> Result<Dataset, DataError> {
    let (base, mut shifts) = shift::split_name(name)?;
    let info = info(base)?;
    let resize = if info.shape.is_none() { take_resize(&mut shifts) } else { None };
    let dataset = (info.load)(&Request { name: base, info, data_dir, split, resize })?;
    shifts.iter().try_fold(dataset, |dataset, shift| dataset.shifted(shift))
}

/// The size in which images are to be read where the files decide about sizes: that of a shift before which none changes
/// pixels, and which is then done with.
fn take_resize(shifts: &mut Vec<Shift>) -> Option<Resize> {
    let keeps_pixels = |shift: &Shift| matches!(shift, Shift::Classes(_) | Shift::Channels(_));
    let first = shifts.iter().position(|shift| !keeps_pixels(shift))?;
    let &Shift::Resize(resize) = &shifts[first] else { return None };
    shifts.remove(first);
    Some(resize)
}
