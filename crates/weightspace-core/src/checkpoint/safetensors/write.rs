//! Writing safetensors.

use std::collections::{BTreeMap, HashSet};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::header::MAX_HEADER;
use super::{DTYPE_NAMES, METADATA_KEY};
use crate::atomic_file::AtomicFile;
use crate::checkpoint::contents::Listing;
use crate::checkpoint::error::{CheckpointError, Reason, quoted};
use crate::state_dict::StateDict;
use crate::tensor::{DType, Tensor, TensorInfo};

/// Writes a state dict as a safetensors file, whole or not at all.
///
/// The metadata `format` is set to `pt`, which loaders of Hugging Face demand, unless `metadata`
/// has another. The header keeps the order of the state dict.
///
/// # Errors
/// As those of [`SafetensorsWriter`]; a file that was there before is then unchanged.
pub fn write_safetensors(
    path: &Path,
    state_dict: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let mut writer = SafetensorsWriter::create(path, &state_dict.infos(), metadata)?;
    for (_, tensor) in state_dict.iter() {
        writer.write(tensor)?;
    }
    writer.finish()
}

/// Writes a safetensors file tensor by tensor, so that never more than one need be in memory.
///
/// The file appears at its path when [`finish`](Self::finish) succeeds; a writer that is dropped
/// before leaves nothing behind.
#[derive(Debug)]
pub struct SafetensorsWriter {
    file: AtomicFile,
    tensors: Vec<TensorInfo>,
    /// Where each tensor goes, from the start of the file.
    offsets: Vec<u64>,
    written: usize,
    /// Bytes of the next tensor that are written already.
    partial: usize,
}

impl SafetensorsWriter {
    /// Starts a file for exactly these tensors, with `metadata` as in [`write_safetensors`].
    ///
    /// # Errors
    /// If the file cannot be created (`Io`), or if a name is there twice or is `__metadata__`, or
    /// if there are more or larger tensors than a reader accepts (`Unwritable`).
    pub fn create(
        path: &Path,
        tensors: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        check_tensors(tensors).map_err(|reason| unwritable(path, reason))?;
        let mut metadata = metadata.clone();
        metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
        let relative = data_offsets(tensors);
        let header = HeaderMap { metadata: &metadata, tensors, offsets: &relative };
        let mut header =
            serde_json::to_vec(&header).map_err(|error| unwritable(path, error.to_string()))?;
        // The data starts at a multiple of 8, as the format demands.
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() > MAX_HEADER {
            let reason = format!("a header of {} bytes, more than {MAX_HEADER}", header.len());
            return Err(unwritable(path, reason));
        }
        let io = |error| CheckpointError::io(path, error);
        let mut file = AtomicFile::create(path).map_err(io)?;
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        file.write_all(&header).map_err(io)?;
        let start = 8 + header.len() as u64;
        let offsets = relative.iter().map(|offset| start + offset).collect();
        Ok(SafetensorsWriter { file, tensors: tensors.to_vec(), offsets, written: 0, partial: 0 })
    }

    /// Writes the next of the tensors that were announced.
    ///
    /// # Errors
    /// If its type or shape is not as announced or all are written already (`Unwritable`), or if
    /// the system fails (`Io`).
    pub fn write(&mut self, tensor: &Tensor) -> Result<(), CheckpointError> {
        let path = self.file.path();
        let Some(info) = self.tensors.get(self.written) else {
            return Err(unwritable(path, format!("all {} tensors are written", self.written)));
        };
        if (info.dtype, info.shape.as_slice()) != (tensor.dtype(), tensor.shape()) {
            let reason = format!(
                "tensor {} was announced as {} {:?} but is {} {:?}",
                quoted(&info.name),
                info.dtype,
                info.shape,
                tensor.dtype(),
                tensor.shape()
            );
            return Err(unwritable(path, reason));
        }
        self.write_part(tensor.bytes())
    }

    /// Writes more of the next of the tensors that were announced: its row-major little-endian bytes
    /// in pieces of any length, so that a tensor need never be in memory as a whole.
    ///
    /// # Errors
    /// If there are more bytes than the tensor has, or if all are written already (`Unwritable`), or
    /// if the system fails (`Io`).
    pub fn write_part(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let Some(info) = self.tensors.get(self.written) else {
            let reason = format!("all {} tensors are written", self.written);
            return Err(unwritable(self.file.path(), reason));
        };
        let (end, expected) = (self.partial + bytes.len(), info.byte_count());
        if end > expected {
            let name = quoted(&info.name);
            let reason = format!("tensor {name} was announced with {expected} bytes but has {end}");
            return Err(unwritable(self.file.path(), reason));
        }
        let seek = match self.partial {
            0 => self.file.seek(SeekFrom::Start(self.offsets[self.written])).map(drop),
            _ => Ok(()),
        };
        let written = seek.and_then(|()| self.file.write_all(bytes));
        written.map_err(|error| CheckpointError::io(self.file.path(), error))?;
        self.partial = end;
        if end == expected {
            (self.written, self.partial) = (self.written + 1, 0);
        }
        Ok(())
    }

    /// Completes the file and puts it in its place.
    ///
    /// # Errors
    /// If tensors are missing (`Unwritable`), or if the system fails (`Io`).
    pub fn finish(self) -> Result<(), CheckpointError> {
        let path = self.file.path().to_owned();
        if let Some(missing) = self.tensors.get(self.written) {
            let reason = format!("tensor {} was never given", quoted(&missing.name));
            return Err(unwritable(&path, reason));
        }
        self.file.commit().map_err(|error| CheckpointError::io(&path, error))
    }
}

fn unwritable(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Unwritable { path: path.to_owned(), reason }
}

fn check_tensors(tensors: &[TensorInfo]) -> Result<(), String> {
    let mut listing = Listing::default();
    let mut names = HashSet::new();
    for TensorInfo { name, dtype, shape } in tensors {
        if name == METADATA_KEY || !names.insert(name) {
            return Err(format!("the name {} is taken", quoted(name)));
        }
        listing.push(name, *dtype, shape.clone()).map_err(|Reason(reason)| reason)?;
    }
    Ok(())
}

/// Offsets of the data of each tensor. Larger elements come first, so that every tensor is
/// aligned to its elements; loaders map files and rely on it.
fn data_offsets(tensors: &[TensorInfo]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(tensors[i].dtype.size()));
    let mut offsets = vec![0; tensors.len()];
    let mut end = 0;
    for i in order {
        offsets[i] = end;
        end += tensors[i].byte_count() as u64;
    }
    offsets
}

struct HeaderMap<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: &'a [TensorInfo],
    offsets: &'a [u64],
}

impl Serialize for HeaderMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Entry<'a> {
            dtype: &'a str,
            shape: &'a [usize],
            data_offsets: [u64; 2],
        }

        let mut map = serializer.serialize_map(Some(self.tensors.len() + 1))?;
        map.serialize_entry(METADATA_KEY, self.metadata)?;
        for (info, &start) in self.tensors.iter().zip(self.offsets) {
            let entry = Entry {
                dtype: dtype_name(info.dtype),
                shape: &info.shape,
                data_offsets: [start, start + info.byte_count() as u64],
            };
            map.serialize_entry(&info.name, &entry)?;
        }
        map.end()
    }
}

fn dtype_name(dtype: DType) -> &'static str {
    let found = DTYPE_NAMES.iter().find(|(_, known)| *known == dtype);
    found.map(|(name, _)| *name).expect("the table has every element type")
}
