//! safetensors: a JSON header with names, types, shapes and offsets, then the data.

mod header;
mod write;

pub use write::{SafetensorsWriter, write_safetensors};

use std::borrow::Cow;
use std::ops::Range;

use super::bytes::Bytes;
use super::contents::{Contents, Source};
use super::error::Reason;
use crate::tensor::DType;

/// The names of the format for our element types; it has others that we do not support.
const DTYPE_NAMES: [(&str, DType); 13] = [
    ("F32", DType::F32),
    ("F64", DType::F64),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("BOOL", DType::Bool),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("U16", DType::U16),
    ("I16", DType::I16),
    ("U32", DType::U32),
    ("I32", DType::I32),
    ("U64", DType::U64),
    ("I64", DType::I64),
];

/// The key of the header that is no tensor.
const METADATA_KEY: &str = "__metadata__";

/// True for a length and the opening brace of a JSON object, which the format demands there.
pub(super) fn matches(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && !bytes.starts_with(b"PK")
}

pub(super) fn open(bytes: Bytes, _: Option<&str>) -> Result<Contents, Reason> {
    let header = header::parse(&bytes)?;
    let source = Box::new(Ranges { bytes, ranges: header.ranges });
    Ok(Contents {
        tensors: header.tensors,
        metadata: header.metadata,
        left_out: Vec::new(),
        is_part: false,
        source,
    })
}

struct Ranges {
    bytes: Bytes,
    ranges: Vec<Range<usize>>,
}

impl Source for Ranges {
    fn read(&self, index: usize) -> Result<Vec<u8>, Reason> {
        Ok(self.bytes[self.ranges[index].clone()].to_vec())
    }

    fn read_range(&self, index: usize, bytes: Range<usize>) -> Result<Cow<'_, [u8]>, Reason> {
        Ok(self.bytes[self.ranges[index].clone()][bytes].into())
    }
}
