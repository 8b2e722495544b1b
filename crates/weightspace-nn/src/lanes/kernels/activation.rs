//! Elementwise non-linearities, one kind or another in every lane.

use super::super::{LANES, Vector};
use super::{flat, flat_mut};
use crate::kernels::activation::{gelu, gelu_derivative, relu};
use crate::kernels::math;
use crate::kernels::simd::{InstructionSet, Kernel, Lanes, dispatch};
use crate::net::Activation;

/// The kinds that occur, each with bits of its lanes: all set or none.
#[derive(Clone, Debug)]
pub(in crate::lanes) struct ActivationPass {
    kinds: Vec<(Activation, [u32; LANES])>,
}

impl ActivationPass {
    pub fn new(kinds: [Activation; LANES]) -> Self {
        let occurring = Activation::ALL.into_iter().filter(|kind| kinds.contains(kind));
        let lanes = |kind| kinds.map(|other| if other == kind { u32::MAX } else { 0 });
        ActivationPass { kinds: occurring.map(|kind| (kind, lanes(kind))).collect() }
    }

    /// y = f(x).
    pub fn forward(&self, set: InstructionSet, x: &[Vector], y: &mut [Vector]) {
        for (i, (kind, lanes)) in self.kinds.iter().enumerate() {
            // The first kind also writes the lanes of the others, which follow.
            let lanes = if i == 0 { &[u32::MAX; LANES] } else { lanes };
            macro_rules! map {
                ($f:expr) => {
                    dispatch(set, Map { x, target: &mut *y, lanes, f: |x: f32, _: f32| $f(x) })
                };
            }
            match kind {
                Activation::Relu => map!(relu),
                Activation::Gelu => map!(gelu),
                Activation::Tanh => map!(math::tanh),
                Activation::Sigmoid => map!(math::sigmoid),
                Activation::Sine => map!(math::sin),
            }
        }
    }

    /// gradient *= f'(x), with x the input and y the output of the pass forward.
    pub fn backward(
        &self,
        set: InstructionSet,
        (x, y): (&[Vector], &[Vector]),
        gradient: &mut [Vector],
    ) {
        for (kind, lanes) in &self.kinds {
            macro_rules! multiply {
                ($of:expr, $f:expr) => {{
                    let f = |v: f32, dy: f32| dy * $f(v);
                    dispatch(set, Map { x: $of, target: &mut *gradient, lanes, f })
                }};
            }
            match kind {
                Activation::Relu => multiply!(y, |y| if y > 0.0 { 1.0 } else { 0.0 }),
                Activation::Gelu => multiply!(x, gelu_derivative),
                Activation::Tanh => multiply!(y, |y: f32| 1.0 - y * y),
                Activation::Sigmoid => multiply!(y, |y: f32| y * (1.0 - y)),
                Activation::Sine => multiply!(x, math::cos),
            }
        }
    }
}

/// Numbers whose lanes are selected at a time.
const CHUNK: usize = 8 * LANES;

/// target = f(x, target) in the lanes whose bits are set.
struct Map<'a, F> {
    x: &'a [Vector],
    target: &'a mut [Vector],
    lanes: &'a [u32; LANES],
    f: F,
}

impl<F: Fn(f32, f32) -> f32> Kernel for Map<'_, F> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        if *self.lanes == [u32::MAX; LANES] {
            for (target, &x) in flat_mut(self.target).iter_mut().zip(flat(self.x)) {
                *target = (self.f)(x, *target);
            }
            return;
        }
        // Slices and not arrays of 16: the compiler makes vector code of loops, not of unrolled ones.
        let bits: [u32; CHUNK] = std::array::from_fn(|i| self.lanes[i % LANES]);
        let targets = flat_mut(self.target).chunks_mut(CHUNK);
        for (target, x) in targets.zip(flat(self.x).chunks(CHUNK)) {
            for ((target, &x), &bits) in target.iter_mut().zip(x).zip(&bits) {
                let new = (self.f)(x, *target).to_bits();
                *target = f32::from_bits(new & bits | target.to_bits() & !bits);
            }
        }
    }
}
