//! Permutations at their information content: the exchanges of a shuffle, each uniform below a bound.

use super::range::{Coder, Decoder, Encoder, PRECISION};

/// The exchanges that make a permutation from 0, 1, 2, ...: for i = n - 1 down to 1 the number of the
/// element that element i is exchanged with, at most i.
pub(crate) fn of_permutation(permutation: &[u32]) -> impl Iterator<Item = u32> {
    let count = permutation.len() as u32;
    let mut elements: Vec<u32> = (0..count).collect();
    let mut positions = elements.clone();
    (1..permutation.len()).rev().map(move |i| {
        let position = positions[permutation[i] as usize] as usize;
        elements.swap(i, position);
        positions[elements[position] as usize] = position as u32;
        position as u32
    })
}

/// The permutation of n elements that n - 1 exchanges make.
pub(crate) fn to_permutation(exchanges: &[u32]) -> Vec<u32> {
    let mut elements: Vec<u32> = (0..=exchanges.len() as u32).collect();
    for (i, &position) in (1..elements.len()).rev().zip(exchanges) {
        elements.swap(i, position as usize);
    }
    elements
}

/// Encodes numbers, each below its bound, which is at least 2.
pub(crate) fn encode(bounds: &[u32], numbers: &[u32]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for (&bound, &number) in bounds.iter().zip(numbers) {
        code(&mut encoder, number, bound);
    }
    encoder.finish()
}

/// Decodes a number below each bound, which is at least 2; `None` if no encoder writes such bytes.
pub(crate) fn decode(bounds: &[u32], bytes: &[u8]) -> Option<Vec<u32>> {
    let mut decoder = Decoder::new(bytes);
    let numbers = bounds.iter().map(|&bound| code(&mut decoder, 0, bound)).collect();
    (!decoder.invalid()).then_some(numbers)
}

/// Codes a number below a bound: whether it is among the first 2^k, for the largest k that there is, then
/// k bits; otherwise the same of what is left.
fn code(coder: &mut impl Coder, number: u32, bound: u32) -> u32 {
    let (mut before, mut left) = (0, bound);
    while left > 1 {
        let count = left.ilog2();
        let size = 1 << count;
        let rest = number.wrapping_sub(before);
        if size == left || coder.bit(rest < size, probability(count, left)) {
            return before + bits(coder, rest, count);
        }
        before += size;
        left -= size;
    }
    before
}

/// Probability that a number below `bound` is below 2^`count`.
fn probability(count: u32, bound: u32) -> u32 {
    let (one, bound) = (1u64 << (PRECISION as u32 + count), u64::from(bound));
    ((one + bound / 2) / bound).min((1 << PRECISION) - 1) as u32
}

/// Codes the lowest `count` bits of a number, the highest first.
fn bits(coder: &mut impl Coder, number: u32, count: u32) -> u32 {
    let mut value = 0;
    let mut left = count;
    while left > 0 {
        let group = left.min(PRECISION as u32);
        left -= group;
        value = value << group | coder.uniform(number >> left & ((1 << group) - 1), group);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bounds(count: usize) -> Vec<u32> {
        (2..=count as u32).rev().collect()
    }

    proptest! {
        #[test]
        fn permutations_come_back(keys in proptest::collection::vec(any::<u32>(), 1..300)) {
            let mut permutation: Vec<u32> = (0..keys.len() as u32).collect();
            permutation.sort_by_key(|&i| keys[i as usize]);
            let exchanges: Vec<u32> = of_permutation(&permutation).collect();
            let bytes = encode(&bounds(keys.len()), &exchanges);
            let decoded = decode(&bounds(keys.len()), &bytes).unwrap();
            prop_assert_eq!(&decoded, &exchanges);
            prop_assert_eq!(to_permutation(&decoded), permutation);
        }

        #[test]
        fn numbers_come_back(
            numbers in proptest::collection::vec((2u32..1 << 31, any::<u32>()), 0..50),
        ) {
            let (bounds, numbers): (Vec<u32>, Vec<u32>) =
                numbers.into_iter().map(|(bound, number)| (bound, number % bound)).unzip();
            prop_assert_eq!(decode(&bounds, &encode(&bounds, &numbers)).unwrap(), numbers);
        }
    }

    #[test]
    fn permutations_take_their_information_content() {
        for (count, factor) in [(1usize << 12, 2_654_435_761u64), (50_000, 40_503)] {
            let mut permutation: Vec<u32> = (0..count as u32).collect();
            permutation.sort_by_key(|&i| (u64::from(i) * factor) % 65_537 * 65_537 + u64::from(i));
            let exchanges: Vec<u32> = of_permutation(&permutation).collect();
            let bytes = encode(&bounds(count), &exchanges).len() as f64;
            let content = (2..=count).map(|i| (i as f64).log2()).sum::<f64>() / 8.0;
            assert!((bytes - content).abs() < 12.0, "{bytes} bytes of {content}");
        }
    }
}
