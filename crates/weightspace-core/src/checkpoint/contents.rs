//! What a reader finds in one file, and the limits that keep a hostile file small.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::error::{Reason, quoted, reason};
use crate::tensor::{DType, TensorInfo};

/// Most tensors of one checkpoint; the largest published ones have some ten thousand per file.
pub(super) const MAX_TENSORS: usize = 1 << 17;
/// Most dimensions of a tensor.
pub(super) const MAX_RANK: usize = 32;
/// Most bytes of all names together.
const MAX_NAME_BYTES: usize = 1 << 25;

/// The parsed header of one file, and the way to its tensors.
pub(super) struct Contents {
    /// Names, types and shapes in file order.
    pub(super) tensors: Vec<TensorInfo>,
    /// Text that the file says about itself.
    pub(super) metadata: BTreeMap<String, String>,
    /// What has tensors, too, but was passed over.
    pub(super) left_out: Vec<String>,
    /// Whether these are the part of the file that was asked for, and not all of it.
    pub(super) is_part: bool,
    /// Gives the bytes of each tensor.
    pub(super) source: Box<dyn Source>,
}

/// Gives the bytes of the tensors of one file.
pub(super) trait Source: Send + Sync {
    /// The row-major little-endian bytes of tensor `index` of the listing.
    fn read(&self, index: usize) -> Result<Vec<u8>, Reason>;

    /// Some of these bytes; formats that can, read nothing else.
    fn read_range(&self, index: usize, bytes: Range<usize>) -> Result<Cow<'_, [u8]>, Reason> {
        let whole = self.read(index)?;
        let part = whole.get(bytes.clone());
        part.map(|part| part.to_vec().into())
            .ok_or_else(|| reason!("{} bytes, {} needed", whole.len(), bytes.end))
    }
}

/// Collects the tensors of a file while watching what they would cost.
#[derive(Default)]
pub(super) struct Listing {
    tensors: Vec<TensorInfo>,
    name_bytes: usize,
    tensor_bytes: u64,
}

impl Listing {
    /// Adds a tensor.
    pub(super) fn push(
        &mut self,
        name: &str,
        dtype: DType,
        shape: Vec<usize>,
    ) -> Result<(), Reason> {
        let bytes = byte_count(dtype, &shape).ok_or_else(|| {
            reason!("tensor {} has an impossible shape of {} dimensions", quoted(name), shape.len())
        })?;
        self.name_bytes += name.len();
        self.tensor_bytes = self.tensor_bytes.saturating_add(bytes as u64);
        if self.tensors.len() == MAX_TENSORS {
            return Err(reason!("more than {MAX_TENSORS} tensors"));
        }
        if self.name_bytes > MAX_NAME_BYTES {
            return Err(reason!("the names of the tensors exceed {MAX_NAME_BYTES} bytes"));
        }
        self.tensors.push(TensorInfo { name: name.to_owned(), dtype, shape });
        Ok(())
    }

    /// The tensors, unless a file of `file_bytes` cannot honestly hold so much.
    pub(super) fn finish(self, file_bytes: usize) -> Result<Vec<TensorInfo>, Reason> {
        let limit = expanded_limit(file_bytes);
        if self.tensor_bytes > limit {
            return Err(reason!(
                "the tensors claim {} bytes, more than the {limit} that are plausible for a file of \
                 {file_bytes} bytes",
                self.tensor_bytes
            ));
        }
        Ok(self.tensors)
    }
}

/// Most bytes that the contents of a file may expand to, whether by inflating, by broadcasting or
/// by sharing: weights hardly compress, so this bound stops bombs only.
pub(super) fn expanded_limit(file_bytes: usize) -> u64 {
    (64 << 20) + 16 * file_bytes as u64
}

/// Bytes of a tensor; none if the rank or the size is beyond what can be addressed.
///
/// Dimensions of zero do not hide the others: the product of all that are not zero must fit, so
/// that nothing computed from the shape can overflow later, in whatever order.
pub(super) fn byte_count(dtype: DType, shape: &[usize]) -> Option<usize> {
    if shape.len() > MAX_RANK {
        return None;
    }
    let full = shape.iter().try_fold(dtype.size(), |n, &dim| n.checked_mul(dim.max(1)))?;
    isize::try_from(full).ok()?;
    Some(if shape.contains(&0) { 0 } else { full })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_have_no_byte_count() {
        assert_eq!(byte_count(DType::F32, &[]), Some(4));
        assert_eq!(byte_count(DType::F64, &[3, 0, 2]), Some(0));
        assert_eq!(byte_count(DType::U8, &[usize::MAX]), None);
        assert_eq!(byte_count(DType::F32, &[1 << 31, 1 << 31, 2]), None);
        assert_eq!(byte_count(DType::F32, &[0, usize::MAX, usize::MAX]), None);
        assert_eq!(byte_count(DType::F32, &[1; MAX_RANK + 1]), None);
    }
}
