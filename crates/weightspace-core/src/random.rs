//! Random numbers that are the same on every machine and in every version.
//!
//! A [`Stream`] is the key stream of ChaCha8 for a [`Key`] and a 64-bit stream number: what stands
//! at a position is a function of key, stream and position alone, so that any part can be had
//! without what comes before it, in any order and on any number of threads. Nothing here depends on
//! a mathematical library. `docs/format.md`, section 11, is normative.
//!
//! ```
//! use weightspace_core::random::{Key, Stream};
//!
//! let mut stream = Stream::new(Key::for_purpose(42, "example"), 0);
//! let mut weights = [0.0; 4];
//! stream.fill_normal(&mut weights);
//! stream.seek(2);
//! assert_eq!(stream.normal(), weights[2]);
//! ```

use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// Which of 2^256 families of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of a seed: its 8 bytes, little-endian, then zeros.
    pub fn from_seed(seed: u64) -> Self {
        Key::for_purpose(seed, "")
    }

    /// The key of a seed for one purpose, whose name makes its numbers independent of those for
    /// other purposes: the seed's 8 bytes, little-endian, then the name, then zeros.
    ///
    /// # Panics
    /// If the name has more than 24 bytes.
    pub fn for_purpose(seed: u64, purpose: &str) -> Self {
        let mut bytes = [0; 32];
        let (head, tail) = bytes.split_at_mut(8);
        head.copy_from_slice(&seed.to_le_bytes());
        tail[..purpose.len()].copy_from_slice(purpose.as_bytes());
        Key(bytes)
    }
}

/// A sequence of 2^64 random 32-bit words, and numbers made of them.
#[derive(Debug)]
pub struct Stream {
    words: ChaCha8Rng,
}

impl Stream {
    /// The stream of that number, at its first word.
    pub fn new(key: Key, stream: u64) -> Self {
        let mut words = ChaCha8Rng::from_seed(key.0);
        words.set_stream(stream);
        Self { words }
    }

    /// Goes to the word at `position`, in constant time.
    pub fn seek(&mut self, position: u64) {
        self.words.set_word_pos(u128::from(position));
    }

    /// Position of the next word.
    pub fn position(&self) -> u64 {
        self.words.get_word_pos() as u64
    }

    /// The next word.
    pub fn next_u32(&mut self) -> u32 {
        self.words.next_u32()
    }

    /// The next words, one for each element.
    pub fn fill_u32(&mut self, out: &mut [u32]) {
        self.words.fill_bytes(bytemuck::cast_slice_mut(out));
        out.iter_mut().for_each(|word| *word = u32::from_le(*word));
    }

    /// Uniform in [0, 1), a multiple of 2^-24: the upper 24 bits of one word.
    pub fn uniform(&mut self) -> f32 {
        uniform(self.next_u32())
    }

    /// As many [`Stream::uniform`] numbers as there are elements, one word each.
    pub fn fill_uniform(&mut self, out: &mut [f32]) {
        self.fill_from_words(out, |words, out| {
            out.iter_mut().zip(words).for_each(|(out, &word)| *out = uniform(word));
        });
    }

