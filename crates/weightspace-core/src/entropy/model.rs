//! Binarisation of symbols and the contexts of every decision.

use super::range::Coder;
use super::{Alphabet, MAX_BIT_LENGTH, Run, bit_length};

/// Codes the symbols of all runs, in place.
pub(super) fn code(coder: &mut impl Coder, runs: &[Run], symbols: &mut [i32]) {
    let mut exponents = Adaptive::new();
    let mut values = Adaptive::new();
    let mut rest = symbols;
    for run in runs {
        let (symbols, after) = rest.split_at_mut(run.count);
        rest = after;
        let mut before = 0;
        match run.alphabet {
            Alphabet::Exponents => {
                let mut neighbour = 0;
                for symbol in symbols {
                    let difference = exponents.value(coder, 0, neighbour, *symbol - before);
                    *symbol = before + difference;
                    neighbour = difference.unsigned_abs();
                    before = (*symbol).clamp(0, 255);
                }
            }
            Alphabet::Values { origin } => {
                for symbol in symbols {
                    *symbol = values.value(coder, origin.into(), before.unsigned_abs(), *symbol);
                    before = *symbol;
                }
            }
        }
    }
}

/// Adaptive probabilities of the decisions about one kind of symbol.
struct Adaptive {
    above: Vec<[[u16; 2]; 25]>,
    top: [u16; 25],
}

impl Adaptive {
    fn new() -> Self {
        Adaptive { above: vec![[[1 << 15; 2]; 25]; 33], top: [1 << 15; 25] }
    }

    fn value(&mut self, coder: &mut impl Coder, origin: u32, neighbour: u32, value: i32) -> i32 {
        let magnitude = value.unsigned_abs();
        let length = self.length(coder, origin, bit_length(neighbour), bit_length(magnitude));
        if length == 0 {
            return 0;
        }
        let mut decoded = 1;
        let mut left = length - 1;
        if left > 0 {
            left -= 1;
            let bit = magnitude >> left & 1 == 1;
            decoded = 2 | u32::from(decide(coder, &mut self.top[length as usize], bit));
        }
        while left > 0 {
            let count = left.min(16);
            left -= count;
            decoded =
                decoded << count | coder.uniform(magnitude >> left & ((1 << count) - 1), count);
        }
        let negative = coder.uniform(u32::from(value < 0), 1) == 1;
        if negative { -(decoded as i32) } else { decoded as i32 }
    }

    /// Codes a bit length: up or down from `origin`, one step per decision.
    fn length(&mut self, coder: &mut impl Coder, origin: u32, context: u32, length: u32) -> u32 {
        let probabilities = &mut self.above[context as usize];
        let mut at = origin;
        while at < MAX_BIT_LENGTH && decide(coder, &mut probabilities[at as usize][0], length > at)
        {
            at += 1;
        }
        if at == origin {
            while at > 0 && !decide(coder, &mut probabilities[at as usize - 1][1], length >= at) {
                at -= 1;
            }
        }
        at
    }
}

fn decide(coder: &mut impl Coder, probability: &mut u16, bit: bool) -> bool {
    let bit = coder.bit(bit, u32::from(*probability).clamp(32, 65_535 - 32));
    match bit {
        true => *probability += (65_535 - *probability) >> 5,
        false => *probability -= *probability >> 5,
    }
    bit
}
