//! Encoding of a `.wsp` file.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use super::error::{Reason, WspError, refuse};
use super::framing::{self, SectionKind};
use super::order::Permutations;
use super::plan::Plan;
use super::predictor::{self, Predicted};
use super::projection::{self, PlaneInfo, Projected};
use super::table::{self, Entry, Storage};
use super::{Coding, Header, Method, Quantized, limits, product, raw};
use crate::atomic_file::AtomicFile;
use crate::entropy::planes::{self, MAX_PLANES};
use crate::entropy::{self, Alphabet, MAX_BIT_LENGTH};
use crate::parallel;
use crate::tensor::TensorInfo;
use crate::text::quoted;

/// Writes a `.wsp` file, whole or not at all; returns its size in bytes.
///
/// # Errors
/// `Unwritable` as [`encode`], `Io` if the file cannot be written.
pub fn write(path: &Path, header: &Header, tensors: &[(String, Coding)]) -> Result<u64, WspError> {
    write_bytes(path, &encode(header, tensors)?)
}

/// As [`write()`], with coefficients that the projected tensors are made of.
///
/// # Errors
/// `Unwritable` as [`encode_projected`], `Io` if the file cannot be written.
pub fn write_projected(
    path: &Path,
    header: &Header,
    tensors: &[(String, Coding)],
    projected: &Projected,
    coefficients: &[i32],
) -> Result<u64, WspError> {
    write_bytes(path, &encode_projected(header, tensors, projected, coefficients)?)
}

/// As [`write()`], with the predictor of the predicted tensors.
///
/// # Errors
/// `Unwritable` as [`encode_predicted`], `Io` if the file cannot be written.
pub fn write_predicted(
    path: &Path,
    header: &Header,
    tensors: &[(String, Coding)],
    predicted: &Predicted,
    inner: &[(String, Coding)],
) -> Result<u64, WspError> {
    write_bytes(path, &encode_predicted(header, tensors, predicted, inner)?)
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<u64, WspError> {
    let at = |source| WspError::io(path, source);
    let mut file = AtomicFile::create(path).map_err(at)?;
    file.write_all(bytes).map_err(at)?;
    file.commit().map_err(at)?;
    Ok(bytes.len() as u64)
}

/// The bytes of a `.wsp` file: the same whatever the number of threads.
///
/// # Errors
/// `Unwritable` if names are empty or repeated, numbers of elements do not agree with shapes,
/// a scale is not positive and finite, a quantised magnitude is 2^24 or more, a constant is not
/// representable, factors do not fit together, the method or a tensor needs a projection, or a limit of docs/format.md is
/// exceeded.
pub fn encode(header: &Header, tensors: &[(String, Coding)]) -> Result<Vec<u8>, WspError> {
    encode_checked(header, tensors, Source::Stored).map_err(unwritable)
}

/// As [`encode`], with coefficients that the projected tensors are made of: those of all segments end
/// to end. The method must be [`Subspace`](super::Method::Subspace).
///
/// # Errors
/// `Unwritable` as [`encode`]; and if the projection contradicts itself or the tensors, or a
/// coefficient has a magnitude of 2^15 or more.
pub fn encode_projected(
    header: &Header,
    tensors: &[(String, Coding)],
    projected: &Projected,
    coefficients: &[i32],
) -> Result<Vec<u8>, WspError> {
    encode_checked(header, tensors, Source::Projection(projected, coefficients)).map_err(unwritable)
}

/// As [`encode`], with the predictor of the predicted tensors. Its parts are `inner` tensors: a table for
/// each axis if the encoding has such; weight `[outputs, inputs]` and bias `[outputs]` of each layer, of the
/// first layer of [`Encoding::DirectTables`](crate::predictor::Encoding::DirectTables) only the bias; the
/// masks of the masked tensors. All are [`Raw`](Coding::Raw), [`Constant`](Coding::Constant) or
/// [`Quantized`](Coding::Quantized), of type f32, f16 or bf16, masks also bool. The method must be
/// [`Predictor`](super::Method::Predictor).
///
/// # Errors
/// `Unwritable` as [`encode`]; and if the predictor contradicts itself or the tensors.
pub fn encode_predicted(
    header: &Header,
    tensors: &[(String, Coding)],
    predicted: &Predicted,
    inner: &[(String, Coding)],
) -> Result<Vec<u8>, WspError> {
    encode_checked(header, tensors, Source::Predictor(predicted, inner)).map_err(unwritable)
}

/// What tensors that are not stored are made of.
#[derive(Clone, Copy)]
enum Source<'a> {
    Stored,
    Projection(&'a Projected, &'a [i32]),
    Predictor(&'a Predicted, &'a [(String, Coding)]),
}

