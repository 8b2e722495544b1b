//! Any elements of raw and quantised tensors, by the sections that hold them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::container::error::{Reason, refuse};
use crate::container::table::Storage;
use crate::container::{SectionKind, WspFile, limits, quantized, raw};
use crate::entropy;

/// Access to the RAW and SYMBOLS sections in any order.
pub(super) struct StoredRows<'a> {
    file: &'a WspFile,
    /// Where the bytes of each raw tensor begin; for others where the next ones do.
    raw_positions: Vec<u64>,
    raw_total: u64,
    raw: Recent<Vec<u8>>,
    symbols: Recent<Vec<i32>>,
}

impl<'a> StoredRows<'a> {
    pub(super) fn new(file: &'a WspFile) -> Self {
        let mut raw_total = 0;
        let positions = file.entries().iter().map(|entry| {
            let position = raw_total;
            if entry.storage == Storage::Raw {
                raw_total += entry.info.byte_count() as u64;
            }
            position
        });
        let raw_positions = positions.collect();
        StoredRows { file, raw_positions, raw_total, raw: Recent::new(), symbols: Recent::new() }
    }

    /// Bytes of elements of a raw tensor.
    pub(super) fn raw(&self, index: usize, elements: Range<usize>) -> Result<Vec<u8>, Reason> {
        let size = self.file.entries()[index].info.dtype.size();
        let position = |element: usize| self.raw_positions[index] + (element * size) as u64;
        let mut bytes = Vec::with_capacity(elements.len() * size);
        let range = position(elements.start)..position(elements.end);
        pieces(range, limits::SECTION_RAW_BYTES, |section, part| {
            let content = self.raw.get(section, || self.raw_section(section))?;
            bytes.extend_from_slice(&content[part]);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Elements of a quantised tensor.
    pub(super) fn quantized(
        &self,
        index: usize,
        elements: Range<usize>,
        scale: f32,
        has_exponents: bool,
    ) -> Result<Vec<f32>, Reason> {
        let row: usize = self.file.entries()[index].info.shape.iter().skip(1).product();
        let first_row = elements.start.checked_div(row).unwrap_or(0);
        let mut steps = vec![scale; elements.len().div_ceil(row.max(1))];
        if has_exponents {
            let exponents = self.symbols(index, true, first_row..first_row + steps.len())?;
            for (step, exponent) in steps.iter_mut().zip(exponents) {
                let Ok(exponent) = u8::try_from(exponent) else {
                    return refuse!("a channel exponent is {exponent}, expected 0 to 255");
                };
                *step = quantized::channel_scale(scale, exponent);
            }
        }
        let values = self.symbols(index, false, elements)?;
        let rows = values.chunks(row.max(1)).zip(steps);
        Ok(rows
            .flat_map(|(row, step)| row.iter().map(move |&q| quantized::dequantize(q, step)))
            .collect())
    }

    fn symbols(
        &self,
        index: usize,
        exponents: bool,
        range: Range<usize>,
    ) -> Result<Vec<i32>, Reason> {
        let first = self.file.plan().position(index, exponents);
        let mut symbols = Vec::with_capacity(range.len());
        let range = first + range.start as u64..first + range.end as u64;
        pieces(range, limits::SECTION_SYMBOLS, |section, part| {
            let content = self.symbols.get(section, || self.symbols_section(section))?;
            symbols.extend_from_slice(&content[part]);
            Ok(())
        })?;
        Ok(symbols)
    }

    fn raw_section(&self, section: usize) -> Result<Vec<u8>, Reason> {
        let before = (section * limits::SECTION_RAW_BYTES) as u64;
        let covered = (self.raw_total - before).min(limits::SECTION_RAW_BYTES as u64);
        raw::decode(self.file.content(SectionKind::Raw, section), covered as usize)
    }

    fn symbols_section(&self, section: usize) -> Result<Vec<i32>, Reason> {
        let runs = self.file.plan().runs(self.file.entries(), section);
        let runs: Vec<_> = runs.into_iter().map(|(_, run)| run).collect();
        match entropy::decode(&runs, self.file.content(SectionKind::Symbols, section)) {
            Some(symbols) => Ok(symbols),
            None => refuse!("a section of symbols does not decode"),
        }
    }
}

/// Calls `visit` for all sections of that size that `range` touches, with the part of each.
fn pieces(
    range: Range<u64>,
    size: usize,
    mut visit: impl FnMut(usize, Range<usize>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let mut position = range.start;
    while position < range.end {
        let (section, begin) = (position / size as u64, position % size as u64);
        let count = (size as u64 - begin).min(range.end - position);
        visit(section as usize, begin as usize..(begin + count) as usize)?;
        position += count;
    }
    Ok(())
}

/// The sections that were used last: so that going through a tensor row by row decodes each once, even if the
/// exponents stand in another section than the values, the bias of the layer in a third, and rows reach into a fourth.
struct Recent<T>(Mutex<VecDeque<(usize, Arc<T>)>>);

impl<T> Recent<T> {
    const KEPT: usize = 4;

    fn new() -> Self {
        Recent(Mutex::new(VecDeque::new()))
    }

    fn get(
        &self,
        section: usize,
        decode: impl FnOnce() -> Result<T, Reason>,
    ) -> Result<Arc<T>, Reason> {
        // What a thread that panicked leaves behind is whole.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut recent = lock();
            if let Some(at) = recent.iter().position(|(number, _)| *number == section)
                && let Some((number, found)) = recent.remove(at)
            {
                recent.push_back((number, Arc::clone(&found)));
                return Ok(found);
            }
        }
        let decoded = Arc::new(decode()?);
        let mut recent = lock();
        recent.push_back((section, Arc::clone(&decoded)));
        if recent.len() > Self::KEPT {
            recent.pop_front();
        }
        Ok(decoded)
    }
}
