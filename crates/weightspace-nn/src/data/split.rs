//! Holding out validation images by seed.

/// Splits the indices `0..n` at random into training and validation indices, in that order of the
/// result; every index is in exactly one of the two.
///
/// The split depends on the arguments alone, on every machine and in every version. The indices are
/// shuffled once, and the last `validation` of them are held out: for one seed, a smaller
/// validation set is contained in a larger one, and every prefix of the training indices is a
/// random sample.
///
/// The shuffle is that of Fisher and Yates: for `i` from `n - 1` down to 1, elements `i` and `j`
/// are exchanged, `j` uniform in `0..=i`. Hence the held-out elements are fixed first. Uniform
/// numbers are the upper 64 bits of (i + 1) x, x the next number of SplitMix64 started with the
/// seed; an x whose product has its lower 64 bits below 2^64 mod (i + 1) is skipped, which makes
/// all `j` equally likely.
///
/// # Panics
/// If `validation` is greater than `n`.
pub fn split_train_validation(n: usize, validation: usize, seed: u64) -> (Vec<usize>, Vec<usize>) {
    assert!(validation <= n, "{validation} validation images of {n}");
    let mut random = SplitMix64::new(seed);
    let mut indices: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        indices.swap(i, random.below(i as u64 + 1) as usize);
    }
    let held_out = indices.split_off(n - validation);
    (indices, held_out)
}

/// SplitMix64 (Steele, Lea and Flood 2014): number k is a hash of seed + (k + 1) times a constant.
struct SplitMix64 {
    counter: u64,
}

impl SplitMix64 {
    fn new(seed: u64) -> Self {
        Self { counter: seed }
    }

    fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.counter ^ (self.counter >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`, without bias (Lemire 2019).
    fn below(&mut self, n: u64) -> u64 {
        let rejected_below = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next()) * u128::from(n);
            if product as u64 >= rejected_below {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splitmix64_gives_the_published_numbers() {
        let mut random = SplitMix64::new(1_234_567);
        let numbers = [(); 5].map(|()| random.next());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn splits_are_the_same_everywhere() {
        let split = |n, validation, seed| split_train_validation(n, validation, seed);
        assert_eq!(split(10, 3, 0), (vec![4, 9, 2, 5, 1, 7, 6], vec![0, 3, 8]));
        assert_eq!(split(10, 3, 42), (vec![8, 3, 6, 5, 4, 0, 9], vec![2, 1, 7]));
        assert_eq!(split(1, 1, 7), (vec![], vec![0]));
        let (train, held_out) = split(50_000, 5000, 1);
        assert_eq!(train[..5], [24264, 30496, 10071, 44112, 48947]);
        assert_eq!(held_out[..5], [2506, 4145, 25732, 19701, 7477]);
    }

    #[test]
    fn numbers_that_would_bias_are_skipped() {
        let mut random = SplitMix64::new(1);
        let numbers = [(); 6].map(|()| random.below(3 << 62));
        assert_eq!(
            numbers,
            [
                7_838_412_284_400_616_848,
                10_317_933_908_299_821_389,
                13_433_879_467_712_167_942,
                6_147_735_565_366_335_176,
                6_146_427_927_845_226_570,
                12_138_170_016_107_900_283,
            ]
        );
        // Seven numbers were drawn: the sixth is among the quarter that must be skipped.
        let seventh = 7u64.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        assert_eq!(random.counter, seventh);
    }

    proptest! {
        #[test]
        fn every_index_is_in_one_part(n in 0usize..300, part in 0.0..=1.0, seed: u64) {
            let validation = (n as f64 * part) as usize;
            let (train, held_out) = split_train_validation(n, validation, seed);
            prop_assert_eq!(held_out.len(), validation);
            let mut all = [train, held_out].concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..n));
        }

        #[test]
        fn smaller_sets_are_contained_in_larger_ones(n in 1usize..200, seed: u64) {
            let (_, large) = split_train_validation(n, n / 2, seed);
            let (_, small) = split_train_validation(n, n / 4, seed);
            prop_assert!(large.ends_with(&small));
        }
    }
}
