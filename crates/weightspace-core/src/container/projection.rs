//! The PROJECTION section: how coefficients stand for weights, and where their planes are.

use super::bytes::{Cursor, put_varint};
use super::error::{Reason, refuse};
use super::limits;
use super::table::{Entry, Storage};
use crate::basis::{BASES, Basis, ProjectedTensor, Projection, Segment, Start};
use crate::entropy::planes::{MAX_PLANES, PlaneSection};
use crate::random::Key;
use crate::text::quoted;

/// What a projection's random numbers follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectionKey {
    /// The key of a seed for the purpose `subspace`, in the file.
    Seed(u64),
    /// A key in the file.
    Key(Key),
    /// A key that the file does not hold: whoever decodes it must have it.
    Withheld,
}

impl ProjectionKey {
    /// The key, if it is in the file.
    pub fn key(self) -> Option<Key> {
        match self {
            ProjectionKey::Seed(seed) => Some(Key::for_purpose(seed, "subspace")),
            ProjectionKey::Key(key) => Some(key),
            ProjectionKey::Withheld => None,
        }
    }

    fn kind(self) -> u8 {
        match self {
            ProjectionKey::Seed(_) => 0,
            ProjectionKey::Key(_) => 1,
            ProjectionKey::Withheld => 2,
        }
    }
}

/// How the coefficients of a file stand for its projected tensors, in the order of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Projected {
    /// How the matrices are generated.
    pub basis: Basis,
    /// What the coefficients are added to.
    pub start: Start,
    /// From which key the matrices, and the start if it is drawn, are generated.
    pub key: ProjectionKey,
    /// [Content hash](crate::StateDict::content_hash) of the base: present exactly if the start is
    /// the base's or a tensor is stored as in the base.
    pub base_hash: Option<[u8; 32]>,
    /// What the coefficients, which are integers, are multiplied by; positive and finite.
    pub step: f32,
    /// Which projected tensors, in the order of the table, share coefficients.
    pub segments: Vec<Segment>,
}

impl Projected {
    /// Number of coefficients.
    pub fn coefficient_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.coefficients).sum()
    }
}

/// The planes and the content's length of one PLANE section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaneInfo {
    pub planes: usize,
    pub length: usize,
}

/// What a PROJECTION section says.
pub(super) struct Content {
    pub projected: Projected,
    pub planes: Vec<PlaneInfo>,
}

/// The content of the section, without its check.
pub(super) fn encode(projected: &Projected, planes: &[PlaneInfo]) -> Vec<u8> {
    let start = match projected.start {
        Start::Zero => 0,
        Start::Drawn => 1,
        Start::Base => 2,
    };
    let mut out = vec![projected.basis as u8, start, projected.key.kind()];
    match projected.key {
        ProjectionKey::Seed(seed) => put_varint(&mut out, seed),
        ProjectionKey::Key(Key(key)) => out.extend_from_slice(&key),
        ProjectionKey::Withheld => {}
    }
    out.extend(projected.base_hash.iter().flatten());
    out.extend_from_slice(&projected.step.to_le_bytes());
    put_varint(&mut out, projected.segments.len() as u64);
    for segment in &projected.segments {
        put_varint(&mut out, segment.tensors.len() as u64);
        put_varint(&mut out, segment.coefficients as u64);
    }
    out.push(planes.len() as u8);
    for section in planes {
        out.push(section.planes as u8);
        put_varint(&mut out, section.length as u64);
    }
    out
}

/// Content of a section of these tensors, which agrees with itself and with the table.
pub(super) fn decode(content: &[u8], entries: &[Entry]) -> Result<Content, Reason> {
    let mut cursor = Cursor::new(content);
    let code = cursor.byte("the basis")?;
    let Some(info) = BASES.get(usize::from(code)) else {
        return refuse!("unknown basis {code}");
    };
    let start = match cursor.byte("the start")? {
        0 => Start::Zero,
        1 => Start::Drawn,
        2 => Start::Base,
        unknown => return refuse!("unknown start {unknown} of the projection"),
    };
    let key = match cursor.byte("the kind of key")? {
        0 => ProjectionKey::Seed(cursor.varint("the seed")?),
        1 => ProjectionKey::Key(Key(cursor.array("the key")?)),
        2 => ProjectionKey::Withheld,
        unknown => return refuse!("unknown kind of key {unknown}"),
    };
    let base_hash = match needs_base(start, entries) {
        true => Some(cursor.array("the hash of the base")?),
        false => None,
    };
    let step = f32::from_le_bytes(cursor.array("the step")?);
    let segments = take_segments(&mut cursor)?;
    let planes = take_planes(&mut cursor)?;
    if cursor.remaining() > 0 {
        return refuse!("{} bytes follow the planes of the projection", cursor.remaining());
    }
    let projected = Projected { basis: info.basis, start, key, base_hash, step, segments };
    check(&projected, entries)?;
    check_planes(&planes, projected.coefficient_count())?;
    Ok(Content { projected, planes })
}