fn unwritable(Reason(reason): Reason) -> WspError {
    WspError::Unwritable { reason }
}

fn encode_checked(
    header: &Header,
    tensors: &[(String, Coding)],
    source: Source,
) -> Result<Vec<u8>, Reason> {
    if (header.method == Method::Subspace) != matches!(source, Source::Projection(..)) {
        return refuse!("the method subspace, and no other, needs a projection");
    }
    if (header.method == Method::Predictor) != matches!(source, Source::Predictor(..)) {
        return refuse!("the method predictor, and no other, needs a predictor");
    }
    for text in [&header.arch, &header.data, &header.preprocessing] {
        if text.len() > limits::TEXT_BYTES {
            return refuse!("a text of {} bytes in the header is too long", text.len());
        }
    }
    let mut rows: Vec<Row> =
        tensors.iter().flat_map(|(name, coding)| Row::of(name, coding)).collect();
    if let Source::Predictor(_, inner) = source {
        let inner = inner.iter().map(|(name, coding)| (name.into(), coding));
        rows.extend(inner.map(|(name, coding)| Row { name, coding, inner: true }));
    }
    let entries = entries(&rows, header.method)?;
    let codings: Vec<&Coding> = rows.iter().map(|row| row.coding).collect();
    let mut out = Vec::new();
    framing::put_header(&mut out, header);
    framing::put_section(&mut out, SectionKind::Table, &table::encode(&entries));
    for content in symbol_sections(&entries, &codings) {
        framing::put_section(&mut out, SectionKind::Symbols, &content);
    }
    for content in raw_sections(&codings) {
        framing::put_section(&mut out, SectionKind::Raw, &content);
    }
    match source {
        Source::Stored => {}
        Source::Projection(projected, coefficients) => {
            put_projection(&mut out, &entries, projected, coefficients)?;
        }
        Source::Predictor(predicted, inner) => {
            put_predictor(&mut out, &entries, predicted, inner.len())?;
        }
    }
    let sum = framing::checksum(&out);
    out.extend_from_slice(&sum);
    table::check_expansion(&entries, out.len())?;
    Ok(out)
}

/// What an entry of the table is made from.
struct Row<'a> {
    name: Cow<'a, str>,
    coding: &'a Coding,
    inner: bool,
}

impl<'a> Row<'a> {
    /// The entries of a tensor: itself, and behind it the factors of a product.
    fn of(name: &'a str, coding: &'a Coding) -> Vec<Self> {
        let mut rows = vec![Row { name: name.into(), coding, inner: false }];
        if let Coding::Product { left, right, .. } = coding {
            for (coding, suffix) in [left, right].into_iter().zip(product::SUFFIXES) {
                rows.push(Row { name: format!("{name}{suffix}").into(), coding, inner: true });
            }
        }
        rows
    }
}

fn entries(rows: &[Row], method: Method) -> Result<Vec<Entry>, Reason> {
    if rows.len() > limits::TENSORS {
        return refuse!("{} tensors, the limit is {}", rows.len(), limits::TENSORS);
    }
    let mut names = HashSet::with_capacity(rows.len());
    let mut entries = Vec::with_capacity(rows.len());
    for Row { name, coding, inner } in rows {
        if name.is_empty() || name.len() > limits::NAME_BYTES || !names.insert(name) {
            return refuse!("the name {} is empty, too long or given twice", quoted(name));
        }
        entries.push(Entry { inner: *inner, ..entry(name, coding)? });
    }
    if names.iter().map(|name| name.len()).sum::<usize>() > limits::ALL_NAME_BYTES {
        return refuse!("the names are too long together");
    }
    table::check(&entries, method)?;
    Ok(entries)
}

fn entry(name: &str, coding: &Coding) -> Result<Entry, Reason> {
    let shape = coding.shape().to_vec();
    let dtype = coding.dtype();
    let small = shape.len() <= limits::RANK && shape.iter().all(|&n| n as u64 <= limits::ELEMENTS);
    let Some(count) = table::element_count(&shape).filter(|_| small) else {
        return refuse!("{}: the shape {shape:?} is beyond the limits", quoted(name));
    };
    let storage = match coding {
        Coding::Raw(_) => Storage::Raw,
        Coding::Constant { value, .. } => match value.to_bytes(dtype) {
            Some(element) => Storage::Constant { element },
            None => return refuse!("{}: {value} is no value of type {dtype}", quoted(name)),
        },
        Coding::Quantized(quantized) => quantized_storage(name, count, quantized)?,
        Coding::Projected { .. } => Storage::Projected,
        Coding::Predicted { .. } => Storage::Predicted,
        Coding::Base { .. } => Storage::Base,
        Coding::Product { .. } => Storage::Product,
    };
    Ok(Entry { info: TensorInfo { name: name.to_owned(), dtype, shape }, storage, inner: false })
}

