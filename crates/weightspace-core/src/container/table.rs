//! The TABLE section: names, element types, shapes and codings of all tensors, in columns.

use std::collections::HashSet;

use super::bytes::{Cursor, put_varint};
use super::error::{Reason, refuse};
use super::{Method, limits, product, raw};
use crate::entropy::MAX_BIT_LENGTH;
use crate::tensor::{DType, TensorInfo};
use crate::text::quoted;

/// One tensor as the table describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub info: TensorInfo,
    pub storage: Storage,
    /// True if it is no tensor of the network, but what such are made of.
    pub inner: bool,
}

/// Where a tensor's elements come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Storage {
    /// The RAW sections.
    Raw,
    /// The bytes of one element, repeated.
    Constant { element: Vec<u8> },
    /// The SYMBOLS sections.
    Quantized { scale: f32, origin: u8, exponents: bool },
    /// The coefficients of the projection.
    Projected,
    /// The base's tensor of that name.
    Base,
    /// The next two entries, which are inner.
    Product,
    /// The predictor, which is made of inner entries.
    Predicted,
}

impl Storage {
    fn code(&self) -> u8 {
        match self {
            Storage::Raw => 0,
            Storage::Constant { .. } => 1,
            Storage::Quantized { exponents: false, .. } => 2,
            Storage::Quantized { exponents: true, .. } => 3,
            Storage::Projected => 4,
            Storage::Base => 5,
            Storage::Product => 6,
            Storage::Predicted => 7,
        }
    }
}

/// The content of the section.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, entries.len() as u64);
    out.extend(entries.iter().map(|e| e.storage.code() << 4 | e.info.dtype as u8));
    put_names(&mut out, entries);
    let mut channels = None;
    for entry in entries {
        put_shape(&mut out, &entry.info.shape, &mut channels);
    }
    let mut scales = Vec::new();
    let mut origins = Vec::new();
    for entry in entries {
        match &entry.storage {
            Storage::Raw
            | Storage::Projected
            | Storage::Base
            | Storage::Product
            | Storage::Predicted => {}
            Storage::Constant { element } => out.extend_from_slice(element),
            Storage::Quantized { scale, origin, .. } => {
                scales.push(scale.to_le_bytes());
                origins.push(*origin);
            }
        }
    }
    out.extend(origins);
    for plane in 0..4 {
        out.extend(scales.iter().map(|scale| scale[plane]));
    }
    raw::deflate(&out)
}

/// Three columns: lengths of the prefixes shared with the name before, of the rest, and the rest.
fn put_names(out: &mut Vec<u8>, entries: &[Entry]) {
    let names: Vec<&[u8]> = entries.iter().map(|e| e.info.name.as_bytes()).collect();
    let before = std::iter::once(&[][..]).chain(names.iter().copied());
    let shared: Vec<usize> = names
        .iter()
        .zip(before)
        .map(|(name, before)| name.iter().zip(before).take_while(|(a, b)| a == b).count())
        .collect();
    for &length in &shared {
        put_varint(out, length as u64);
    }
    for (name, length) in names.iter().zip(&shared) {
        put_varint(out, (name.len() - length) as u64);
    }
    for (name, length) in names.iter().zip(&shared) {
        out.extend_from_slice(&name[*length..]);
    }
}

/// 0 for a vector as long as the last tensor of at least two dimensions has channels (`channels`),
/// else the number of dimensions + 1 and the dimensions.
fn put_shape(out: &mut Vec<u8>, shape: &[usize], channels: &mut Option<usize>) {
    if let [length] = shape
        && *channels == Some(*length)
    {
        return out.push(0);
    }
    out.push(shape.len() as u8 + 1);
    for &dimension in shape {
        put_varint(out, dimension as u64);
    }
    if shape.len() >= 2 {
        *channels = Some(shape[0]);
    }
}

