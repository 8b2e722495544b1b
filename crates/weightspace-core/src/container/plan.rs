//! Which symbols of which tensors each SYMBOLS section covers.

use super::limits::SECTION_SYMBOLS;
use super::table::{Entry, Storage};
use crate::entropy::{Alphabet, Run};

/// Consecutive symbols of one tensor: its channel exponents, or its values.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    tensor: usize,
    alphabet: Alphabet,
    /// Position among the symbols of all tensors.
    start: u64,
    count: usize,
}

/// The symbols of all quantised tensors end to end, in the order of the table: of each tensor first
/// the exponents, then the values. Every section but the last covers 2^20 of them.
#[derive(Debug)]
pub(crate) struct Plan {
    stretches: Vec<Stretch>,
    total: u64,
}

impl Plan {
    pub(crate) fn new(entries: &[Entry]) -> Self {
        let mut plan = Plan { stretches: Vec::new(), total: 0 };
        for (tensor, entry) in entries.iter().enumerate() {
            let Storage::Quantized { origin, exponents, .. } = entry.storage else { continue };
            if exponents {
                let channels = entry.info.shape.first().copied().unwrap_or(0);
                plan.push(tensor, Alphabet::Exponents, channels);
            }
            plan.push(tensor, Alphabet::Values { origin }, entry.info.element_count());
        }
        plan
    }

    fn push(&mut self, tensor: usize, alphabet: Alphabet, count: usize) {
        if count > 0 {
            self.stretches.push(Stretch { tensor, alphabet, start: self.total, count });
            self.total = self.total.saturating_add(count as u64);
        }
    }

    /// Symbols of all tensors.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Number of sections.
    pub(crate) fn section_count(&self) -> u64 {
        self.total.div_ceil(SECTION_SYMBOLS as u64)
    }

    /// Position of the first exponent, or of the first value, of a tensor among all symbols.
    pub(crate) fn position(&self, tensor: usize, exponents: bool) -> u64 {
        let is_exponents = |s: &Stretch| s.alphabet == Alphabet::Exponents;
        let key = |s: &Stretch| (s.tensor, !is_exponents(s));
        let index = self.stretches.partition_point(|s| key(s) < (tensor, !exponents));
        self.stretches.get(index).map_or(self.total, |s| s.start)
    }

    /// Symbols that a section covers.
    pub(crate) fn covered(&self, section: usize) -> usize {
        let before = section as u64 * SECTION_SYMBOLS as u64;
        self.total.saturating_sub(before).min(SECTION_SYMBOLS as u64) as usize
    }

    /// What a section covers: of each tensor concerned its index and the run of symbols.
    pub(crate) fn runs<'a>(&self, entries: &'a [Entry], section: usize) -> Vec<(usize, Run<'a>)> {
        let begin = section as u64 * SECTION_SYMBOLS as u64;
        let end = begin + self.covered(section) as u64;
        let first = self.stretches.partition_point(|s| s.start + s.count as u64 <= begin);
        let concerned = self.stretches[first..].iter().take_while(|s| s.start < end);
        concerned
            .map(|s| {
                let from = begin.max(s.start);
                let until = end.min(s.start + s.count as u64);
                let shape = entries[s.tensor].info.shape.as_slice();
                let (first, count) = ((from - s.start) as usize, (until - from) as usize);
                (s.tensor, Run { alphabet: s.alphabet, shape, first, count })
            })
            .collect()
    }
}
