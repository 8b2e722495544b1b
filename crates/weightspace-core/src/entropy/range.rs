//! Binary decisions in the range coder of `constriction`.

use std::borrow::Borrow;
use std::num::NonZeroU32;

use constriction::UnwrapInfallible;
use constriction::backends::Cursor;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};

/// Bits of a probability.
pub(super) const PRECISION: usize = 16;

/// One side of the coder. Models are written once, for both: the encoder gets the decision and
/// returns it, the decoder ignores what it gets and returns the decision it reads.
pub(super) trait Coder {
    /// Codes a decision that is true with probability `p_true` / 2^16, where 0 < `p_true` < 2^16.
    fn bit(&mut self, bit: bool, p_true: u32) -> bool;

    /// Codes the lowest `count` <= 16 bits of `value`, each pattern equally probable.
    fn uniform(&mut self, value: u32, count: u32) -> u32;
}

pub(super) struct Encoder(DefaultRangeEncoder);

impl Encoder {
    pub(super) fn new() -> Self {
        Encoder(DefaultRangeEncoder::new())
    }

    /// About how many bytes [`finish`](Self::finish) would give.
    pub(super) fn byte_count(&self) -> usize {
        self.0.num_bits() / 8
    }

    /// The words, little-endian, without the zero bytes at the end: the decoder supplies them.
    pub(super) fn finish(self) -> Vec<u8> {
        let words = self.0.into_compressed().unwrap_infallible();
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
        bytes
    }
}

impl Coder for Encoder {
    #[inline]
    fn bit(&mut self, bit: bool, p_true: u32) -> bool {
        self.0.encode_symbol(bit, Decision { p_true }).expect("both outcomes are possible");
        bit
    }

    #[inline]
    fn uniform(&mut self, value: u32, count: u32) -> u32 {
        self.0.encode_symbol(value, Uniform { count }).expect("all patterns are possible");
        value
    }
}

pub(super) struct Decoder {
    coder: DefaultRangeDecoder<Cursor<u32, Vec<u32>>>,
    /// Set by a code that no encoder writes; everything after it is arbitrary.
    invalid: bool,
}

impl Decoder {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        };
        let words: Vec<u32> = bytes.chunks(4).map(word).collect();
        let coder = DefaultRangeDecoder::from_compressed(words).unwrap_infallible();
        Decoder { coder, invalid: false }
    }

    /// True when the bytes cannot have come from the encoder.
    pub(super) fn invalid(&self) -> bool {
        self.invalid
    }
}

impl Coder for Decoder {
    #[inline]
    fn bit(&mut self, _: bool, p_true: u32) -> bool {
        self.coder.decode_symbol(Decision { p_true }).unwrap_or_else(|_| {
            self.invalid = true;
            false
        })
    }

    #[inline]
    fn uniform(&mut self, _: u32, count: u32) -> u32 {
        self.coder.decode_symbol(Uniform { count }).unwrap_or_else(|_| {
            self.invalid = true;
            0
        })
    }
}

/// True occupies [0, p_true), false the rest.
#[derive(Clone, Copy)]
struct Decision {
    p_true: u32,
}

impl EntropyModel<PRECISION> for Decision {
    type Symbol = bool;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Decision {
    #[inline]
    fn left_cumulative_and_probability(
        &self,
        symbol: impl Borrow<bool>,
    ) -> Option<(u32, NonZeroU32)> {
        let (left, width) = match *symbol.borrow() {
            true => (0, self.p_true),
            false => (self.p_true, (1 << PRECISION) - self.p_true),
        };
        Some((left, NonZeroU32::new(width)?))
    }
}

impl DecoderModel<PRECISION> for Decision {
    #[inline]
    fn quantile_function(&self, quantile: u32) -> (bool, u32, NonZeroU32) {
        let symbol = quantile < self.p_true;
        let interval = self.left_cumulative_and_probability(symbol);
        let (left, width) = interval.expect("probabilities lie strictly between 0 and 1");
        (symbol, left, width)
    }
}

/// 2^count equally probable patterns.
#[derive(Clone, Copy)]
struct Uniform {
    count: u32,
}

impl Uniform {
    fn shift(&self) -> u32 {
        PRECISION as u32 - self.count
    }
}

impl EntropyModel<PRECISION> for Uniform {
    type Symbol = u32;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Uniform {
    #[inline]
    fn left_cumulative_and_probability(
        &self,
        symbol: impl Borrow<u32>,
    ) -> Option<(u32, NonZeroU32)> {
        Some((*symbol.borrow() << self.shift(), NonZeroU32::new(1 << self.shift())?))
    }
}

impl DecoderModel<PRECISION> for Uniform {
    #[inline]
    fn quantile_function(&self, quantile: u32) -> (u32, u32, NonZeroU32) {
        let symbol = quantile >> self.shift();
        let width = NonZeroU32::new(1 << self.shift()).expect("a power of two");
        (symbol, symbol << self.shift(), width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_and_patterns_come_back() {
        let mut encoder = Encoder::new();
        let probability = |i: u32| i.wrapping_mul(2_654_435_761) >> 16 | 1;
        for i in 0..10_000u32 {
            encoder.bit(i % 7 == 0, probability(i));
            encoder.uniform(i & 0x3ff, 10);
        }
        let mut decoder = Decoder::new(&encoder.finish());
        for i in 0..10_000u32 {
            assert_eq!(decoder.bit(false, probability(i)), i % 7 == 0);
            assert_eq!(decoder.uniform(0, 10), i & 0x3ff);
        }
        assert!(!decoder.invalid());
    }

    #[test]
    fn nothing_takes_no_bytes() {
        assert!(Encoder::new().finish().is_empty());
    }
}