fn take_segments(cursor: &mut Cursor) -> Result<Vec<Segment>, Reason> {
    let count = cursor.varint_up_to(limits::TENSORS as u64, "the number of segments")?;
    let mut segments = Vec::new();
    let mut first = 0;
    for _ in 0..count {
        let tensors = cursor.varint_up_to(limits::TENSORS as u64, "a segment's tensors")?;
        let most = limits::COEFFICIENTS as u64;
        let coefficients = cursor.varint_up_to(most, "a segment's coefficients")?;
        segments.push(Segment { tensors: first..first + tensors, coefficients });
        first += tensors;
    }
    Ok(segments)
}

fn take_planes(cursor: &mut Cursor) -> Result<Vec<PlaneInfo>, Reason> {
    let count = cursor.byte("the number of sections of planes")?;
    let mut sections = Vec::new();
    for _ in 0..count {
        let planes = usize::from(cursor.byte("the planes of a section")?);
        let most = limits::PLANE_SECTION_BYTES;
        let length = cursor.varint_up_to(most, "the length of a section of planes")?;
        sections.push(PlaneInfo { planes, length });
    }
    Ok(sections)
}

/// True if nothing can be decoded without the base.
fn needs_base(start: Start, entries: &[Entry]) -> bool {
    start == Start::Base || entries.iter().any(|entry| entry.storage == Storage::Base)
}

/// The projected tensors of a table, in its order.
pub(crate) fn tensors(entries: &[Entry]) -> Vec<ProjectedTensor> {
    let mut fan_in = 1;
    let projected = entries.iter().filter(|entry| entry.storage == Storage::Projected);
    projected
        .map(|Entry { info, .. }| {
            if info.shape.len() >= 2 {
                fan_in = info.shape[1..].iter().product();
            }
            ProjectedTensor { len: info.element_count(), fan_in }
        })
        .collect()
}

/// Refuses a projection beyond the limits, or that contradicts itself or the table.
pub(super) fn check(projected: &Projected, entries: &[Entry]) -> Result<(), Reason> {
    if !(projected.step > 0.0 && projected.step.is_finite()) {
        return refuse!("the step {} is not positive and finite", projected.step);
    }
    if projected.base_hash.is_some() != needs_base(projected.start, entries) {
        return refuse!("a base is named exactly if the start or a tensor is the base's");
    }
    let own = entries.iter().filter(|entry| entry.storage == Storage::Projected);
    if let Some(empty) = own.clone().find(|entry| entry.info.element_count() == 0) {
        return refuse!("{}: a projected tensor without elements", quoted(&empty.info.name));
    }
    let weights = own.fold(0u64, |sum, e| sum.saturating_add(e.info.element_count() as u64));
    let counts = projected.segments.iter().map(|segment| segment.coefficients as u64);
    let coefficients = counts.fold(0u64, u64::saturating_add);
    if coefficients > limits::COEFFICIENTS as u64 {
        return refuse!("{coefficients} coefficients, the limit is {}", limits::COEFFICIENTS);
    }
    let most = limits::PROJECTED_WEIGHTS.min(coefficients * limits::WEIGHTS_PER_COEFFICIENT);
    if weights > most {
        return refuse!("{weights} weights of {coefficients} coefficients, the limit is {most}");
    }
    let (basis, segments) = (projected.basis, projected.segments.clone());
    // What the matrices are does not depend on the key.
    match Projection::new(basis, Key([0; 32]), projected.start, tensors(entries), segments) {
        Ok(_) => Ok(()),
        Err(error) => refuse!("{error}"),
    }
}

/// Refuses planes that are too many, or sections that cannot hold them.
fn check_planes(sections: &[PlaneInfo], coefficients: usize) -> Result<(), Reason> {
    let planes: usize = sections.iter().map(|section| section.planes).sum();
    let none = sections.iter().any(|section| section.planes == 0);
    if planes > MAX_PLANES || none || (planes == 0) != (coefficients == 0) {
        return refuse!("{planes} planes of {coefficients} coefficients");
    }
    for PlaneInfo { planes, length } in sections {
        let bits = planes * coefficients;
        if *length < super::framing::CHECK_BYTES || bits > limits::symbols_of(*length) {
            return refuse!("a section of {length} bytes cannot cover {bits} bits");
        }
    }
    Ok(())
}

/// The content of a PLANE section without its check; zero bytes at its end change nothing.
pub(super) fn plane_content(section: PlaneSection, coefficients: usize) -> Vec<u8> {
    let mut content = section.bytes;
    let bits = section.planes * coefficients;
    while limits::symbols_of(content.len() + super::framing::CHECK_BYTES) < bits {
        content.push(0);
    }
    content
}

/// Refuses coefficients whose products with a basis could leave the 31 bits of their sum.
pub(crate) fn check_sums(projected: &Projected, coefficients: &[i32]) -> Result<(), Reason> {
    let mut rest = coefficients;
    for (number, segment) in projected.segments.iter().enumerate() {
        let (own, after) = rest.split_at(segment.coefficients);
        rest = after;
        let sum: u64 = own.iter().map(|q| u64::from(q.unsigned_abs())).sum();
        if sum * u64::from(projected.basis.largest_entry()) >= 1 << 31 {
            return refuse!("the coefficients of segment {number} are too large together: {sum}");
        }
    }
    Ok(())
}