    /// Uniform in `0..n`, without bias (Lemire 2019): the upper 32 bits of n times a word; words
    /// whose product has its lower 32 bits below 2^32 mod n are skipped.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        let skipped_below = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            if product as u32 >= skipped_below {
                return (product >> 32) as u32;
            }
        }
    }

    /// Standard normal, made of one word by inversion of the distribution function: a relative
    /// error of at most 2e-7, and at most 6.34 away from zero.
    pub fn normal(&mut self) -> f32 {
        normal(self.next_u32())
    }

    /// As many [`Stream::normal`] numbers as there are elements, one word each.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        self.fill_from_words(out, |words, out| {
            // Without a branch for all, then again for the 15 % that lie outside.
            for (out, &word) in out.iter_mut().zip(words) {
                *out = normal_inside(centred(word));
            }
            for (out, &word) in out.iter_mut().zip(words) {
                if centred(word).abs() > INSIDE {
                    *out = normal_outside(word);
                }
            }
        });
    }

    /// Fisher and Yates: for i from the last index down to 1, exchanges elements i and
    /// [`below`](Stream::below)`(i + 1)`. Every order is equally likely.
    ///
    /// # Panics
    /// If there are 2^32 elements or more.
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        let len = u32::try_from(elements.len()).expect("fewer than 2^32 elements");
        for i in (1..len).rev() {
            elements.swap(i as usize, self.below(i + 1) as usize);
        }
    }

    fn fill_from_words(&mut self, out: &mut [f32], convert: impl Fn(&[u32], &mut [f32])) {
        let mut words = [0; 256];
        for out in out.chunks_mut(words.len()) {
            let words = &mut words[..out.len()];
            self.fill_u32(words);
            convert(words, out);
        }
    }
}

fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Where the inverse of the normal distribution function is one rational function.
const INSIDE: f64 = 0.425;

fn normal(word: u32) -> f32 {
    let q = centred(word);
    if q.abs() <= INSIDE { normal_inside(q) } else { normal_outside(word) }
}

/// (word + 1/2) / 2^32 - 1/2, exactly.
fn centred(word: u32) -> f64 {
    (f64::from(word) + 0.5) * 2f64.powi(-32) - 0.5
}

