//! What integers cost, by their own frequencies.

/// Magnitudes that are counted one by one, but for the last, which stands for all from there on: these cost what they
/// would in a geometric distribution with their mean.
const COUNTED: usize = 32;

/// Bits that an integer is taken to cost more than zero, at most, when weights are rounded: with more, the fewer
/// weights of a layer differ from zero the fewer there are the next time, until none is left.
const MOST_BITS: f32 = 5.0;

/// Bits of integers, by their magnitude.
#[derive(Clone, Debug)]
pub struct Rate {
    bits: [f32; COUNTED],
    /// Bits of one magnitude more, from the last on.
    tail: f32,
}

impl Rate {
    /// From how often every magnitude occurs. Signs cost a bit.
    pub fn new(integers: impl Iterator<Item = i32>) -> Self {
        let mut counts = [0u32; COUNTED];
        let (mut total, mut excess) = (0.0, 0u64);
        for integer in integers {
            let magnitude = integer.unsigned_abs() as usize;
            counts[magnitude.min(COUNTED - 1)] += 1;
            excess += magnitude.saturating_sub(COUNTED - 1) as u64;
            total += 1.0;
        }
        // Of what is in the tail; with few of them as if there were one more, at a distance of 1.
        let mean = (excess as f64 + 1.0) / (f64::from(counts[COUNTED - 1]) + 1.0);
        let mut bits = [0.0; COUNTED];
        // A share of the weight of one observation for what has not occurred, less for larger magnitudes.
        let seen = |m: usize| f64::from(counts[m]) + 0.5 / (1 + m * m) as f64;
        for (m, bits) in bits.iter_mut().enumerate() {
            let sign = if m == 0 { 0.0 } else { 1.0 };
            *bits = (((total + 1.0) / seen(m)).log2() + sign) as f32;
        }
        // The first of the tail.
        bits[COUNTED - 1] += (1.0 + mean).log2() as f32;
        // Larger never costs less: rounding and its gradient rely on that.
        for m in 1..COUNTED {
            bits[m] = bits[m].max(bits[m - 1]);
        }
        Rate { bits, tail: ((1.0 + mean) / mean).log2() as f32 }
    }

    /// Bits of an integer of that magnitude.
    #[inline]
    pub fn of(&self, magnitude: f32) -> f32 {
        let last = COUNTED - 1;
        match magnitude {
            m if m < last as f32 => self.bits[m as usize],
            m => self.bits[last] + (m - last as f32) * self.tail,
        }
    }

    /// Bits by which the next larger magnitude costs more than that below `magnitude`.
    #[inline]
    pub fn slope(&self, magnitude: f32) -> f32 {
        let below = magnitude.floor();
        self.of(below + 1.0) - self.of(below)
    }

    /// The integer for a value in units of the step: the one with the least squared error plus `price` times its
    /// bits, of the two around it and zero.
    #[inline]
    pub fn round(&self, value: f32, price: f32) -> f32 {
        let magnitude = value.abs();
        let zero = self.bits[0];
        let cost =
            |m: f32| (magnitude - m) * (magnitude - m) + price * (self.of(m) - zero).min(MOST_BITS);
        let below = magnitude.floor();
        let mut best = (below, cost(below));
        for m in [below + 1.0, 0.0] {
            let cost = cost(m);
            if cost < best.1 {
                best = (m, cost);
            }
        }
        best.0.copysign(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_frequencies() {
        let integers = [0; 512].into_iter().chain([1; 128]).chain([-1; 128]).chain([2; 256]);
        let rate = Rate::new(integers);
        for (magnitude, bits) in [(0.0, 1.0), (1.0, 3.0), (2.0, 3.0)] {
            assert!(
                (rate.of(magnitude) - bits).abs() < 0.02,
                "{magnitude}: {}",
                rate.of(magnitude)
            );
        }
        assert!(rate.of(3.0) > 9.0 && rate.of(1000.0) >= rate.of(31.0));
    }

    /// As many bits as the distribution's entropy, far beyond what is counted one by one.
    #[test]
    fn large_integers_cost_what_their_distribution_says() {
        let spread: Vec<i32> =
            (0..4096).map(|i| (-200.0 * (1.0 - i as f64 / 4096.0).ln()) as i32).collect();
        let rate = Rate::new(spread.iter().copied());
        let mean: f64 = spread.iter().map(|&q| f64::from(rate.of(q as f32))).sum::<f64>() / 4096.0;
        // A sign, and the entropy of an exponential distribution in units of its mean.
        let expected = 1.0 + 200f64.log2() + std::f64::consts::LOG2_E;
        assert!((mean - expected).abs() < 0.2, "{mean}, not {expected}");
        assert!((f64::from(rate.slope(500.0)) - std::f64::consts::LOG2_E / 200.0).abs() < 1e-3);
    }

    #[test]
    fn rounding_is_to_nearest_without_a_price_and_towards_what_is_cheap_with_one() {
        let rate = Rate::new([0, 0, 0, 0, 0, 0, 1, -1, 2].into_iter());
        for value in [0.2f32, -0.7, 1.4, -1.6, 2.1, 40.6] {
            assert_eq!(rate.round(value, 0.0), value.round());
        }
        assert_eq!(rate.round(0.7, 0.3), 0.0);
        // However rare.
        let rare = Rate::new([0; 10_000].into_iter());
        assert_eq!(rare.round(0.8, 0.1), 1.0);
        assert_eq!(rate.round(-1.6, 0.3), -1.0);
    }
}
