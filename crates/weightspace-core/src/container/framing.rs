//! The outer layout of a file: magic, version, header, sections, checksum.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::bytes::{Cursor, put_string, put_varint};
use super::error::{Reason, refuse};
use super::{Header, Method, limits};

/// The first four bytes of every `.wsp` file.
pub(super) const MAGIC: [u8; 4] = *b"\x8bWSP";
const VERSION: u8 = 1;
pub(super) const CHECKSUM_BYTES: usize = 8;
/// At the end of the content of a section up to which a file may be cut.
pub(super) const CHECK_BYTES: usize = 2;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SectionKind {
    /// Names, types, shapes and codings of the tensors.
    Table = 1,
    /// Entropy-coded integers of quantised tensors.
    Symbols = 2,
    /// Bytes of raw tensors.
    Raw = 3,
    /// How coefficients stand for weights.
    Projection = 4,
    /// Entropy-coded bit planes of coefficients.
    Plane = 5,
    /// How a predictor gives weights.
    Predictor = 6,
    /// Entropy-coded permutations of predicted tensors.
    Order = 7,
}

impl SectionKind {
    const ALL: [SectionKind; 7] = [
        SectionKind::Table,
        SectionKind::Symbols,
        SectionKind::Raw,
        SectionKind::Projection,
        SectionKind::Plane,
        SectionKind::Predictor,
        SectionKind::Order,
    ];

    /// The name used in listings.
    pub const fn name(self) -> &'static str {
        match self {
            SectionKind::Table => "table",
            SectionKind::Symbols => "symbols",
            SectionKind::Raw => "raw",
            SectionKind::Projection => "projection",
            SectionKind::Plane => "plane",
            SectionKind::Predictor => "predictor",
            SectionKind::Order => "order",
        }
    }
}

/// Where a section's content stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Positions of its bytes.
    pub range: Range<usize>,
}

/// The first 8 bytes of the SHA-256 of `bytes`.
pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest[..CHECKSUM_BYTES].try_into().expect("a digest has 32 bytes")
}

/// The beginning of a file, up to its first section.
pub(super) fn put_header(out: &mut Vec<u8>, header: &Header) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, header.method as u8]);
    for text in [&header.arch, &header.data, &header.preprocessing] {
        put_string(out, text);
    }
    out.extend_from_slice(&header.source_hash);
    put_varint(out, header.source_bytes);
    put_varint(out, header.source_parameters);
}

pub(super) fn put_section(out: &mut Vec<u8>, kind: SectionKind, content: &[u8]) {
    out.push(kind as u8);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends a section whose content ends with a check of all bytes of the file before the check.
pub(super) fn put_checked_section(out: &mut Vec<u8>, kind: SectionKind, content: &[u8]) {
    out.push(kind as u8);
    put_varint(out, (content.len() + CHECK_BYTES) as u64);
    out.extend_from_slice(content);
    let check = check_of(&Sha256::new_with_prefix(&out[..]));
    out.extend_from_slice(&check);
}

/// The bytes of a section of `length` bytes with its kind and length.
pub(super) fn framed_bytes(length: usize) -> usize {
    let mut varint = Vec::new();
    put_varint(&mut varint, length as u64);
    1 + varint.len() + length
}

fn check_of(before: &Sha256) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = before.clone().finalize().into();
    digest[..CHECK_BYTES].try_into().expect("a digest has 32 bytes")
}

/// How many of `sections`, which follow each other, have the checks that the file needs.
pub(super) fn checked(bytes: &[u8], sections: &[Section]) -> usize {
    let mut hash = Sha256::new();
    let mut hashed = 0;
    let fits = |section: &&Section| {
        let Some(at) = section.range.end.checked_sub(CHECK_BYTES) else { return false };
        if section.range.len() < CHECK_BYTES {
            return false;
        }
        hash.update(&bytes[hashed..at]);
        hashed = at;
        bytes[at..section.range.end] == check_of(&hash)
    };
    sections.iter().take_while(fits).count()
}

/// Gives all sections the checks, and the file the checksum, that their other bytes need.
pub(super) fn seal(bytes: &mut [u8]) {
    let Some(body_length) = bytes.len().checked_sub(CHECKSUM_BYTES) else { return };
    let mut sections = Vec::new();
    if let Ok(Layout { sections: parsed, end, .. }) = parse(&bytes[..body_length]) {
        sections.extend(parsed);
        let mut cursor = Cursor::new(&bytes[end..body_length]);
        while let Ok(section) = take_section(&mut cursor, body_length) {
            sections.push(section);
        }
    }
    for Section { kind, range } in sections {
        let checked = matches!(kind, SectionKind::Projection | SectionKind::Plane);
        if checked && range.len() >= CHECK_BYTES {
            let (before, check) = bytes[..range.end].split_at_mut(range.end - CHECK_BYTES);
            check.copy_from_slice(&check_of(&Sha256::new_with_prefix(before)));
        }
    }
    let (body, sum) = bytes.split_at_mut(body_length);
    sum.copy_from_slice(&checksum(body));
}

