//! Cross-entropy of logits and labels, with one label in every lane.

use super::super::{LANES, Vector};
use crate::kernels::math;
use crate::kernels::simd::{InstructionSet, Kernel, Lanes, dispatch};

/// Cross-entropy of one sample; `gradient` becomes that of `weight` times it.
pub(in crate::lanes) fn cross_entropy(
    set: InstructionSet,
    logits: &[Vector],
    labels: &[u16; LANES],
    weight: f32,
    gradient: &mut [Vector],
) -> [f64; LANES] {
    let (mut largest, mut sums) = ([0.0; LANES], [0.0; LANES]);
    let (largest_out, sums_out) = (&mut largest, &mut sums);
    dispatch(set, Probabilities { logits, weight, gradient, largest: largest_out, sums: sums_out });
    std::array::from_fn(|lane| {
        let label = usize::from(labels[lane]);
        gradient[label].0[lane] -= weight;
        f64::from(sums[lane]).ln() - f64::from(logits[label].0[lane] - largest[lane])
    })
}

/// Index of the largest logit of every model, as [`argmax`](crate::evaluate::argmax).
pub(in crate::lanes) fn largest(logits: &[Vector]) -> [usize; LANES] {
    std::array::from_fn(|lane| {
        let mut best = 0;
        for i in 1..logits.len() {
            let (value, current) = (logits[i].0[lane], logits[best].0[lane]);
            if value > current || current.is_nan() {
                best = i;
            }
        }
        best
    })
}

/// gradient = weight x softmax.
struct Probabilities<'a> {
    logits: &'a [Vector],
    weight: f32,
    gradient: &'a mut [Vector],
    largest: &'a mut [f32; LANES],
    /// Of the exponentials of the distances from the largest.
    sums: &'a mut [f32; LANES],
}

impl Kernel for Probabilities<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut largest = [f32::NEG_INFINITY; LANES];
        for logits in self.logits {
            for (largest, &logit) in largest.iter_mut().zip(&logits.0) {
                *largest = if logit > *largest { logit } else { *largest };
            }
        }
        let mut sums = [0.0; LANES];
        for (gradient, logits) in self.gradient.iter_mut().zip(self.logits) {
            for lane in 0..LANES {
                gradient.0[lane] = math::exp(logits.0[lane] - largest[lane]);
                sums[lane] += gradient.0[lane];
            }
        }
        for gradient in &mut *self.gradient {
            for (gradient, sum) in gradient.0.iter_mut().zip(sums) {
                *gradient *= self.weight / sum;
            }
        }
        (*self.largest, *self.sums) = (largest, sums);
    }
}