/// The entries of a section's content, which need not agree with the other sections.
pub(super) fn decode(content: &[u8]) -> Result<Vec<Entry>, Reason> {
    let bytes = raw::inflate(content, limits::TABLE_BYTES, "the table")?;
    let mut cursor = Cursor::new(&bytes);
    let count = cursor.varint_up_to(limits::TENSORS as u64, "the number of tensors")?;
    let kinds = cursor.take(count, "the column of codings")?;
    let dtypes = kinds.iter().map(|kind| dtype(kind & 15)).collect::<Result<Vec<_>, _>>()?;
    let names = take_names(&mut cursor, count)?;
    let mut channels = None;
    let mut infos = Vec::with_capacity(count);
    for (name, dtype) in names.into_iter().zip(dtypes) {
        let shape = take_shape(&mut cursor, &mut channels, &name)?;
        infos.push(TensorInfo { name, dtype, shape });
    }
    let storages = take_storages(&mut cursor, kinds, &infos)?;
    if cursor.remaining() > 0 {
        return refuse!("{} bytes follow the last column of the table", cursor.remaining());
    }
    let entries = infos.into_iter().zip(storages);
    let mut entries: Vec<Entry> =
        entries.map(|(info, storage)| Entry { info, storage, inner: false }).collect();
    product::mark_factors(&mut entries);
    Ok(entries)
}

fn dtype(code: u8) -> Result<DType, Reason> {
    match DType::ALL.get(usize::from(code)) {
        Some(dtype) => Ok(*dtype),
        None => refuse!("unknown element type {code}"),
    }
}

fn take_names(cursor: &mut Cursor, count: usize) -> Result<Vec<String>, Reason> {
    let shared = take_lengths(cursor, count, "the prefix a name shares")?;
    let added = take_lengths(cursor, count, "the length of a name")?;
    let mut names: Vec<String> = Vec::with_capacity(count);
    let mut seen = HashSet::with_capacity(count);
    let mut total = 0;
    let mut name: Vec<u8> = Vec::new();
    for (shared, added) in shared.into_iter().zip(added) {
        if shared > name.len() {
            return refuse!("a name shares {shared} bytes with one of {} bytes", name.len());
        }
        name.truncate(shared);
        name.extend_from_slice(cursor.take(added, "a name")?);
        total += name.len();
        if name.is_empty() || name.len() > limits::NAME_BYTES || total > limits::ALL_NAME_BYTES {
            return refuse!("an empty name, or names that are too long");
        }
        let Ok(text) = std::str::from_utf8(&name) else {
            return refuse!("the name of tensor {} is not UTF-8", names.len());
        };
        if !seen.insert(text.to_owned()) {
            return refuse!("two tensors are named {}", quoted(text));
        }
        names.push(text.to_owned());
    }
    Ok(names)
}

fn take_lengths(cursor: &mut Cursor, count: usize, what: &str) -> Result<Vec<usize>, Reason> {
    (0..count).map(|_| cursor.varint_up_to(limits::NAME_BYTES as u64, what)).collect()
}

fn take_shape(
    cursor: &mut Cursor,
    channels: &mut Option<usize>,
    name: &str,
) -> Result<Vec<usize>, Reason> {
    let code = cursor.byte("a shape")?;
    if code == 0 {
        return match *channels {
            Some(length) => Ok(vec![length]),
            None => refuse!("{} has the shape of a weight before it, but none is", quoted(name)),
        };
    }
    let rank = usize::from(code - 1);
    if rank > limits::RANK {
        return refuse!("{} has {rank} dimensions, the limit is {}", quoted(name), limits::RANK);
    }
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        shape.push(cursor.varint_up_to(limits::ELEMENTS, "a dimension")?);
    }
    if element_count(&shape).is_none() {
        return refuse!("{} has too many elements: {shape:?}", quoted(name));
    }
    if rank >= 2 {
        *channels = Some(shape[0]);
    }
    Ok(shape)
}

/// Elements of a tensor of that shape, if they and their bytes are within the limits and the
/// memory that this machine can address.
pub(super) fn element_count(shape: &[usize]) -> Option<usize> {
    // A dimension of zero comes first, so that it hides no overflow of the others.
    if shape.contains(&0) {
        return Some(0);
    }
    let count = shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n))?;
    let bytes = count.checked_mul(8)?;
    (count as u64 <= limits::ELEMENTS && bytes <= isize::MAX as usize).then_some(count)
}

