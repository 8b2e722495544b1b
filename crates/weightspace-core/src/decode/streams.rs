//! The RAW and SYMBOLS sections from the first to the last, in bounded memory.

use std::collections::VecDeque;

use crate::container::error::{Reason, refuse};
use crate::container::table::{Entry, Storage};
use crate::container::{SectionKind, WspFile, limits, quantized, raw};
use crate::entropy::{self, Alphabet};
use crate::parallel;
use crate::tensor::Tensor;

/// The RAW sections, inflated one at a time.
pub(super) struct RawBytes<'a> {
    file: &'a WspFile,
    next_section: usize,
    /// Bytes that the sections from `next_section` on cover.
    uncovered: u64,
    current: Vec<u8>,
    position: usize,
}

impl<'a> RawBytes<'a> {
    pub(super) fn new(file: &'a WspFile) -> Self {
        let raw = file.entries().iter().filter(|entry| entry.storage == Storage::Raw);
        let uncovered = raw.map(|entry| entry.info.byte_count() as u64).sum();
        RawBytes { file, next_section: 0, uncovered, current: Vec::new(), position: 0 }
    }

    pub(super) fn tensor(&mut self, entry: &Entry) -> Result<Tensor, Reason> {
        let count = entry.info.byte_count();
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            if self.position == self.current.len() {
                self.advance()?;
            }
            let rest = &self.current[self.position..];
            let taken = rest.len().min(count - bytes.len());
            bytes.extend_from_slice(&rest[..taken]);
            self.position += taken;
        }
        Ok(Tensor::from_bytes(entry.info.dtype, entry.info.shape.clone(), bytes))
    }

    fn advance(&mut self) -> Result<(), Reason> {
        let covered = self.uncovered.min(limits::SECTION_RAW_BYTES as u64);
        let content = self.file.content(SectionKind::Raw, self.next_section);
        self.current = raw::decode(content, covered as usize)?;
        self.uncovered -= covered;
        self.next_section += 1;
        self.position = 0;
        Ok(())
    }
}

/// Symbols of one tensor that have been decoded.
struct Part {
    tensor: usize,
    alphabet: Alphabet,
    symbols: Vec<i32>,
}

/// The SYMBOLS sections, decoded a few at a time.
pub(super) struct Symbols<'a> {
    file: &'a WspFile,
    next_section: usize,
    parts: VecDeque<Part>,
}

impl<'a> Symbols<'a> {
    pub(super) fn new(file: &'a WspFile) -> Self {
        Symbols { file, next_section: 0, parts: VecDeque::new() }
    }

    pub(super) fn tensor(
        &mut self,
        index: usize,
        entry: &Entry,
        scale: f32,
        has_exponents: bool,
    ) -> Result<Tensor, Reason> {
        let shape = &entry.info.shape;
        let channels = shape.first().copied().unwrap_or(1);
        let mut exponents: Vec<u8> = Vec::new();
        while has_exponents && exponents.len() < channels {
            for symbol in self.part(index, true)? {
                let Ok(exponent) = u8::try_from(symbol) else {
                    return refuse!("a channel exponent is {symbol}, expected 0 to 255");
                };
                exponents.push(exponent);
            }
        }
        let count = entry.info.element_count();
        let row = count.checked_div(channels).unwrap_or(0);
        let mut values: Vec<f32> = Vec::with_capacity(count);
        while values.len() < count {
            let mut part = &self.part(index, false)?[..];
            while !part.is_empty() {
                let (channel, column) = (values.len() / row, values.len() % row);
                let (of_channel, rest) = part.split_at(part.len().min(row - column));
                let step = match exponents.get(channel) {
                    Some(&exponent) => quantized::channel_scale(scale, exponent),
                    None => scale,
                };
                values.extend(of_channel.iter().map(|&q| quantized::dequantize(q, step)));
                part = rest;
            }
        }
        Ok(Tensor::from_f32(shape.clone(), &values))
    }

    /// The next symbols, which are those of that tensor.
    fn part(&mut self, tensor: usize, exponents: bool) -> Result<Vec<i32>, Reason> {
        if self.parts.is_empty() {
            self.advance()?;
        }
        match self.parts.pop_front() {
            Some(part)
                if part.tensor == tensor && (part.alphabet == Alphabet::Exponents) == exponents =>
            {
                Ok(part.symbols)
            }
            _ => refuse!("the sections of symbols end too early"),
        }
    }

    /// Decodes the next sections, as many as there are threads.
    fn advance(&mut self) -> Result<(), Reason> {
        let (plan, entries) = (self.file.plan(), self.file.entries());
        let left = plan.section_count() as usize - self.next_section;
        let first = self.next_section;
        let count = left.min(parallel::width());
        let decoded = parallel::map(count, |i| {
            let runs = plan.runs(entries, first + i);
            let content = self.file.content(SectionKind::Symbols, first + i);
            let (tensors, runs): (Vec<usize>, Vec<_>) = runs.into_iter().unzip();
            let symbols = entropy::decode(&runs, content)?;
            let mut rest = &symbols[..];
            let mut parts = Vec::with_capacity(runs.len());
            for (tensor, run) in tensors.into_iter().zip(&runs) {
                let (symbols, after) = rest.split_at(run.count);
                rest = after;
                parts.push(Part { tensor, alphabet: run.alphabet, symbols: symbols.to_vec() });
            }
            Some(parts)
        });
        self.next_section += count;
        for parts in decoded {
            let Some(parts) = parts else {
                return refuse!("a section of symbols does not decode");
            };
            self.parts.extend(parts);
        }
        Ok(())
    }
}
