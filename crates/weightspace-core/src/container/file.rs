//! An opened `.wsp` file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{Reason, WspError, refuse};
use super::framing::{self, CHECK_BYTES, CHECKSUM_BYTES, Layout, MAGIC, Section, SectionKind};
use super::order::Permutations;
use super::plan::Plan;
use super::predictor::{self, PredictorInfo};
use super::projection::{self, PlaneInfo, Projected};
use super::table::{self, Entry, Storage};
use super::{Header, Method, limits, raw};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::bytes::Bytes;
use crate::tensor::TensorInfo;

/// An opened `.wsp` file: its checksum and structure are checked, tensors are decoded on demand.
pub struct WspFile {
    pub(crate) path: PathBuf,
    bytes: Bytes,
    contents: Box<Contents>,
    infos: Vec<TensorInfo>,
}

/// What the bytes of a file say.
struct Contents {
    header: Header,
    sections: Vec<Section>,
    entries: Vec<Entry>,
    plan: Plan,
    projection: Option<StoredProjection>,
    predictor: Option<PredictorInfo>,
}

/// A projection and the planes of its coefficients.
pub(crate) struct StoredProjection {
    pub projected: Projected,
    /// The PLANE sections of the whole file.
    pub planes: Vec<PlaneInfo>,
    /// Where the section of the projection and each of them ends in the whole file.
    ends: Vec<u64>,
    /// How many of them are there.
    present: usize,
}

impl StoredProjection {
    /// Planes of the first `sections` sections.
    fn planes_of(&self, sections: usize) -> usize {
        self.planes[..sections].iter().map(|section| section.planes).sum()
    }
}

impl WspFile {
    /// Opens a file.
    ///
    /// # Errors
    /// `Io` if it cannot be read, `Malformed` if it is no `.wsp` file, of a version, method or
    /// section kind that is not known, damaged, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self, WspError> {
        Self::check(path.to_owned(), read(path)?, false)
    }

    /// As [`open`](Self::open), but a file that holds a projection may be cut anywhere behind that
    /// section, or damaged there: the planes that are whole are used, and they are fewer.
    ///
    /// # Errors
    /// As those of [`open`](Self::open); `Malformed` too if the file is cut earlier.
    pub fn open_prefix(path: &Path) -> Result<Self, WspError> {
        Self::check(path.to_owned(), read(path)?, true)
    }

    /// Opens a file that is in memory; `name` stands for its path.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, WspError> {
        Self::check(PathBuf::from(name), Bytes::Owned(bytes), false)
    }

    /// As [`open_prefix`](Self::open_prefix), of a file that is in memory.
    ///
    /// # Errors
    /// As those of [`open_prefix`](Self::open_prefix).
    pub fn prefix_from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, WspError> {
        Self::check(PathBuf::from(name), Bytes::Owned(bytes), true)
    }

    /// As [`from_bytes`](Self::from_bytes), but whatever the checksum and the checks: for fuzzing, which would
    /// not get beyond it.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    #[doc(hidden)]
    pub fn from_bytes_unchecked(name: &str, mut bytes: Vec<u8>) -> Result<Self, WspError> {
        framing::seal(&mut bytes);
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
        &self.contents.header
    }

    /// Names, element types and shapes of the network's tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    /// Kinds and places of the sections.
    pub fn sections(&self) -> &[Section] {
        &self.contents.sections
    }

    /// Size in bytes of what is there of the file.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// How coefficients stand for the projected tensors, if there are such.
    pub fn projection(&self) -> Option<&Projected> {
        self.stored_projection().map(|stored| &stored.projected)
    }

    /// How inner tensors stand for the predicted ones, if there are such.
    pub fn predictor(&self) -> Option<&PredictorInfo> {
        self.contents.predictor.as_ref()
    }

    /// Number of bit planes of the coefficients that are there: at most
    /// [`whole_planes`](Self::whole_planes), and 0 without a projection.
    pub fn planes(&self) -> usize {
        self.stored_projection().map_or(0, |stored| stored.planes_of(stored.present))
    }

    /// Number of bit planes of the coefficients in the whole file.
    pub fn whole_planes(&self) -> usize {
        self.stored_projection().map_or(0, |stored| stored.planes_of(stored.planes.len()))
    }

    /// Size of the whole file in bytes, also if it is cut.
    pub fn whole_bytes(&self) -> u64 {
        match self.stored_projection().and_then(|stored| stored.ends.last()) {
            Some(end) => end + CHECKSUM_BYTES as u64,
            None => self.bytes.len() as u64,
        }
    }

    /// Number of planes that the first `bytes` bytes of the whole file hold.
    pub fn planes_within(&self, bytes: u64) -> usize {
        self.stored_projection().map_or(0, |stored| {
            let ends = stored.ends.partition_point(|&end| end <= bytes);
            stored.planes_of(ends.saturating_sub(1))
        })
    }

    fn check(path: PathBuf, bytes: Bytes, may_be_cut: bool) -> Result<Self, WspError> {
        let contents = Contents::parse(&bytes, may_be_cut).map_err(|reason| reason.at(&path))?;
        let of_network = contents.entries.iter().filter(|entry| !entry.inner);
        let infos = of_network.map(|entry| entry.info.clone()).collect();
        Ok(WspFile { path, bytes, contents: Box::new(contents), infos })
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.contents.entries
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.contents.plan
    }

    pub(crate) fn stored_projection(&self) -> Option<&StoredProjection> {
        self.contents.projection.as_ref()
    }

    /// The content of the `index`-th section of a kind; the structure was checked on opening.
    pub(crate) fn content(&self, kind: SectionKind, index: usize) -> &[u8] {
        let sections = self.sections();
        let first = sections.partition_point(|section| section.kind < kind);
        &self.bytes[sections[first + index].range.clone()]
    }

    /// The content of the `index`-th PLANE section without its check.
    pub(crate) fn plane_content(&self, index: usize) -> &[u8] {
        let content = self.content(SectionKind::Plane, index);
        &content[..content.len() - CHECK_BYTES]
    }
}