/// The rational functions are those of algorithm AS 241, PPND7 (Wichura 1988).
fn normal_inside(q: f64) -> f32 {
    let r = 0.180625 - q * q;
    let numerator = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179;
    let denominator = ((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0;
    (q * (numerator / denominator)) as f32
}

fn normal_outside(word: u32) -> f32 {
    // The probability of the tail is m / 2^33.
    let odd = 2 * u64::from(word) + 1;
    let m = odd.min((1 << 33) - odd);
    let r = (33.0 * std::f64::consts::LN_2 - ln(m)).sqrt() - 1.6;
    let numerator = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777;
    let denominator = (0.12021132975 * r + 0.73700164250) * r + 1.0;
    let x = (numerator / denominator) as f32;
    if word < 1 << 31 { -x } else { x }
}

/// Logarithm of 0 < m < 2^53 in operations that every machine rounds alike: with m = f 2^bits and
/// s = (f - 1) / (f + 1), ln f = 2 (s + s^3 / 3 + ... + s^17 / 17).
fn ln(m: u64) -> f64 {
    let bits = 64 - m.leading_zeros();
    let f = m as f64 / (1u64 << bits) as f64;
    let s = (f - 1.0) / (f + 1.0);
    let square = s * s;
    let mut sum = 1.0 / 17.0;
    for divisor in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / divisor;
    }
    f64::from(bits) * std::f64::consts::LN_2 + 2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits = hexadecimal.as_bytes().chunks(2);
        digits.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    /// Draft-strombergson-chacha-test-vectors-00, 256-bit keys and 8 rounds: TC1 and TC8.
    #[test]
    fn streams_are_those_of_chacha8() {
        let zero = "0000000000000000000000000000000000000000000000000000000000000000";
        let expected = "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e\
                        984ce172b9216f419f445367456d5619314a42a3da86b001387bfdb80e0cfe42\
                        d2aefa0deaa5c151bf0adb6c01f2a5adc0fd581259f9a2aadcf20f8fd566a26b\
                        5032ec38bbc5da98ee0c6f568b872a65a08abf251deb21bb4b56e5d8821e68aa";
        check(zero, 0, expected);
        let key = "c46ec1b18ce8a878725a37e780dfb7351f68ed2e194c79fbc6aebee1a667975d";
        let expected = "838751b42d8ddd8a3d77f48825a2ba752cf4047cb308a5978ef274973be374c9\
                        6ad848065871417b08f034e681fe46a93f7d5c61d1306614d4aaf257a7cff08b\
                        16f2fda170cc18a4b58a2667ed962774af792a6e7f3c77992540711a7a136d7e\
                        8a2f8d3f93816709d45a3fa5f8ce72fde15be7b841acba3a2abd557228d9fe4f";
        check(key, u64::from_le_bytes([0x1a, 0xda, 0x31, 0xd5, 0xcf, 0x68, 0x82, 0x21]), expected);
    }

    fn check(key: &str, number: u64, expected: &str) {
        let mut stream = Stream::new(Key(bytes(key).try_into().unwrap()), number);
        let expected: Vec<u32> = bytes(expected)
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let mut words = vec![0; expected.len()];
        stream.fill_u32(&mut words);
        assert_eq!(words, expected);
        for position in [31, 3, 17] {
            stream.seek(position);
            assert_eq!(stream.next_u32(), expected[position as usize]);
            assert_eq!(stream.position(), position + 1);
        }
    }

    #[test]
    fn keys_hold_seed_and_purpose() {
        let key = Key::for_purpose(0x0102, "ab");
        assert_eq!(key.0[..12], [2, 1, 0, 0, 0, 0, 0, 0, b'a', b'b', 0, 0]);
        assert_eq!(Key::from_seed(7), Key::for_purpose(7, ""));
    }

    /// Computed by an independent program from the text of the specification.
    #[test]
    fn numbers_are_the_same_everywhere() {
        let mut stream = Stream::new(Key::for_purpose(1, "test"), 2);
        let normal = [(); 8].map(|()| stream.normal().to_bits());
        let uniform = [(); 4].map(|()| stream.uniform().to_bits());
        let below = [(); 8].map(|()| stream.below(10));
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
        stream.shuffle(&mut order);
        assert_eq!(
            normal,
            [
                0x3f67c9a9, 0xbece0f56, 0x3ff14753, 0xbfa33cf1, 0xbfb4cb07, 0xbddc7aed, 0x3fb6ef54,
                0xbede1dfb,
            ]
        );
        assert_eq!(uniform, [0x3f3ce5ee, 0x3d6a2f40, 0x3d97f6d8, 0x3eae5a5c]);
        assert_eq!(below, [3, 9, 8, 7, 6, 2, 1, 0]);
        assert_eq!(order, [1, 6, 3, 7, 2, 4, 5, 0]);
    }

    #[test]
    fn uniform_numbers_reach_both_ends() {
        assert_eq!(uniform(255), 0.0);
        assert_eq!(uniform(256), 2f32.powi(-24));
        assert_eq!(uniform(u32::MAX), 1.0 - 2f32.powi(-24));
    }

    /// Values of SciPy's `ndtri((word + 0.5) / 2**32)`.
    #[test]
    fn normal_numbers_invert_the_distribution() {
        let expected = [
            (0, -6.3379577545537895),
            (1, -6.166429517819751),
            (1000, -5.039851125968712),
            (12345678, -2.761769519859486),
            (322122548, -1.439531468800213),
            (1000000000, -0.7295565530758741),
            (2000000000, -0.0861809490044897),
            (2147483647, -2.918099372916623e-10),
        ];
        for (word, expected) in expected {
            let found = f64::from(normal(word));
            assert!((found / expected - 1.0).abs() < 2e-7, "{word}: {found}, not {expected}");
            assert_eq!(normal(!word), -normal(word));
        }
    }

    #[test]
    fn normal_numbers_never_decrease() {
        let words: Vec<u32> = (0..=u32::MAX).step_by(4001).collect();
        assert!(words.is_sorted_by(|&a, &b| normal(a) <= normal(b)));
        let edge = ((0.5 - INSIDE) * 2f64.powi(32)) as u32;
        let around: Vec<u32> = (edge - 5000..edge + 5000).collect();
        assert!(around.is_sorted_by(|&a, &b| normal(a) <= normal(b)));
    }

    #[test]
    fn moments_and_quantiles_are_those_of_a_normal_distribution() {
        let mut sample = vec![0.0; 1 << 18];
        Stream::new(Key::from_seed(3), 0).fill_normal(&mut sample);
        let n = sample.len() as f64;
        let moment = |k| sample.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n;
        // Five standard errors: sqrt(Var[x^k] / n), with variances 1, 2, 15 and 96.
        for (k, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let error: f64 = moment(k) - expected;
            assert!(error.abs() < 5.0 * f64::sqrt(variance / n), "moment {k}: off by {error}");
        }
        for (x, expected) in [(-3.0, 0.0013499), (-1.0, 0.1586553), (0.5, 0.6914625)] {
            let found = sample.iter().filter(|&&value| value < x).count() as f64 / n;
            assert!((found - expected).abs() < 5.0 * f64::sqrt(expected / n), "{x}: {found}");
        }
    }

    #[test]
    fn integers_below_a_bound_are_equally_likely() {
        let mut counts = [0.0f64; 7];
        let mut stream = Stream::new(Key::from_seed(5), 9);
        (0..70_000).for_each(|_| counts[stream.below(7) as usize] += 1.0);
        let chi_squared: f64 = counts.iter().map(|c| (c - 1e4).powi(2) / 1e4).sum();
        // The 99.9 % quantile for 6 degrees of freedom.
        assert!(chi_squared < 22.5, "{counts:?}");
        // Of 3 x 2^30 a quarter of the words is skipped.
        (0..1000).for_each(|_| assert!(stream.below(3 << 30) < 3 << 30));
        let skipped = stream.position() - 71_000;
        assert!((250..450).contains(&skipped), "{skipped} words skipped");
    }

    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..24_000 {
            let mut order = [0, 1, 2, 3];
            Stream::new(Key::from_seed(0), number).shuffle(&mut order);
            *counts.entry(order).or_insert(0.0) += 1.0;
        }
        let chi_squared: f64 = counts.values().map(|c: &f64| (c - 1e3).powi(2) / 1e3).sum();
        // The 99.9 % quantile for 23 degrees of freedom.
        assert!(counts.len() == 24 && chi_squared < 49.8, "{counts:?}");
    }

    proptest! {
        #[test]
        fn any_part_can_be_had_by_itself(seed: u64, number: u64, start in 0usize..400, len in 0usize..400) {
            let mut stream = Stream::new(Key::from_seed(seed), number);
            let (mut uniform, mut normal) = (vec![0.0; 800], vec![0.0; 800]);
            stream.fill_uniform(&mut uniform);
            stream.seek(0);
            stream.fill_normal(&mut normal);
            let mut part = vec![0.0; len];
            stream.seek(start as u64);
            stream.fill_uniform(&mut part);
            prop_assert_eq!(&part, &uniform[start..start + len]);
            stream.seek(start as u64);
            stream.fill_normal(&mut part);
            prop_assert_eq!(&part, &normal[start..start + len]);
            stream.seek(start as u64);
            let one_by_one: Vec<f32> = (0..len).map(|_| stream.normal()).collect();
            prop_assert_eq!(part, one_by_one);
        }

        #[test]
        fn streams_differ(seed: u64, number: u64) {
            let words = |key, number| {
                let mut words = [0; 8];
                Stream::new(key, number).fill_u32(&mut words);
                words
            };
            let own = words(Key::from_seed(seed), number);
            prop_assert_ne!(own, words(Key::from_seed(seed), number.wrapping_add(1)));
            prop_assert_ne!(own, words(Key::from_seed(seed.wrapping_add(1)), number));
            prop_assert_ne!(own, words(Key::for_purpose(seed, "x"), number));
        }

        #[test]
        fn far_positions_are_reached(position: u64) {
            let mut stream = Stream::new(Key::from_seed(1), 1);
            stream.seek(position);
            prop_assert_eq!(stream.position(), position);
            let first = stream.next_u32();
            stream.seek(position & !15);
            (0..position % 16).for_each(|_| { stream.next_u32(); });
            prop_assert_eq!(stream.next_u32(), first);
        }
    }
}
