//! The models of a section: what carries over from tensor to tensor.

use super::integers::Integers;
use super::neighbourhood::{
    Filter, KINDS, MAGNITUDE_CONTEXTS, Neighbourhood, SIGN_CONTEXTS, SIGN_KINDS,
};
use super::range::Coder;
use super::statistics::Mean;
use super::{Alphabet, Run, bit_length};

/// Codes the symbols of all runs, in place.
pub(super) fn code(coder: &mut impl Coder, runs: &[Run], symbols: &mut [i32]) {
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