fn read(path: &Path) -> Result<Bytes, WspError> {
    Bytes::open(path).map_err(|error| match error {
        CheckpointError::Io { path, source } => WspError::Io { path, source },
        other => Reason(other.to_string()).at(path),
    })
}

impl Contents {
    fn parse(bytes: &[u8], may_be_cut: bool) -> Result<Self, Reason> {
        framing::check_beginning(bytes)?;
        let may_be_cut = may_be_cut && framing::has_planes(bytes);
        if !may_be_cut {
            return Self::parse_body(framing::check_integrity(bytes)?, false);
        }
        Self::parse_body(bytes, true)
            .map_err(|Reason(reason)| Reason(format!("damaged or cut before its planes: {reason}")))
    }

    fn parse_body(body: &[u8], may_be_cut: bool) -> Result<Self, Reason> {
        let Layout { header, mut sections, end } = framing::parse(body)?;
        check_kinds(&sections, header.method)?;
        let mut entries = table::decode(&body[sections[0].range.clone()])?;
        table::check(&entries, header.method)?;
        table::check_expansion(&entries, body.len() + CHECKSUM_BYTES)?;
        let plan = Plan::new(&entries);
        let of = |kind| sections.iter().filter(move |s| s.kind == kind);
        check_symbols(&plan, of(SectionKind::Symbols))?;
        check_raw(&entries, body, of(SectionKind::Raw))?;
        let predictor = match header.method {
            Method::Predictor => {
                let info = parse_predictor(body, &sections, &entries)?;
                let first = entries.len() - info.inner;
                entries[first..].iter_mut().for_each(|entry| entry.inner = true);
                Some(info)
            }
            _ => None,
        };
        let last = sections.pop_if(|section| section.kind == SectionKind::Projection);
        let projection = match (header.method, last) {
            (Method::Subspace, Some(section)) => {
                Some(parse_projection(body, section, &mut sections, &entries, (end, may_be_cut))?)
            }
            (Method::Subspace, None) => return refuse!("no projection"),
            (_, _) => None,
        };
        Ok(Contents { header, sections, entries, plan, projection, predictor })
    }
}

/// Refuses sections that files of this method do not have.
fn check_kinds(sections: &[Section], method: Method) -> Result<(), Reason> {
    let foreign = |section: &&Section| match section.kind {
        SectionKind::Table | SectionKind::Symbols | SectionKind::Raw => false,
        SectionKind::Projection | SectionKind::Plane => method != Method::Subspace,
        SectionKind::Predictor | SectionKind::Order => method != Method::Predictor,
    };
    match sections.iter().find(foreign) {
        Some(Section { kind, .. }) => {
            refuse!("a section of kind {} in a file of method {}", kind.name(), method.name())
        }
        None => Ok(()),
    }
}

/// Reads the PREDICTOR section and checks the lengths of the ORDER sections.
fn parse_predictor(
    body: &[u8],
    sections: &[Section],
    entries: &[Entry],
) -> Result<PredictorInfo, Reason> {
    let first = sections.partition_point(|section| section.kind < SectionKind::Predictor);
    let Some((section, orders)) = sections[first..].split_first() else {
        return refuse!("no predictor");
    };
    if section.kind != SectionKind::Predictor
        || orders.iter().any(|section| section.kind != SectionKind::Order)
    {
        return refuse!("not one predictor before the orders");
    }
    let info = predictor::decode(&body[section.range.clone()], entries)?;
    let lengths: Vec<usize> = orders.iter().map(|section| section.range.len()).collect();
    Permutations::new(info.tilings(entries)).check(&lengths)?;
    Ok(info)
}

/// Reads a PROJECTION section, which ends at `end`, and appends it and the PLANE sections behind it.
fn parse_projection(
    body: &[u8],
    section: Section,
    sections: &mut Vec<Section>,
    entries: &[Entry],
    (end, may_be_cut): (usize, bool),
) -> Result<StoredProjection, Reason> {
    let Some(content) = body[section.range.clone()].split_last_chunk::<CHECK_BYTES>() else {
        return refuse!("a projection without its check");
    };
    let projection::Content { projected, planes } = projection::decode(content.0, entries)?;
    let lengths = planes.iter().map(|section| section.length);
    let mut found = vec![section];
    found.extend(framing::planes(body, end, lengths, may_be_cut)?);
    let checked = framing::checked(body, &found);
    if checked == 0 || (checked < found.len() && !may_be_cut) {
        let what = if checked == 0 { "the projection" } else { "a section of bit planes" };
        return refuse!("the check of {what} does not match");
    }
    found.truncate(checked);
    sections.extend(found);
    let mut ends = vec![end as u64];
    for section in &planes {
        ends.push(ends[ends.len() - 1] + framing::framed_bytes(section.length) as u64);
    }
    Ok(StoredProjection { ends, projected, planes, present: checked - 1 })
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
