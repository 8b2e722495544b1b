//! Members of a zip archive in memory, checked before anything is read.

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::DeflateDecoder;
use rawzip::{CompressionMethod, ZipArchive};

use super::contents::{MAX_TENSORS, expanded_limit};
use super::error::{Reason, quoted, reason};

/// Most bytes of the name of a member.
const MAX_NAME: usize = 512;

/// A file within an archive.
pub(super) struct Member {
    /// Path within the archive.
    pub(super) name: String,
    /// Where its data lies in the archive.
    data: Range<usize>,
    compression: Compression,
    /// Size of what it holds.
    size: u64,
    crc: u32,
    /// Set once the checksum was found right, so that a storage that many tensors share is summed
    /// only once.
    verified: AtomicBool,
}

#[derive(Clone, Copy, PartialEq)]
enum Compression {
    Stored,
    Deflated,
}

/// The members of an archive in the order of its directory.
///
/// Members that overlap, repeat a name or inflate beyond what weights could are refused: each
/// would let a small file stand for a large one.
pub(super) fn members(bytes: &[u8]) -> Result<Vec<Member>, Reason> {
    let archive = ZipArchive::from_slice(bytes)
        .map_err(|error| reason!("not a whole zip archive: {error}"))?;
    let mut members = Vec::new();
    let mut extents = Vec::new();
    for entry in archive.entries() {
        let entry = entry.map_err(|error| reason!("malformed zip directory: {error}"))?;
        if entry.is_dir() {
            continue;
        }
        // A few members beside the tensors.
        if members.len() > MAX_TENSORS + 16 {
            return Err(reason!("more than {MAX_TENSORS} members in the zip archive"));
        }
        let path = entry.file_path();
        let name = std::str::from_utf8(path.as_ref())
            .map_err(|_| reason!("the name of a zip member is not UTF-8"))?;
        let within = |Reason(reason)| reason!("zip member {}: {reason}", quoted(name));
        let member = member(&archive, &entry, name, bytes.len()).map_err(within)?;
        // Offsets are below the length of the archive, or the data would not have been found.
        extents.push((entry.local_header_offset() as usize, member.data.end));
        members.push(member);
    }
    extents.sort_unstable();
    if extents.windows(2).any(|pair| pair[0].1 > pair[1].0) {
        return Err(reason!("members of the zip archive overlap"));
    }
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(reason!("zip member {} is there twice", quoted(pair[0])));
    }
    Ok(members)
}

fn member(
    archive: &rawzip::ZipSliceArchive<&[u8]>,
    entry: &rawzip::ZipFileHeaderRecord,
    name: &str,
    archive_size: usize,
) -> Result<Member, Reason> {
    if name.len() > MAX_NAME {
        return Err(reason!("its name has {} bytes", name.len()));
    }
    if entry.flags().is_encrypted() {
        return Err(reason!("is encrypted"));
    }
    let compression = match entry.compression_method() {
        CompressionMethod::STORE => Compression::Stored,
        CompressionMethod::DEFLATE => Compression::Deflated,
        other => return Err(reason!("compression {other} is not supported")),
    };
    let located = archive.get_entry(entry.wayfinder()).map_err(|error| reason!("{error}"))?;
    if located.local_header().file_path().as_ref() != name.as_bytes() {
        return Err(reason!("has another name where its data is"));
    }
    let (start, end) = located.compressed_data_range();
    let data = start as usize..end as usize;
    let size = entry.uncompressed_size_hint();
    match compression {
        Compression::Stored if size != data.len() as u64 => {
            Err(reason!("is stored in {} bytes but claims {size}", data.len()))
        }
        Compression::Deflated if size > expanded_limit(archive_size) => {
            let limit = expanded_limit(archive_size);
            Err(reason!("claims to inflate to {size} bytes, more than the plausible {limit}"))
        }
        _ => Ok(Member {
            name: name.to_owned(),
            data,
            compression,
            size,
            crc: entry.crc32(),
            verified: AtomicBool::new(false),
        }),
    }
}

impl Member {
    /// Size of what the member holds.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a member that must not be compressed, out of the archive that `members` was
    /// given.
    pub(super) fn stored<'a>(&self, archive: &'a [u8]) -> Result<&'a [u8], Reason> {
        if self.compression != Compression::Stored {
            return Err(reason!("zip member {} is compressed", quoted(&self.name)));
        }
        let bytes = &archive[self.data.clone()];
        self.verify(bytes)?;
        Ok(bytes)
    }

    /// The first bytes of a member, at most `limit`, without a look at the checksum.
    pub(super) fn start(&self, archive: &[u8], limit: usize) -> Result<Vec<u8>, Reason> {
        let data = &archive[self.data.clone()];
        if self.compression == Compression::Stored {
            return Ok(data[..data.len().min(limit)].to_vec());
        }
        let mut bytes = Vec::new();
        let mut decoder = DeflateDecoder::new(data).take(limit as u64);
        decoder.read_to_end(&mut bytes).map_err(|error| self.broken(&error.to_string()))?;
        Ok(bytes)
    }

    /// The bytes of a member, inflated where needed.
    pub(super) fn read<'a>(&self, archive: &'a [u8]) -> Result<Cow<'a, [u8]>, Reason> {
        if self.compression == Compression::Stored {
            return self.stored(archive).map(Cow::Borrowed);
        }
        // `members` has bounded the size; one byte more shows a member that holds too much.
        let mut bytes = Vec::with_capacity(self.size as usize);
        DeflateDecoder::new(&archive[self.data.clone()])
            .take(self.size + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.broken(&error.to_string()))?;
        if bytes.len() as u64 != self.size {
            return Err(
                self.broken(&format!("does not inflate to the {} bytes it claims", self.size))
            );
        }
        self.verify(&bytes)?;
        Ok(Cow::Owned(bytes))
    }

    fn verify(&self, bytes: &[u8]) -> Result<(), Reason> {
        // Zero means that the writer did not compute one, which PyTorch allows.
        if self.crc == 0 || self.verified.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        if crc.sum() != self.crc {
            return Err(self.broken("its checksum is wrong"));
        }
        self.verified.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn broken(&self, what: &str) -> Reason {
        reason!("zip member {}: {what}", quoted(&self.name))
    }
}
