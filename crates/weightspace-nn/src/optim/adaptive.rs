//! The loop of Adam, AdamW and RAdam: two running averages, and a step that they scale.

use super::real::Real;
use super::rule::Piece;
use crate::kernels::simd::{InstructionSet, Kernel, Lanes, dispatch};

/// Factors of one step of one tensor.
pub(crate) struct Adaptive {
    /// Factors of the running averages of the gradient and its square.
    pub betas: [f64; 2],
    /// What of the weights is added to the gradient.
    pub l2: f64,
    /// What remains of the weights before the step.
    pub keep: f64,
    /// Factor of the averaged gradient.
    pub scale: f64,
    /// Added to the root of the averaged square, by which the step is divided; `None` for a step that is
    /// not divided.
    pub epsilon: Option<f64>,
}

impl Adaptive {
    /// Factors by which averages that began at zero are too small at step `count`: 1 - beta^count.
    pub fn corrections(betas: [f64; 2], count: u64) -> [f64; 2] {
        betas.map(|beta| 1.0 - libm::pow(beta, count as f64))
    }

    /// Changes averages (`first`, `second`) and weights.
    pub fn apply(self, piece: Piece<'_>) {
        dispatch(InstructionSet::best(), Update { factors: self, piece });
    }

    /// The factors as the loop has them.
    pub fn rounded(&self) -> AdaptiveValue {
        let [beta1, beta2] = self.betas;
        AdaptiveValue {
            gain1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            gain2: (1.0 - beta2) as f32,
            l2: self.l2 as f32,
            keep: self.keep as f32,
            scale: self.scale as f32,
        }
    }

    #[inline(always)]
    fn run(&self, piece: Piece<'_>, direction: impl Fn(f32, f32) -> f32) {
        let factors = self.rounded();
        let state = piece.first.iter_mut().zip(piece.second);
        for ((weight, &gradient), (mean, square)) in
            piece.weights.iter_mut().zip(piece.gradient).zip(state)
        {
            [*weight, *mean, *square] =
                factors.step([*weight, *mean, *square], gradient, &direction);
        }
    }
}

/// Factors of one step of one value, of one model or of every lane.
#[derive(Clone, Copy)]
pub(crate) struct AdaptiveValue<V = f32> {
    pub gain1: V,
    pub beta2: V,
    pub gain2: V,
    pub l2: V,
    pub keep: V,
    pub scale: V,
}

impl<V: Real> AdaptiveValue<V> {
    /// The next weight, averaged gradient and averaged square; `direction` is computed from the averages.
    #[inline(always)]
    pub fn step(
        &self,
        [weight, mean, square]: [V; 3],
        gradient: V,
        direction: impl Fn(V, V) -> V,
    ) -> [V; 3] {
        let gradient = gradient + self.l2 * weight;
        let mean = mean + self.gain1 * (gradient - mean);
        let square = self.beta2 * square + self.gain2 * (gradient * gradient);
        let weight = self.keep * weight - self.scale * direction(mean, square);
        [weight, mean, square]
    }
}

/// The direction of a step that is divided by the root of the averaged square.
#[inline(always)]
pub(crate) fn divided<V: Real>(mean: V, square: V, epsilon: V) -> V {
    mean / (square.root() + epsilon)
}

/// The loop as a kernel: roots and divisions take a fraction of the time in wide registers, and are the same
/// in all.
struct Update<'a> {
    factors: Adaptive,
    piece: Piece<'a>,
}

impl Kernel for Update<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        match self.factors.epsilon {
            Some(epsilon) => {
                let epsilon = epsilon as f32;
                self.factors.run(self.piece, |mean, square| divided(mean, square, epsilon));
            }
            None => self.factors.run(self.piece, |mean, _| mean),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let values = |seed: u32| -> Vec<f32> {
            let hash = |i: u32| (i + seed * 1009).wrapping_mul(2_654_435_761) >> 8;
            (0..1003).map(|i| hash(i) as f32 / (1 << 23) as f32 - 1.0).collect()
        };
        for epsilon in [Some(1e-8), None] {
            let run = |set| {
                let (betas, l2, keep) = ([0.9, 0.999], 0.01, 0.99);
                let factors = Adaptive { betas, l2, keep, scale: 0.1, epsilon };
                let (mut weights, mut first, gradient) = (values(0), values(1), values(2));
                let mut second: Vec<f32> = values(3).iter().map(|v| v * v).collect();
                let piece = Piece {
                    weights: &mut weights,
                    gradient: &gradient,
                    first: &mut first,
                    second: &mut second,
                };
                dispatch(set, Update { factors, piece });
                (weights, first, second)
            };
            let portable = run(InstructionSet::Portable);
            for set in InstructionSet::available() {
                assert!(run(set) == portable, "{set:?}");
            }
        }
    }
}