fn take_storages(
    cursor: &mut Cursor,
    kinds: &[u8],
    infos: &[TensorInfo],
) -> Result<Vec<Storage>, Reason> {
    let mut storages = Vec::with_capacity(infos.len());
    for (kind, info) in kinds.iter().zip(infos) {
        storages.push(match kind >> 4 {
            0 => Storage::Raw,
            1 => {
                let element = cursor.take(info.dtype.size(), "the value of a constant")?;
                Storage::Constant { element: element.to_vec() }
            }
            coding @ 2..=3 => Storage::Quantized { scale: 0.0, origin: 0, exponents: coding == 3 },
            4 => Storage::Projected,
            5 => Storage::Base,
            6 => Storage::Product,
            7 => Storage::Predicted,
            unknown => return refuse!("{} has the unknown coding {unknown}", quoted(&info.name)),
        });
    }
    let quantized = storages.iter().filter(|s| matches!(s, Storage::Quantized { .. })).count();
    let origins = cursor.take(quantized, "the column of origins")?;
    let scales = cursor.take(4 * quantized, "the column of scales")?;
    let mut index = 0;
    for storage in &mut storages {
        if let Storage::Quantized { scale, origin, .. } = storage {
            *origin = origins[index];
            let bytes = std::array::from_fn(|plane| scales[plane * quantized + index]);
            *scale = f32::from_le_bytes(bytes);
            index += 1;
        }
    }
    Ok(storages)
}

/// Refuses entries beyond the limits, that contradict themselves, or that files of this method do
/// not have.
pub(super) fn check(entries: &[Entry], method: Method) -> Result<(), Reason> {
    let mut constants = 0;
    for (index, Entry { info, storage, .. }) in entries.iter().enumerate() {
        let name = quoted(&info.name);
        match storage {
            Storage::Raw => {}
            Storage::Projected | Storage::Base if method != Method::Subspace => {
                return refuse!("{name}: a projection in a file of method {}", method.name());
            }
            Storage::Projected if info.dtype != DType::F32 => {
                return refuse!("{name}: a projection decodes to f32, not {}", info.dtype);
            }
            Storage::Projected | Storage::Base => {}
            Storage::Predicted if method != Method::Predictor => {
                return refuse!("{name}: a prediction in a file of method {}", method.name());
            }
            Storage::Predicted if info.dtype != DType::F32 => {
                return refuse!("{name}: a prediction decodes to f32, not {}", info.dtype);
            }
            Storage::Predicted => {}
            Storage::Product if method != Method::LowRank => {
                return refuse!("{name}: a product in a file of method {}", method.name());
            }
            Storage::Product => product::check(&entries[index..])?,
            Storage::Constant { .. } => {
                let count = info.element_count();
                constants += count;
                if count > limits::CONSTANT_ELEMENTS || constants > limits::ALL_CONSTANT_ELEMENTS {
                    return refuse!("{name}: a constant of {count} elements is too large");
                }
            }
            Storage::Quantized { scale, origin, exponents } => {
                if info.dtype != DType::F32 {
                    return refuse!("{name}: quantised values decode to f32, not {}", info.dtype);
                }
                if !(*scale > 0.0 && scale.is_finite()) {
                    return refuse!("{name}: the scale {scale} is not positive and finite");
                }
                if u32::from(*origin) > MAX_BIT_LENGTH {
                    return refuse!("{name}: the origin {origin} is above {MAX_BIT_LENGTH}");
                }
                if *exponents && info.shape.is_empty() {
                    return refuse!("{name}: a scalar cannot have channel exponents");
                }
            }
        }
    }
    Ok(())
}

/// Refuses more elements that come from a few others than a file of `bytes` bytes may ask for.
pub(super) fn check_expansion(entries: &[Entry], bytes: usize) -> Result<(), Reason> {
    let expanded =
        entries.iter().filter(|e| matches!(e.storage, Storage::Product | Storage::Predicted));
    let count = |entry: &Entry| entry.info.element_count() as u64;
    let (found, most) =
        (expanded.map(count).fold(0, u64::saturating_add), limits::expanded_of(bytes));
    match found > most {
        true => refuse!(
            "{found} elements of products and predictions are too many for {bytes} bytes, the limit is {most}"
        ),
        false => Ok(()),
    }
}
