//! `.npz`: a zip archive with one `.npy` array per tensor.

use super::npy::{Header, MAX_HEADER};
use crate::checkpoint::bytes::Bytes;
use crate::checkpoint::contents::{Contents, Listing, Source};
use crate::checkpoint::error::{Reason, quoted, reason};
use crate::checkpoint::zip::{Member, members};

/// True for every zip archive; those of PyTorch are to be recognised before.
pub(in super::super) fn matches(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK")
}

pub(in super::super) fn open(bytes: Bytes, _: Option<&str>) -> Result<Contents, Reason> {
    let mut listing = Listing::default();
    let mut arrays = Vec::new();
    for member in members(&bytes)? {
        let Some(name) = member.name.strip_suffix(".npy") else {
            let name = quoted(&member.name);
            return Err(reason!("zip member {name} is neither an npy array nor a PyTorch pickle"));
        };
        let start = member.start(&bytes, MAX_HEADER)?;
        let header = Header::parse(&start, member.size())
            .map_err(|Reason(reason)| reason!("tensor {} {reason}", quoted(name)))?;
        listing.push(name, header.view.dtype, header.view.shape.clone())?;
        arrays.push((member, header));
    }
    let tensors = listing.finish(bytes.len())?;
    let metadata = Default::default();
    Ok(Contents {
        tensors,
        metadata,
        left_out: Vec::new(),
        is_part: false,
        source: Box::new(Arrays { bytes, arrays }),
    })
}

struct Arrays {
    bytes: Bytes,
    arrays: Vec<(Member, Header)>,
}

impl Source for Arrays {
    fn read(&self, index: usize) -> Result<Vec<u8>, Reason> {
        let (member, header) = &self.arrays[index];
        header.read(&member.read(&self.bytes)?)
    }
}
