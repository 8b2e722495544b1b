//! The header of a safetensors file.
//!
//! Parsed with serde_json straight into what is needed, not with the `safetensors` crate: that
//! one accepts headers of 100 MB and buffers them as generic values of many times their size,
//! silently keeps the last of two tensors of one name, and loses the order of the header. A test
//! checks that every file we accept or write is accepted by the crate as well.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::{DTYPE_NAMES, METADATA_KEY};
use crate::checkpoint::contents::{Listing, MAX_RANK, MAX_TENSORS, byte_count};
use crate::checkpoint::error::{Reason, quoted, reason};
use crate::tensor::{DType, TensorInfo};

/// Most bytes of a header, about 120 for each of [`MAX_TENSORS`].
pub(super) const MAX_HEADER: usize = 1 << 24;

/// A header that was found consistent with the file.
pub(super) struct Header {
    /// The tensors in the order of the header.
    pub(super) tensors: Vec<TensorInfo>,
    /// Where each lies in the file.
    pub(super) ranges: Vec<Range<usize>>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Parses the header of a whole file.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, Reason> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(reason!("{} bytes are no safetensors file", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER as u64 {
        return Err(reason!("a safetensors header of {length} bytes, more than {MAX_HEADER}"));
    }
    let Some((json, data)) = rest.split_at_checked(length as usize) else {
        return Err(reason!(
            "the safetensors header should have {length} bytes, {} follow",
            rest.len()
        ));
    };
    let raw: RawHeader = serde_json::from_slice(json)
        .map_err(|error| reason!("malformed safetensors header: {}", escaped(&error)))?;
    let data_start = bytes.len() - data.len();
    check_coverage(&raw.tensors, data.len())?;

    let mut listing = Listing::default();
    let mut ranges = Vec::with_capacity(raw.tensors.len());
    for RawTensor { name, entry } in raw.tensors {
        let [start, end] = entry.data_offsets;
        let dtype = entry.dtype.0.map_err(|dtype| {
            let (name, dtype) = (quoted(&name), quoted(&dtype));
            reason!("tensor {name} is of type {dtype}, which is not supported")
        })?;
        let expected = byte_count(dtype, &entry.shape.0);
        if expected != Some(end - start) {
            return Err(reason!(
                "tensor {} of shape {:?} and type {} has {} bytes of data",
                quoted(&name),
                entry.shape.0,
                dtype,
                end - start
            ));
        }
        listing.push(&name, dtype, entry.shape.0)?;
        ranges.push(data_start + start..data_start + end);
    }
    Ok(Header { tensors: listing.finish(bytes.len())?, ranges, metadata: raw.metadata })
}

/// Every byte of the data belongs to exactly one tensor.
fn check_coverage(tensors: &[RawTensor], data: usize) -> Result<(), Reason> {
    let mut by_offset: Vec<&RawTensor> = tensors.iter().collect();
    by_offset.sort_by_key(|tensor| tensor.entry.data_offsets);
    let mut covered = 0;
    for RawTensor { name, entry } in by_offset {
        let [start, end] = entry.data_offsets;
        if start != covered || end < start || end > data {
            return Err(reason!(
                "tensor {} lies at {start} to {end}, but {covered} to at most {data} is free",
                quoted(name)
            ));
        }
        covered = end;
    }
    if covered != data {
        return Err(reason!("the tensors cover {covered} of {data} bytes of data"));
    }
    Ok(())
}

/// The message of serde_json, which may quote the file.
fn escaped(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let shown: String = text.chars().take(200).collect();
    shown.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

#[derive(Default)]
struct RawHeader {
    tensors: Vec<RawTensor>,
    metadata: BTreeMap<String, String>,
}

struct RawTensor {
    name: String,
    entry: RawEntry,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: RawDType,
    shape: RawShape,
    data_offsets: [usize; 2],
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(name) = map.next_key::<String>()? {
                    if header.tensors.len() == MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    } else if name == METADATA_KEY {
                        let metadata: Option<_> = map.next_value()?;
                        header.metadata = metadata.unwrap_or_default();
                    } else {
                        header.tensors.push(RawTensor { name, entry: map.next_value()? });
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// A type, or the name of one that is not known.
struct RawDType(Result<DType, String>);

impl<'de> Deserialize<'de> for RawDType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = DTYPE_NAMES.iter().find(|(known, _)| *known == name);
        Ok(RawDType(found.map(|&(_, dtype)| dtype).ok_or(name)))
    }
}

/// A shape, of which no more is kept than the rank allows.
struct RawShape(Vec<usize>);

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;

        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = RawShape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawShape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if shape.len() == MAX_RANK {
                        return Err(A::Error::custom(format!("more than {MAX_RANK} dimensions")));
                    }
                    shape.push(dim);
                }
                Ok(RawShape(shape))
            }
        }

        deserializer.deserialize_seq(ShapeVisitor)
    }
}
