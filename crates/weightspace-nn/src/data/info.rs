//! What the table of data sets says about each of them.

use std::path::{Path, PathBuf};

use super::{DataError, Dataset, Resize, Split};

/// One data set: what it is, where it comes from and which files it needs.
#[derive(Clone, Copy, Debug)]
pub struct DatasetInfo {
    /// Name on the command line; `folder:PATH` stands for every name that begins with `folder:`.
    pub name: &'static str,
    /// Name in prose.
    pub title: &'static str,
    /// Authors and licence or terms of use as their source states them.
    pub source: &'static str,
    /// Channels, height and width of every image; `None` if the files decide.
    pub shape: Option<[usize; 3]>,
    /// Names of the classes in the order of the labels; empty if the files decide.
    pub classes: &'static [&'static str],
    /// Published numbers of training and test images, an upper bound when reading; zero if the
    /// files decide.
    pub images: [usize; 2],
    /// Preprocessing that suits a network trained from scratch, as [`super::Preprocessing`] parses
    /// it.
    pub preprocessing: &'static str,
    /// Folders of the data directory in which the files may lie; the first is the one to recommend.
    pub folders: &'static [&'static str],
    /// Files of the training split within such a folder. A name ending in `.gz` also stands for the
    /// uncompressed file without that ending.
    pub train_files: &'static [&'static str],
    /// Files of the test split, in the same manner.
    pub test_files: &'static [&'static str],
    /// Where the files are to be had.
    pub origin: Origin,
    pub(super) load: fn(&Request<'_>) -> Result<Dataset, DataError>,
}

/// Where to get the files of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// They are part of the program, or the user's own.
    None,
    /// An archive that unpacks into the data directory.
    Archive {
        /// File name of the archive.
        name: &'static str,
        /// Page that offers it.
        url: &'static str,
    },
    /// Separate files to put into the data set's folder.
    Files {
        /// Page that offers them.
        url: &'static str,
    },
    /// Separate files to make from what is published and put into the data set's folder.
    Converted {
        /// What the files must hold.
        format: &'static str,
        /// Page that offers the published form.
        url: &'static str,
    },
}

/// A call of [`super::open`], as the loaders see it.
pub(super) struct Request<'a> {
    pub name: &'a str,
    pub info: &'static DatasetInfo,
    pub data_dir: Option<&'a Path>,
    pub split: Split,
    /// The size of all images, where they may have several.
    pub resize: Option<Resize>,
}

impl Request<'_> {
    /// Published number of images of the split that is asked for.
    pub fn published_images(&self) -> usize {
        self.info.images[self.split as usize]
    }

    /// The files of the split that is asked for, in the table's order; all exist.
    pub fn files(&self) -> Result<Vec<PathBuf>, DataError> {
        let names = match self.split {
            Split::Train => self.info.train_files,
            Split::Test => self.info.test_files,
        };
        names.iter().map(|name| self.find(name)).collect()
    }

    fn find(&self, name: &str) -> Result<PathBuf, DataError> {
        let Some(data_dir) = self.data_dir else {
            return Err(DataError::NoDirectory {
                dataset: self.info.name,
                advice: self.advice(name, Path::new("a directory")),
            });
        };
        for folder in self.info.folders {
            let file = data_dir.join(folder).join(name);
            let unpacked = name.strip_suffix(".gz").map(|stem| file.with_file_name(stem));
            if let Some(found) = unpacked.into_iter().chain([file]).find(|path| path.is_file()) {
                return Ok(found);
            }
        }
        Err(DataError::Missing {
            dataset: self.info.name,
            path: data_dir.join(self.info.folders[0]).join(name),
            advice: self.advice(name, data_dir),
        })
    }

    fn advice(&self, file: &str, data_dir: &Path) -> String {
        let directory = data_dir.display();
        match self.info.origin {
            Origin::None => String::new(),
            Origin::Archive { name, url } => format!("unpack {name} ({url}) into {directory}"),
            Origin::Files { url } => {
                format!("put {file} ({url}) into {directory}/{}", self.info.folders[0])
            }
            Origin::Converted { format, url } => {
                let folder = self.info.folders[0];
                format!("put {file} ({format}, made from {url}) into {directory}/{folder}")
            }
        }
    }
}
