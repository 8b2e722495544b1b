//! Readers and writers of checkpoints: one file per format, one table.
//!
//! [`Checkpoint::open`] recognises a file by its content, whatever its extension, and reads its
//! header only; tensors are read one by one when they are asked for. Every reader is safe against
//! hostile files: nothing is executed, no length in a file is believed before it is checked, and
//! what opening costs is bounded.

pub(crate) mod bytes;
mod contents;
mod error;
mod hugging_face;
mod names;
mod numpy;
mod pickle;
mod pytorch;
mod safetensors;
mod strided;
mod zip;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use error::CheckpointError;
pub use safetensors::{SafetensorsWriter, write_safetensors};

use crate::state_dict::StateDict;
use crate::tensor::{DType, Tensor, TensorInfo};
use bytes::Bytes;
use contents::{Contents, MAX_TENSORS, Source};
use error::{Reason, quoted, reason};

/// A format of checkpoint files.
#[derive(Debug)]
pub struct Format {
    /// Short name, for instance `safetensors`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub description: &'static str,
    matches: fn(&[u8]) -> bool,
    /// Opens a file; of one that holds several networks the part of that name, if it is a part that the format knows.
    open: fn(Bytes, Option<&str>) -> Result<Contents, Reason>,
}

/// Every format, in the order in which they are tried.
pub static FORMATS: [Format; 5] = [
    Format {
        name: "safetensors",
        description: "a safetensors file, or the shards of a Hugging Face folder",
        matches: safetensors::matches,
        open: safetensors::open,
    },
    Format {
        name: "pytorch",
        description: "a zip archive of torch.save",
        matches: pytorch::archive::matches,
        open: pytorch::archive::open,
    },
    Format {
        name: "pytorch-legacy",
        description: "a file of torch.save before PyTorch 1.6",
        matches: pytorch::legacy::matches,
        open: pytorch::legacy::open,
    },
    Format {
        name: "npz",
        description: "an archive of numpy.savez, one array per tensor",
        matches: numpy::npz::matches,
        open: numpy::npz::open,
    },
    Format {
        name: "npy",
        description: "an array of numpy.save, as a tensor named \"tensor\"",
        matches: numpy::npy::matches,
        open: numpy::npy::open,
    },
];

/// An opened checkpoint: names, types and shapes are known, tensors are read one by one on demand,
/// from as many threads as one likes.
pub struct Checkpoint {
    path: PathBuf,
    format: &'static str,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    /// File and index therein of each tensor.
    places: Vec<(usize, usize)>,
    files: Vec<(PathBuf, Box<dyn Source>)>,
    metadata: BTreeMap<String, String>,
    left_out: Vec<String>,
    stripped_prefix: String,
}

