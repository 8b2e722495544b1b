//! Integers as sequences of binary decisions.

use super::mixing::{Contexts, Mixture};
use super::range::Coder;
use super::{MAX_BIT_LENGTH, bit_length};

/// Nodes of the decisions about a magnitude: 49 about its bit length, then the first and the
/// second bit below its leading one.
const NODES: usize = 128;

/// Adaptive models of the decisions about one kind of integer; `N` contexts predict the decisions
/// about the magnitude, `S` those about the sign.
pub(super) struct Integers<const N: usize, const S: usize> {
    magnitude: Mixture<N>,
    sign: Mixture<S>,
}

impl<const N: usize, const S: usize> Integers<N, S> {
    pub(super) fn new(contexts: [usize; N], sign_contexts: [usize; S]) -> Self {
        let magnitude = Mixture::new(NODES, contexts);
        Integers { magnitude, sign: Mixture::new(1, sign_contexts) }
    }

    /// Codes a magnitude below 2^24: its bit length, up or down from `origin`, two adaptive bits,
    /// and uniform ones.
    #[inline(always)]
    pub(super) fn magnitude(
        &mut self,
        coder: &mut impl Coder,
        magnitude: u32,
        origin: u32,
        contexts: &[usize; N],
    ) -> u32 {
        let contexts = self.magnitude.contexts(contexts);
        let length = self.length(coder, bit_length(magnitude), origin, &contexts);
        if length < 2 {
            return length;
        }
        let mut decide = |bit: u32, node: u32| {
            let bit = magnitude >> bit & 1 == 1;
            u32::from(self.magnitude.code(coder, bit, node as usize, &contexts))
        };
        let first = decide(length - 2, 48 + length);
        let mut decoded = 2 | first;
        if length > 2 {
            decoded = decoded << 1 | decide(length - 3, 67 + 2 * length + first);
        }
        let mut left = length.saturating_sub(3);
        while left > 0 {
            let count = left.min(16);
            left -= count;
            let bits = magnitude >> left & ((1 << count) - 1);
            decoded = decoded << count | coder.uniform(bits, count);
        }
        decoded
    }

    /// Codes whether an integer is negative.
    #[inline(always)]
    pub(super) fn sign(
        &mut self,
        coder: &mut impl Coder,
        negative: bool,
        contexts: &[usize; S],
    ) -> bool {
        let contexts = self.sign.contexts(contexts);
        self.sign.code(coder, negative, 0, &contexts)
    }

    /// Codes a bit length, one step up or down from `origin` per decision.
    #[inline(always)]
    fn length(
        &mut self,
        coder: &mut impl Coder,
        length: u32,
        origin: u32,
        contexts: &Contexts<N>,
    ) -> u32 {
        let mut decide = |bit, node: u32| self.magnitude.code(coder, bit, node as usize, contexts);
        let mut at = origin;
        while at < MAX_BIT_LENGTH && decide(length > at, 2 * at) {
            at += 1;
        }
        if at == origin {
            while at > 0 && decide(length < at, 2 * at - 1) {
                at -= 1;
            }
        }
        at
    }
}
