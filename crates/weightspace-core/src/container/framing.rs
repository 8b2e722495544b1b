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
}

impl SectionKind {
    const ALL: [SectionKind; 3] = [SectionKind::Table, SectionKind::Symbols, SectionKind::Raw];

    /// The name used in listings.
    pub const fn name(self) -> &'static str {
        match self {
            SectionKind::Table => "table",
            SectionKind::Symbols => "symbols",
            SectionKind::Raw => "raw",
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

/// Refuses what is no `.wsp` file, of another version, or damaged.
pub(super) fn check_integrity(bytes: &[u8]) -> Result<(), Reason> {
    if !bytes.starts_with(&MAGIC) {
        return refuse!("not a .wsp file: it does not begin with the bytes {MAGIC:02x?}");
    }
    let Some((body, sum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return refuse!("{} bytes are too few for a .wsp file", bytes.len());
    };
    match body.get(MAGIC.len()) {
        Some(&VERSION) => {}
        Some(version) => {
            return refuse!("version {version} of the .wsp format, known is version {VERSION}");
        }
        None => return refuse!("{} bytes are too few for a .wsp file", bytes.len()),
    }
    if checksum(body) != *sum {
        return refuse!("the checksum does not match: the file is damaged or incomplete");
    }
    Ok(())
}

/// Header and sections of a file that passed [`check_integrity`], whose checksum may be wrong.
pub(super) fn parse(bytes: &[u8]) -> Result<(Header, Vec<Section>), Reason> {
    let body_length = bytes.len().saturating_sub(CHECKSUM_BYTES);
    let mut cursor = Cursor::new(&bytes[..body_length]);
    cursor.take(MAGIC.len() + 1, "the magic")?;
    let header = parse_header(&mut cursor)?;
    let mut sections: Vec<Section> = Vec::new();
    while cursor.remaining() > 0 {
        let code = cursor.byte("a section's kind")?;
        let Some(&kind) = SectionKind::ALL.iter().find(|&&kind| kind as u8 == code) else {
            return refuse!("a section of unknown kind {code}");
        };
        let length = cursor.varint_up_to(cursor.remaining() as u64, "a section's length")?;
        cursor.take(length, "a section")?;
        let end = body_length - cursor.remaining();
        sections.push(Section { kind, range: end - length..end });
    }
    let tables = sections.iter().filter(|s| s.kind == SectionKind::Table).count();
    if tables != 1 || !sections.is_sorted_by_key(|s| s.kind) {
        return refuse!("the sections are not one table, symbols and raw bytes, in this order");
    }
    Ok((header, sections))
}

fn parse_header(cursor: &mut Cursor) -> Result<Header, Reason> {
    let code = cursor.byte("the method")?;
    let Some(&method) = Method::ALL.get(usize::from(code)) else {
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