/// Refuses what does not begin like a `.wsp` file of this version.
pub(super) fn check_beginning(bytes: &[u8]) -> Result<(), Reason> {
    if !bytes.starts_with(&MAGIC) {
        return refuse!("not a .wsp file: it does not begin with the bytes {MAGIC:02x?}");
    }
    match bytes.get(MAGIC.len()) {
        Some(&VERSION) => Ok(()),
        Some(version) => {
            refuse!("version {version} of the .wsp format, known is version {VERSION}")
        }
        None => refuse!("{} bytes are too few for a .wsp file", bytes.len()),
    }
}

/// True if a file that begins so can be cut: all but its planes are at its beginning.
pub(super) fn has_planes(bytes: &[u8]) -> bool {
    bytes.get(MAGIC.len() + 1) == Some(&(Method::Subspace as u8))
}

/// Refuses what is no `.wsp` file, of another version, or damaged; returns it without its checksum.
pub(super) fn check_integrity(bytes: &[u8]) -> Result<&[u8], Reason> {
    check_beginning(bytes)?;
    let Some((body, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return refuse!("{} bytes are too few for a .wsp file", bytes.len());
    };
    if checksum(body) != *sum {
        return refuse!("the checksum does not match: the file is damaged or incomplete");
    }
    Ok(body)
}

/// Header and sections of a file, up to and with the projection if there is one.
pub(super) struct Layout {
    pub header: Header,
    pub sections: Vec<Section>,
    /// Where the last of these sections ends.
    pub end: usize,
}

/// The layout of a file that passed [`check_beginning`], without its checksum.
pub(super) fn parse(body: &[u8]) -> Result<Layout, Reason> {
    let mut cursor = Cursor::new(body);
    cursor.take(MAGIC.len() + 1, "the magic")?;
    let header = parse_header(&mut cursor)?;
    let mut sections: Vec<Section> = Vec::new();
    let is_projection = |section: &Section| section.kind == SectionKind::Projection;
    while cursor.remaining() > 0 && !sections.last().is_some_and(is_projection) {
        sections.push(take_section(&mut cursor, body.len())?);
    }
    let tables = sections.iter().filter(|s| s.kind == SectionKind::Table).count();
    if tables != 1 || !sections.is_sorted_by_key(|s| s.kind) {
        return refuse!("the sections are not one table, symbols and raw bytes, in this order");
    }
    Ok(Layout { header, sections, end: body.len() - cursor.remaining() })
}

/// The next section of a file of `body_length` bytes.
fn take_section(cursor: &mut Cursor, body_length: usize) -> Result<Section, Reason> {
    let code = cursor.byte("a section's kind")?;
    let Some(&kind) = SectionKind::ALL.iter().find(|&&kind| kind as u8 == code) else {
        return refuse!("a section of unknown kind {code}");
    };
    let length = cursor.varint_up_to(cursor.remaining() as u64, "a section's length")?;
    cursor.take(length, "a section")?;
    let end = body_length - cursor.remaining();
    Ok(Section { kind, range: end - length..end })
}

/// The PLANE sections behind a projection that says their `lengths`: all, and nothing behind them;
/// or of a file that may be cut as many as are there.
pub(super) fn planes(
    body: &[u8],
    begin: usize,
    lengths: impl Iterator<Item = usize>,
    may_be_cut: bool,
) -> Result<Vec<Section>, Reason> {
    let mut cursor = Cursor::new(&body[begin..]);
    let mut sections = Vec::new();
    for length in lengths {
        let section = take_section(&mut cursor, body.len()).and_then(|section| {
            match section.kind == SectionKind::Plane && section.range.len() == length {
                true => Ok(section),
                false => refuse!("a section is not a plane of {length} bytes"),
            }
        });
        match section {
            Ok(section) => sections.push(section),
            Err(_) if may_be_cut => return Ok(sections),
            Err(reason) => return Err(reason),
        }
    }
    match cursor.remaining() {
        extra if extra > 0 && !may_be_cut => refuse!("{extra} bytes follow the last plane"),
        _ => Ok(sections),
    }
}

fn parse_header(cursor: &mut Cursor) -> Result<Header, Reason> {
    let code = cursor.byte("the method")?;
    let Some(&method) = Method::ALL.iter().find(|&&method| method as u8 == code) else {
        return refuse!("unknown method {code}");
    };
    let mut text = |what| match cursor.string(what)? {
        text if text.len() <= limits::TEXT_BYTES => Ok(text.to_owned()),
        text => refuse!("{what} has {} bytes, the limit is {}", text.len(), limits::TEXT_BYTES),
    };
    Ok(Header {
        method,
        arch: text("the architecture")?,
        data: text("the data set")?,
        preprocessing: text("the preprocessing")?,
        source_hash: cursor.array("the source hash")?,
        source_bytes: cursor.varint("the source's bytes")?,
        source_parameters: cursor.varint("the source's parameters")?,
    })
}