impl Checkpoint {
    /// Opens a checkpoint of any known format, by its content; also a Hugging Face model folder,
    /// or its index of shards.
    ///
    /// # Errors
    /// If a file cannot be read (`Io`), or is not a checkpoint, or not a whole or honest one
    /// (`Malformed`).
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::open_part(path, None)
    }

    /// Opens one of the networks in a file: what stands under the key `part` of a PyTorch training checkpoint, for
    /// instance `state_dict_ema`, or else the module `part`, whose tensors then have names without it.
    ///
    /// # Errors
    /// As those of [`open`](Self::open), or if there is no such part (`Malformed`).
    pub fn open_part(path: &Path, part: Option<&str>) -> Result<Self, CheckpointError> {
        let model_file = match path.is_dir() {
            true => hugging_face::model_file(path).map_err(|reason| reason.at(path))?,
            false => path.to_owned(),
        };
        let bytes = Bytes::open(&model_file)?;
        let mut builder = if hugging_face::is_index(&bytes) {
            Builder {
                wanted: part.map(str::to_owned),
                ..Builder::from_shards(&model_file, &bytes)?
            }
        } else {
            Builder::from_file(model_file, bytes, part)?
        };
        builder.path = path.to_owned();
        builder.build()
    }

    /// Opens a checkpoint that is in memory; `name` stands for its path.
    ///
    /// # Errors
    /// As those of [`open`](Self::open); an index of shards has no folder here and is refused.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, CheckpointError> {
        Builder::from_file(PathBuf::from(name), Bytes::Owned(bytes), None)?.build()
    }

    /// Names, types and shapes in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Where the checkpoint was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold the tensors: one, or the shards of a model folder.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Name of the file format, one of [`FORMATS`].
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// What the file says about itself: the metadata of safetensors, or the numbers and texts
    /// beside the state dict of a PyTorch training checkpoint.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What has tensors, too, but is no part of the weights: keys beside the state dict of a PyTorch training checkpoint, as of
    /// its optimiser, and tensors of shards that the index does not name.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// What was taken away from the front of every name, for instance `module.` of
    /// `DataParallel`; mostly nothing.
    pub fn stripped_prefix(&self) -> &str {
        &self.stripped_prefix
    }

    /// The modules with which all names begin, each with its dot: `model.` of many training frameworks, mostly none.
    pub fn shared_modules(&self) -> &str {
        names::shared_modules(&self.tensors)
    }

    /// Takes `prefix` away from the front of every name, as if the network had been saved without what holds it.
    ///
    /// # Panics
    /// If a name does not begin with it.
    pub fn strip_prefix(&mut self, prefix: &str) {
        assert!(self.tensors.iter().all(|tensor| tensor.name.starts_with(prefix)), "{prefix}");
        for tensor in &mut self.tensors {
            tensor.name.drain(..prefix.len());
        }
        let names = self.tensors.iter().enumerate();
        self.by_name = names.map(|(index, info)| (info.name.clone(), index)).collect();
        self.stripped_prefix.push_str(prefix);
    }

    /// Reads tensor `index` of [`tensors`](Self::tensors).
    ///
    /// # Errors
    /// If the data of the tensor is damaged (`Malformed`).
    ///
    /// # Panics
    /// If there is no tensor of that index.
    pub fn read(&self, index: usize) -> Result<Tensor, CheckpointError> {
        let (file, place) = self.places[index];
        let (path, source) = &self.files[file];
        let info = &self.tensors[index];
        let checked = source.read(place).and_then(|bytes| {
            if bytes.len() != info.byte_count() {
                return Err(reason!("{} bytes instead of {}", bytes.len(), info.byte_count()));
            }
            if info.dtype == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
                return Err(reason!("a truth value is neither 0 nor 1"));
            }
            Ok(bytes)
        });
        let bytes = checked.map_err(|Reason(reason)| {
            reason!("tensor {}: {reason}", quoted(&info.name)).at(path)
        })?;
        Ok(Tensor::from_bytes(info.dtype, info.shape.clone(), bytes))
    }

    /// The little-endian bytes of the elements at positions `elements` of tensor `index`, in row-major order. Of a
    /// safetensors file they are those of the map, and nothing else is read.
    ///
    /// # Errors
    /// If the data of the tensor is damaged (`Malformed`).
    ///
    /// # Panics
    /// If there is no tensor of that index, or if it has fewer elements.
    pub fn element_bytes(
        &self,
        index: usize,
        elements: Range<usize>,
    ) -> Result<Cow<'_, [u8]>, CheckpointError> {
        let (file, place) = self.places[index];
        let (path, source) = &self.files[file];
        let info = &self.tensors[index];
        assert!(elements.end <= info.element_count(), "elements {elements:?} of {info:?}");
        let size = info.dtype.size();
        let bytes = source.read_range(place, elements.start * size..elements.end * size);
        bytes.map_err(|Reason(reason)| reason!("tensor {}: {reason}", quoted(&info.name)).at(path))
    }

    /// As [`element_bytes`](Self::element_bytes), as a vector.
    ///
    /// # Errors
    /// If the data of the tensor is damaged (`Malformed`).
    ///
    /// # Panics
    /// If there is no tensor of that index, or if it has fewer elements.
    pub fn read_elements(
        &self,
        index: usize,
        elements: Range<usize>,
    ) -> Result<Tensor, CheckpointError> {
        let shape = vec![elements.len()];
        let bytes = self.element_bytes(index, elements)?.into_owned();
        Ok(Tensor::from_bytes(self.tensors[index].dtype, shape, bytes))
    }

    /// Reads the tensor of that name.
    ///
    /// # Errors
    /// If there is none (`NoSuchTensor`), or if its data is damaged (`Malformed`).
    pub fn read_named(&self, name: &str) -> Result<Tensor, CheckpointError> {
        let index = self.by_name.get(name).ok_or_else(|| CheckpointError::NoSuchTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        self.read(*index)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// If the data of a tensor is damaged (`Malformed`).
    pub fn state_dict(&self) -> Result<StateDict, CheckpointError> {
        self.tensors
            .iter()
            .enumerate()
            .map(|(i, info)| Ok((info.name.clone(), self.read(i)?)))
            .collect()
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("format", &self.format)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

/// A checkpoint whose names are as they stand in its files.
struct Builder {
    path: PathBuf,
    format: &'static str,
    tensors: Vec<TensorInfo>,
    places: Vec<(usize, usize)>,
    files: Vec<(PathBuf, Box<dyn Source>)>,
    metadata: BTreeMap<String, String>,
    left_out: Vec<String>,
    /// A module of which alone the tensors are wanted.
    wanted: Option<String>,
}

impl Builder {
    fn from_file(path: PathBuf, bytes: Bytes, part: Option<&str>) -> Result<Self, CheckpointError> {
        let opened =
            recognise(&bytes).and_then(|format| Ok((format.name, (format.open)(bytes, part)?)));
        let (format, contents) = opened.map_err(|reason| reason.at(&path))?;
        let Contents { tensors, metadata, left_out, is_part, source } = contents;
        let wanted = part.filter(|_| !is_part).map(str::to_owned);
        let places = (0..tensors.len()).map(|i| (0, i)).collect();
        let files = vec![(path.clone(), source)];
        Ok(Builder { path, format, tensors, places, files, metadata, left_out, wanted })
    }

    /// The tensors of an index, in the order of the names of the shards and their own order
    /// within each.
    fn from_shards(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let index = hugging_face::Index::parse(bytes).map_err(|reason| reason.at(path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut whole = Builder {
            path: path.to_owned(),
            format: "safetensors",
            tensors: Vec::new(),
            places: Vec::new(),
            files: Vec::new(),
            metadata: BTreeMap::new(),
            left_out: Vec::new(),
            wanted: None,
        };
        for (file_name, mut names) in index.shards {
            let shard_path = folder.join(file_name);
            let shard = Builder::from_file(shard_path.clone(), Bytes::open(&shard_path)?, None)?;
            whole.format = shard.format;
            for (info, (_, place)) in shard.tensors.into_iter().zip(shard.places) {
                if names.remove(&info.name) {
                    whole.places.push((whole.files.len(), place));
                    whole.tensors.push(info);
                } else {
                    whole.left_out.push(info.name);
                }
            }
            if let Some(missing) = names.first() {
                let reason = reason!("no tensor {}, which the index promises", quoted(missing));
                return Err(reason.at(&shard_path));
            }
            whole.files.extend(shard.files);
            whole.metadata.extend(shard.metadata);
        }
        Ok(whole)
    }

    /// Leaves out all tensors but those of a module.
    fn keep_module(&mut self, module: &str) -> Result<(), CheckpointError> {
        let known = names::first_parts(&self.tensors);
        let within = |info: &TensorInfo| {
            info.name
                .strip_prefix(module)
                .and_then(|rest| rest.strip_prefix('.'))
                .map(str::to_owned)
        };
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        let kept = tensors.zip(std::mem::take(&mut self.places)).filter_map(|(info, place)| {
            let name = within(&info)?;
            Some((TensorInfo { name, ..info }, place))
        });
        (self.tensors, self.places) = kept.unzip();
        let own = module.split('.').next().unwrap_or(module);
        if self.tensors.is_empty() {
            let parts: Vec<_> =
                known.iter().chain(&self.left_out).map(|part| quoted(part)).collect();
            let parts = parts.join(", ");
            return Err(reason!("no part {}; there are {parts}", quoted(module)).at(&self.path));
        }
        self.left_out.extend(known.into_iter().filter(|part| part != own));
        Ok(())
    }

    /// Normalises the names and checks that they are distinct.
    fn build(mut self) -> Result<Checkpoint, CheckpointError> {
        if self.tensors.len() > MAX_TENSORS {
            return Err(reason!("more than {MAX_TENSORS} tensors").at(&self.path));
        }
        let mut stripped_prefix = names::strip_wrappers(&mut self.tensors);
        if let Some(module) = self.wanted.take() {
            self.keep_module(&module)?;
            stripped_prefix.push_str(&format!("{module}."));
        }
        let mut by_name = HashMap::with_capacity(self.tensors.len());
        for (index, info) in self.tensors.iter().enumerate() {
            if by_name.insert(info.name.clone(), index).is_some() {
                return Err(reason!("two tensors are named {}", quoted(&info.name)).at(&self.path));
            }
        }
        let Builder { path, format, tensors, places, files, metadata, left_out, .. } = self;
        Ok(Checkpoint {
            path,
            format,
            tensors,
            by_name,
            places,
            files,
            metadata,
            left_out,
            stripped_prefix,
        })
    }
}

fn recognise(bytes: &[u8]) -> Result<&'static Format, Reason> {
    if bytes.is_empty() {
        return Err(reason!("the file is empty"));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(reason!("a Git LFS pointer, not the file itself; run `git lfs pull`"));
    }
    FORMATS.iter().find(|format| (format.matches)(bytes)).ok_or_else(|| {
        let names: Vec<_> = FORMATS.iter().map(|format| format.name).collect();
        reason!("not a checkpoint of a known format ({})", names.join(", "))
    })
}
