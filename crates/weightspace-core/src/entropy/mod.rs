//! Entropy coding of quantised tensors: adaptive models of binary decisions and a range coder,
//! in integer arithmetic alone, so that every machine decodes the same values.

pub(crate) mod exchanges;
mod integers;
mod mixing;
mod model;
mod neighbourhood;
pub(crate) mod planes;
mod range;
mod statistics;

use range::{Decoder, Encoder};

/// What a run of symbols is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// Channel exponents, 0..=255, one per output channel.
    Exponents,
    /// Quantised values, |q| < 2^24, whose typical bit length is `origin`.
    Values { origin: u8 },
}

/// Consecutive symbols of one tensor within a section.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a> {
    /// What they are.
    pub alphabet: Alphabet,
    /// Shape of the tensor.
    pub shape: &'a [usize],
    /// Position of the first one in the tensor (or among its exponents).
    pub first: usize,
    /// How many there are.
    pub count: usize,
}

/// Encodes the symbols of a section: those of all runs, end to end.
pub(crate) fn encode(runs: &[Run], mut symbols: Vec<i32>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    model::code(&mut encoder, runs, &mut symbols);
    encoder.finish()
}

/// Decodes the symbols of a section; `None` if no encoder writes such bytes.
pub(crate) fn decode(runs: &[Run], bytes: &[u8]) -> Option<Vec<i32>> {
    let mut symbols = vec![0; runs.iter().map(|run| run.count).sum()];
    let mut decoder = Decoder::new(bytes);
    model::code(&mut decoder, runs, &mut symbols);
    (!decoder.invalid()).then_some(symbols)
}

/// The bit length that most helps [`Alphabet::Values`]: that of the median magnitude.
pub(crate) fn origin(values: &[i32]) -> u8 {
    let mut counts = [0usize; 33];
    for value in values {
        counts[bit_length(value.unsigned_abs()) as usize] += 1;
    }
    let mut below = 0;
    let median = counts.iter().position(|count| {
        below += count;
        2 * below >= values.len()
    });
    median.unwrap_or(0).min(MAX_BIT_LENGTH as usize) as u8
}

/// Bits of the largest magnitude that can be coded.
pub(crate) const MAX_BIT_LENGTH: u32 = 24;

/// Bits needed for `magnitude`: 0 for 0, 1 for 1, 2 for 2 and 3, and so on.
fn bit_length(magnitude: u32) -> u32 {
    u32::BITS - magnitude.leading_zeros()
}
