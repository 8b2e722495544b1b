//! The models of a section: what carries over from tensor to tensor.

use super::integers::Integers;
use super::neighbourhood::{
    Filter, KINDS, MAGNITUDE_CONTEXTS, Neighbourhood, SIGN_CONTEXTS, SIGN_KINDS,
};
use super::range::Coder;
use super::statistics::Mean;
use super::{Alphabet, Run, bit_length};
use crate::InstructionSet;

/// Codes the symbols of all runs, in place.
pub(super) fn code(coder: &mut impl Coder, runs: &[Run], symbols: &mut [i32]) {
    code_with(InstructionSet::best(), coder, runs, symbols);
}

/// As [`code`], compiled for one instruction set: which it is changes no result.
fn code_with(set: InstructionSet, coder: &mut impl Coder, runs: &[Run], symbols: &mut [i32]) {
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 | InstructionSet::Avx512
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt") =>
        {
            // SAFETY: the processor has what the function is compiled for.
            unsafe { code_avx2(coder, runs, symbols) }
        }
        _ => code_runs(coder, runs, symbols),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn code_avx2(coder: &mut impl Coder, runs: &[Run], symbols: &mut [i32]) {
    code_runs(coder, runs, symbols);
}

#[inline(always)]
fn code_runs(coder: &mut impl Coder, runs: &[Run], symbols: &mut [i32]) {
    let mut exponents = Exponents::new();
    let mut values = Values::new();
    let mut rest = symbols;
    for run in runs {
        let (symbols, after) = rest.split_at_mut(run.count);
        rest = after;
        match run.alphabet {
            Alphabet::Exponents => exponents.code(coder, symbols),
            Alphabet::Values { origin } => values.code(coder, run, origin.into(), symbols),
        }
    }
}

/// Channel exponents: differences from their running mean.
struct Exponents {
    integers: Integers<2, 1>,
    mean: Mean,
    /// Bit length of the last difference.
    last: u32,
}

impl Exponents {
    /// Typical bit length of a difference.
    const ORIGIN: u32 = 3;

    fn new() -> Self {
        let integers = Integers::new([1, 25], [1]);
        Exponents { integers, mean: Mean::new(0, 0), last: 0 }
    }

    #[inline(always)]
    fn code(&mut self, coder: &mut impl Coder, symbols: &mut [i32]) {
        for symbol in symbols {
            let expected = ((self.mean.value() + 128) >> 8) as i32;
            let difference = *symbol - expected;
            let contexts = [0, self.last as usize];
            let magnitude = difference.unsigned_abs();
            let magnitude = self.integers.magnitude(coder, magnitude, Self::ORIGIN, &contexts);
            let negative = magnitude > 0 && self.integers.sign(coder, difference < 0, &[0]);
            let difference = if negative { -(magnitude as i32) } else { magnitude as i32 };
            *symbol = expected + difference;
            self.last = bit_length(magnitude);
            // Only a damaged file has others.
            let exponent = (*symbol).clamp(0, 255) as u32;
            self.mean.observe(exponent << 8, 30);
        }
    }
}

/// Values of quantised tensors.
struct Values {
    integers: Integers<KINDS, SIGN_KINDS>,
    filter: Filter,
}

impl Values {
    fn new() -> Self {
        let integers = Integers::new(MAGNITUDE_CONTEXTS, SIGN_CONTEXTS);
        Values { integers, filter: Filter::new() }
    }

    #[inline(always)]
    fn code(&mut self, coder: &mut impl Coder, run: &Run, origin: u32, symbols: &mut [i32]) {
        let mut neighbourhood = Neighbourhood::new(run.shape, run.first, origin);
        for i in 0..symbols.len() {
            let (before, rest) = symbols.split_at_mut(i);
            let value = &mut rest[0];
            let place = neighbourhood.look(before, &self.filter);
            let magnitude = value.unsigned_abs();
            let magnitude = self.integers.magnitude(coder, magnitude, origin, &place.contexts());
            let mut decoded = magnitude as i32;
            if magnitude > 0 {
                // The sign is coded relative to the expected one.
                let opposite = (*value < 0) != place.expects_negative();
                let contexts = place.sign_contexts(magnitude);
                let opposite = self.integers.sign(coder, opposite, &contexts);
                if opposite != place.expects_negative() {
                    decoded = -decoded;
                }
            }
            *value = decoded;
            neighbourhood.learn(before, &place, decoded, &mut self.filter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::range::{Decoder, Encoder};
    use super::*;

    #[test]
    fn all_instruction_sets_code_alike() {
        let shape = [8, 4, 3, 3];
        let word = |n: u32| (n.wrapping_mul(2_654_435_761) ^ (n << 7)).wrapping_mul(747_796_405);
        let mut symbols: Vec<i32> = (0..8).map(|n| (word(n) % 256) as i32).collect();
        symbols.extend((0..288).map(|n| {
            let magnitude = (word(n) >> (8 + word(n + 1) % 24)) as i32;
            if word(n) & 1 == 1 { -magnitude } else { magnitude }
        }));
        let alphabets = [(Alphabet::Exponents, 8), (Alphabet::Values { origin: 3 }, 288)];
        let runs =
            alphabets.map(|(alphabet, count)| Run { alphabet, shape: &shape, first: 0, count });
        let coded = InstructionSet::available().into_iter().map(|set| {
            let mut encoder = Encoder::new();
            code_with(set, &mut encoder, &runs, &mut symbols.clone());
            let bytes = encoder.finish();
            let mut decoded = vec![0; symbols.len()];
            code_with(set, &mut Decoder::new(&bytes), &runs, &mut decoded);
            assert_eq!(decoded, symbols, "{set:?}");
            bytes
        });
        let coded: Vec<_> = coded.collect();
        assert!(coded.iter().all(|bytes| *bytes == coded[0]));
    }
}
