//! Averages that adapt.

use super::bit_length;
use super::mixing::RATES;

/// A running mean; its first observations count most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    /// In units of 2^-16.
    value: i64,
    observations: u32,
}

impl Mean {
    /// Starts at `value`, as if that had been observed so often.
    pub(super) fn new(value: u32, observations: u32) -> Self {
        Mean { value: i64::from(value) << 16, observations }
    }

    pub(super) fn value(self) -> u32 {
        (self.value >> 16) as u32
    }

    /// Moves towards `target` < 2^28, ever slower until there were `most` observations (< 1024).
    #[inline(always)]
    pub(super) fn observe(&mut self, target: u32, most: u32) {
        let difference = (i64::from(target) << 16) - self.value;
        self.value += (difference * i64::from(RATES[self.observations as usize])) >> 16;
        self.observations = most.min(self.observations + 1);
    }
}

/// Number of coarse levels.
pub(super) const LEVELS: usize = 24;

/// The logarithm of `x` in half octaves, from 2^origin down to 0 and up to 23.
#[inline(always)]
pub(super) fn level(x: u32, origin: u32) -> usize {
    let n = bit_length(x);
    let halves = 2 * n + if n >= 2 { x >> (n - 2) & 1 } else { 0 };
    (halves.saturating_sub(2 * origin) as usize).min(LEVELS - 1)
}

/// Number of fine levels.
pub(super) const FINE_LEVELS: usize = 48;

/// The logarithm of `x` in quarter octaves, from 2^origin down to 0 and up to 47.
#[inline(always)]
pub(super) fn fine_level(x: u32, origin: u32) -> usize {
    let n = bit_length(x);
    let quarters = 4 * n + if n >= 3 { x >> (n - 3) & 3 } else { 0 };
    (quarters.saturating_sub(4 * origin) as usize).min(FINE_LEVELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_converge_and_forget() {
        let mut mean = Mean::new(100, 4);
        for _ in 0..200 {
            mean.observe(5_000, 20);
        }
        assert!(mean.value().abs_diff(5_000) < 30, "{mean:?}");
        for _ in 0..2_000 {
            mean.observe(0, 1_000);
        }
        assert!(mean.value() < 500, "{mean:?}");
        mean.observe((1 << 28) - 1, 1_023);
    }

    #[test]
    fn levels_are_logarithms() {
        let coarse = [0, 1, 2, 3, 4, 6, 8, u32::MAX].map(|x| level(x, 0));
        assert_eq!(coarse, [0, 2, 4, 5, 6, 7, 8, 23]);
        assert_eq!(fine_level(5, 0), 13);
        assert_eq!(level(12 << 5, 5), level(12, 0));
    }
}
