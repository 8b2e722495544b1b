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
//! To add a data set, write a file with its [`DatasetInfo`] and name that in [`DATASETS`].

mod augment;
mod batches;
mod cifar;
mod class_names;
mod dataset;
mod digits;
mod error;
mod files;
mod folder;
mod idx;
mod info;
mod matlab;
mod mnist;
mod preprocessing;
mod split;
mod stl10;
mod svhn;
mod usps;

use std::path::Path;

pub use augment::{Augmentation, AugmentationError};
pub use batches::Batches;
pub use dataset::{Dataset, Image, Pixels};
pub use error::DataError;
pub use info::{DatasetInfo, Origin};
pub use preprocessing::{PRESETS, Preprocessing, PreprocessingError, Preset};
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

/// The table's entry for `name`, which for a folder of images is `folder:PATH`.
///
/// # Errors
/// [`DataError::UnknownName`] names all that are known.
pub fn info(name: &str) -> Result<&'static DatasetInfo, DataError> {
    let known = |info: &&DatasetInfo| match info.name.strip_suffix("PATH") {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|path| !path.is_empty()),
        None => info.name == name,
    };
    DATASETS.iter().find(known).ok_or_else(|| DataError::UnknownName {
        name: name.to_owned(),
        known: DATASETS.iter().map(|info| info.name).collect::<Vec<_>>().join(", "),
    })
}

/// Reads one split of the data set `name` into memory.
///
/// `data_dir` is the directory that holds the folders of all data sets; `digits` is part of the
/// program and needs none, and the path in `folder:PATH` does not refer to it.
///
/// A file may hold fewer images than the published data set, for experiments on a part, but no
/// broken ones: sizes, element types, pixel values and labels are checked.
///
/// # Errors
/// Unknown names, missing files (with the archive to get and where to put it) and malformed files.
pub fn open(name: &str, data_dir: Option<&Path>, split: Split) -> Result<Dataset, DataError> {
    let info = info(name)?;
    (info.load)(&Request { name, info, data_dir, split })
}
