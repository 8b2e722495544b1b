//! An opened `.wsp` file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{Reason, WspError, refuse};
use super::framing::{self, MAGIC, Section, SectionKind};
use super::plan::Plan;
use super::table::{self, Entry, Storage};
use super::{Header, limits, raw};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::bytes::Bytes;
use crate::tensor::TensorInfo;

/// An opened `.wsp` file: its checksum and structure are checked, tensors are decoded on demand.
pub struct WspFile {
    pub(crate) path: PathBuf,
    bytes: Bytes,
    header: Header,
    sections: Vec<Section>,
    infos: Vec<TensorInfo>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) plan: Plan,
}

impl WspFile {
    /// Opens a file.
    ///
    /// # Errors
    /// `Io` if it cannot be read, `Malformed` if it is no `.wsp` file, of a version, method or
    /// section kind that is not known, damaged, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self, WspError> {
        let bytes = Bytes::open(path).map_err(|error| match error {
            CheckpointError::Io { path, source } => WspError::Io { path, source },
            other => Reason(other.to_string()).at(path),
        })?;
        Self::check(path.to_owned(), bytes)
    }

    /// Opens a file that is in memory; `name` stands for its path.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, WspError> {
        Self::check(PathBuf::from(name), Bytes::Owned(bytes))
    }

    /// As [`from_bytes`](Self::from_bytes), but whatever the checksum: for fuzzing, which would
    /// not get beyond it.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    #[doc(hidden)]
    pub fn from_bytes_unchecked(name: &str, mut bytes: Vec<u8>) -> Result<Self, WspError> {
        if let Some((body, sum)) = bytes.split_last_chunk_mut() {
            *sum = framing::checksum(body);
        }
        Self::from_bytes(name, bytes)
    }

    /// True if the file can be read and begins like a `.wsp` file.
    pub fn is_wsp(path: &Path) -> bool {
        let mut magic = [0; MAGIC.len()];
        let regular = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        regular
            && File::open(path).is_ok_and(|mut f| f.read_exact(&mut magic).is_ok())
            && magic == MAGIC
    }

    /// What the file says about the network.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Names, element types and shapes in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    /// Kinds and places of the sections.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Size of the file in bytes.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    fn check(path: PathBuf, bytes: Bytes) -> Result<Self, WspError> {
        let parsed = framing::check_integrity(&bytes).and_then(|()| Self::parse(&bytes));
        let (header, sections, entries, plan) = parsed.map_err(|reason| reason.at(&path))?;
        let infos = entries.iter().map(|entry| entry.info.clone()).collect();
        Ok(WspFile { path, bytes, header, sections, infos, entries, plan })
    }

    fn parse(bytes: &[u8]) -> Result<(Header, Vec<Section>, Vec<Entry>, Plan), Reason> {
        let (header, sections) = framing::parse(bytes)?;
        let entries = table::decode(&bytes[sections[0].range.clone()])?;
        table::check(&entries)?;
        let plan = Plan::new(&entries);
        let of = |kind| sections.iter().filter(move |s| s.kind == kind);
        check_symbols(&plan, of(SectionKind::Symbols))?;
        check_raw(&entries, bytes, of(SectionKind::Raw))?;
        Ok((header, sections, entries, plan))
    }

    /// The content of the `index`-th section of a kind; the structure was checked on opening.
    pub(crate) fn content(&self, kind: SectionKind, index: usize) -> &[u8] {
        let first = self.sections.partition_point(|section| section.kind < kind);
        &self.bytes[self.sections[first + index].range.clone()]
    }
}

/// Refuses SYMBOLS sections that do not cover exactly the symbols of the table.
fn check_symbols<'a>(
    plan: &Plan,
    sections: impl Iterator<Item = &'a Section> + Clone,
) -> Result<(), Reason> {
    let found = sections.clone().count();
    if found as u64 != plan.section_count() {
        let (total, expected) = (plan.total(), plan.section_count());
        return refuse!("{found} sections of symbols, expected {expected} for {total} symbols");
    }
    for (index, section) in sections.enumerate() {
        let (length, covered) = (section.range.len(), plan.covered(index));
        if covered > limits::symbols_of(length) {
            return refuse!("a section of {length} bytes cannot cover {covered} symbols");
        }
    }
    Ok(())
}

/// Refuses RAW sections that do not cover exactly the raw bytes of the table.
fn check_raw<'a>(
    entries: &[Entry],
    bytes: &[u8],
    sections: impl Iterator<Item = &'a Section> + Clone,
) -> Result<(), Reason> {
    let raw = entries.iter().filter(|entry| entry.storage == Storage::Raw);
    let total: u64 = raw.map(|entry| entry.info.byte_count() as u64).sum();
    let expected = total.div_ceil(limits::SECTION_RAW_BYTES as u64);
    let found = sections.clone().count();
    if found as u64 != expected {
        return refuse!("{found} raw sections, expected {expected} for {total} bytes");
    }
    let mut left = total;
    for section in sections {
        let covered = left.min(limits::SECTION_RAW_BYTES as u64);
        raw::check(&bytes[section.range.clone()], covered as usize)?;
        left -= covered;
    }
    Ok(())
}