fn quantized_storage(name: &str, count: usize, tensor: &Quantized) -> Result<Storage, Reason> {
    let Quantized { shape, scale, channel_exponents, values } = tensor;
    if values.len() != count {
        return refuse!("{}: {} values, its shape has {count}", quoted(name), values.len());
    }
    if let Some(exponents) = channel_exponents
        && shape.first() != Some(&exponents.len())
    {
        return refuse!("{}: {} channel exponents for {shape:?}", quoted(name), exponents.len());
    }
    if let Some(value) = values.iter().find(|q| q.unsigned_abs() >> MAX_BIT_LENGTH != 0) {
        return refuse!("{}: the quantised value {value} has 2^24 or more", quoted(name));
    }
    let origin = entropy::origin(values);
    Ok(Storage::Quantized { scale: *scale, origin, exponents: channel_exponents.is_some() })
}

fn symbol_sections(entries: &[Entry], codings: &[&Coding]) -> Vec<Vec<u8>> {
    let plan = Plan::new(entries);
    let sections = usize::try_from(plan.section_count()).expect("the symbols are in memory");
    parallel::map(sections, |section| {
        let mut symbols = Vec::with_capacity(plan.covered(section));
        let mut runs = Vec::new();
        for (tensor, run) in plan.runs(entries, section) {
            let Coding::Quantized(tensor) = codings[tensor] else { continue };
            let range = run.first..run.first + run.count;
            match (run.alphabet, &tensor.channel_exponents) {
                (Alphabet::Values { .. }, _) => symbols.extend_from_slice(&tensor.values[range]),
                (Alphabet::Exponents, Some(exponents)) => {
                    symbols.extend(exponents[range].iter().map(|&e| i32::from(e)));
                }
                (Alphabet::Exponents, None) => continue,
            }
            runs.push(run);
        }
        let mut content = entropy::encode(&runs, symbols);
        // Zero bytes behind the end change nothing for the decoder, which supplies them anyway.
        while limits::symbols_of(content.len()) < plan.covered(section) {
            content.push(0);
        }
        content
    })
}

fn put_projection(
    out: &mut Vec<u8>,
    entries: &[Entry],
    projected: &Projected,
    coefficients: &[i32],
) -> Result<(), Reason> {
    projection::check(projected, entries)?;
    let count = projected.coefficient_count();
    if coefficients.len() != count {
        return refuse!("{} coefficients, the segments have {count}", coefficients.len());
    }
    if let Some(value) = coefficients.iter().find(|q| q.unsigned_abs() >> MAX_PLANES != 0) {
        return refuse!("the coefficient {value} has 2^{MAX_PLANES} or more");
    }
    projection::check_sums(projected, coefficients)?;
    let segments: Vec<usize> = projected.segments.iter().map(|s| s.coefficients).collect();
    let mut infos = Vec::new();
    let mut contents = Vec::new();
    for section in planes::encode(&segments, coefficients) {
        let planes = section.planes;
        let content = projection::plane_content(section, count);
        infos.push(PlaneInfo { planes, length: content.len() + framing::CHECK_BYTES });
        contents.push(content);
    }
    let content = projection::encode(projected, &infos);
    framing::put_checked_section(out, SectionKind::Projection, &content);
    for content in contents {
        framing::put_checked_section(out, SectionKind::Plane, &content);
    }
    Ok(())
}

fn put_predictor(
    out: &mut Vec<u8>,
    entries: &[Entry],
    predicted: &Predicted,
    inner: usize,
) -> Result<(), Reason> {
    let info = predicted.info(inner);
    predictor::check(&info, entries)?;
    let tilings = || info.tilings(entries);
    let orders = predicted.tensors.iter().map(|tensor| &tensor.order);
    for ((tiling, _), order) in tilings().zip(orders.clone()) {
        order.check(&tiling)?;
    }
    framing::put_section(out, SectionKind::Predictor, &predictor::encode(&info));
    let tensors = tilings().map(|(tiling, _)| tiling).zip(orders);
    for content in Permutations::new(tilings()).encode(tensors) {
        framing::put_section(out, SectionKind::Order, &content);
    }
    Ok(())
}

fn raw_sections(codings: &[&Coding]) -> Vec<Vec<u8>> {
    let raw = codings.iter().filter_map(|coding| match coding {
        Coding::Raw(tensor) => Some(tensor.bytes()),
        _ => None,
    });
    let bytes = raw.collect::<Vec<_>>().concat();
    let chunks: Vec<&[u8]> = bytes.chunks(limits::SECTION_RAW_BYTES).collect();
    parallel::map(chunks.len(), |section| raw::encode(chunks[section]))
}
