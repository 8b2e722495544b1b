//! Adaptive probabilities, mixed in the logistic domain.

use super::range::Coder;

/// 65536 / (1 + exp((16 - k) / 2)) for k = 0..=32, rounded to nearest.
const SQUASH: [u16; 33] = [
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768,
    40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438,
    65476, 65500, 65514,
];

/// Largest magnitude of a logarithm of odds, in units of 1/256.
const LARGEST: i64 = 2047;

/// The probability (of 2^16) whose logarithm of the odds is `x` / 256, for |x| <= 2047.
const fn squash(x: i32) -> u32 {
    let position = (x + 2048) as u32;
    let (index, fraction) = ((position >> 7) as usize, position & 127);
    let (low, high) = (SQUASH[index] as u32, SQUASH[index + 1] as u32);
    (low * (128 - fraction) + high * fraction) >> 7
}

/// For each upper twelve bits of a probability the least x whose [`squash`] has them or more.
static STRETCH: [i16; 4096] = {
    let mut table = [LARGEST as i16; 4096];
    let mut next = 0;
    let mut x = -LARGEST as i32;
    while x <= LARGEST as i32 {
        while next <= (squash(x) >> 4) as usize {
            table[next] = x as i16;
            next += 1;
        }
        x += 1;
    }
    table
};

/// How fast an average learns after n observations, of 2^16: 1 / (n + 3/2).
pub(super) static RATES: [u32; 1024] = {
    let mut rates = [0; 1024];
    let mut n = 0;
    while n < 1024 {
        rates[n] = (1 << 17) / (2 * n as u32 + 3);
        n += 1;
    }
    rates
};

/// A counter: a probability of 22 bits; the lower 10 bits are the number of observations.
type Counter = u32;

/// A counter that has seen nothing.
const EVEN: Counter = 1 << 31;
/// Observations that are told apart.
const MOST_OBSERVATIONS: u32 = 255;

/// The logarithm of the odds of a counter's probability.
#[inline(always)]
fn stretched(counter: Counter) -> i32 {
    i32::from(STRETCH[(counter >> 20) as usize])
}

/// The counter after it saw `target`: 2^22 - 1 for a decision that was true, else 0.
#[inline(always)]
fn updated(counter: Counter, target: i64) -> Counter {
    let observations = counter & 1023;
    let p = i64::from(counter >> 10);
    let p = p + (((target - p) * i64::from(RATES[observations as usize])) >> 16);
    let more = u32::from(observations < MOST_OBSERVATIONS);
    (p as u32) << 10 | (observations + more)
}

/// Decisions of which each is predicted in `N` contexts.
pub(super) struct Mixture<const N: usize> {
    /// Of each kind, context and node.
    counters: Vec<Counter>,
    /// Where those of each kind begin.
    kinds: [usize; N],
    weights: Vec<[i32; N]>,
    nodes: usize,
}

/// The contexts of the decisions about one symbol.
#[derive(Clone, Copy)]
pub(super) struct Contexts<const N: usize>([usize; N]);

impl<const N: usize> Mixture<N> {
    /// For decisions at that many nodes, in `contexts` contexts of each of the `N` kinds.
    pub(super) fn new(nodes: usize, contexts: [usize; N]) -> Self {
        let weight = (5 << 14) / N as i32;
        let mut count = 0;
        let kinds = contexts.map(|contexts| {
            count += contexts * nodes;
            count - contexts * nodes
        });
        let (counters, weights) = (vec![EVEN; count], vec![[weight; N]; nodes]);
        Mixture { counters, kinds, weights, nodes }
    }

    /// One context of each kind.
    #[inline(always)]
    pub(super) fn contexts(&self, contexts: &[usize; N]) -> Contexts<N> {
        let mut first = self.kinds;
        for (first, context) in first.iter_mut().zip(contexts) {
            *first += context * self.nodes;
        }
        Contexts(first)
    }

    /// Codes the decision at a node, given the context of each kind.
    #[inline(always)]
    pub(super) fn code(
        &mut self,
        coder: &mut impl Coder,
        bit: bool,
        node: usize,
        contexts: &Contexts<N>,
    ) -> bool {
        let weights = &mut self.weights[node];
        let (mut counters, mut inputs) = ([0; N], [0; N]);
        for kind in 0..N {
            counters[kind] = self.counters[contexts.0[kind] + node];
            inputs[kind] = stretched(counters[kind]);
        }
        // Each product is below 2^31: inputs are at most 2047, weights 2^20.
        let products = inputs.iter().zip(&*weights).map(|(&x, &w)| i64::from(x * w));
        let mixed = products.sum::<i64>() >> 16;
        let p = squash(mixed.clamp(-LARGEST, LARGEST) as i32);
        let bit = coder.bit(bit, p);
        let target = if bit { (1 << 22) - 1 } else { 0 };
        for (first, counter) in contexts.0.iter().zip(counters) {
            self.counters[first + node] = updated(counter, target);
        }
        let error = (i32::from(bit) << 16) - p as i32;
        for (weight, input) in weights.iter_mut().zip(inputs) {
            let change = (input * error * 14 + (1 << 19)) >> 20;
            *weight = (*weight + change).clamp(-(1 << 20), 1 << 20);
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squash_is_the_logistic_function() {
        for (k, &value) in SQUASH.iter().enumerate() {
            let exact = 65536.0 / (1.0 + ((16.0 - k as f64) / 2.0).exp());
            assert_eq!(f64::from(value), exact.round(), "k = {k}");
        }
        for x in -2047..2047 {
            assert!(squash(x) <= squash(x + 1));
        }
    }

    #[test]
    fn stretch_inverts_squash() {
        for (p, &x) in STRETCH.iter().enumerate() {
            let x = i32::from(x);
            assert!(squash(x) >> 4 >= p as u32 || x == 2047, "{p}");
            assert!(x == -2047 || squash(x - 1) >> 4 < p as u32, "{p}");
        }
    }

    /// A coder that only adds up the bits that an ideal one would write.
    struct Meter(f64);

    impl Coder for Meter {
        fn bit(&mut self, bit: bool, p_true: u32) -> bool {
            let p = f64::from(if bit { p_true } else { (1 << 16) - p_true }) / 65536.0;
            self.0 -= p.log2();
            bit
        }

        fn uniform(&mut self, value: u32, count: u32) -> u32 {
            self.0 += f64::from(count);
            value
        }
    }

    #[test]
    fn skewed_decisions_cost_little_and_the_informative_context_wins() {
        let mut meter = Meter(0.0);
        let mut mixture = Mixture::new(1, [2, 1]);
        for i in 0..100_000u32 {
            let noise = i.wrapping_mul(2_654_435_761) >> 31;
            let contexts = mixture.contexts(&[noise as usize, 0]);
            mixture.code(&mut meter, noise == 1, 0, &contexts);
        }
        assert!(meter.0 < 500.0, "{} bits", meter.0);
    }
}
