//! Elementwise non-linearities and their derivatives.

use std::f32::consts::FRAC_1_SQRT_2;

use super::maps::{BLOCK, Blocked, Value};
use super::math;
use super::simd::{InstructionSet, Kernel, Lanes, dispatch};
use crate::net::Activation;

/// target = f(a, b, target) for every pixel, compiled for the best instruction set.
struct Zip<'a, F> {
    a: (&'a Blocked, &'a [f32]),
    b: (&'a Blocked, &'a [f32]),
    target: (&'a Blocked, &'a mut [f32]),
    f: F,
}

impl<F: Fn(f32, f32, f32) -> f32> Kernel for Zip<'_, F> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (layout, target) = self.target;
        if *self.a.0 == *layout && *self.b.0 == *layout && layout.border == 0 {
            for ((target, &a), &b) in target.iter_mut().zip(self.a.1).zip(self.b.1) {
                *target = (self.f)(a, b, *target);
            }
            return;
        }
        for block in 0..layout.blocks() {
            for y in 0..layout.height {
                let a = self.a.0.pixels(self.a.1, block, y);
                let b = self.b.0.pixels(self.b.1, block, y);
                for ((target, a), b) in layout.pixels_mut(target, block, y).zip(a).zip(b) {
                    for lane in 0..BLOCK {
                        target[lane] = (self.f)(a[lane], b[lane], target[lane]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + math::erf(x * FRAC_1_SQRT_2))
}

#[inline(always)]
pub(crate) fn gelu_derivative(x: f32) -> f32 {
    let density = 0.398_942_3 * math::exp(-0.5 * x * x);
    0.5 + 0.5 * math::erf(x * FRAC_1_SQRT_2) + x * density
}

/// Not `max`, which would turn NaN into 0.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// y = f(x) of one sample.
pub fn forward(
    set: InstructionSet,
    activation: Activation,
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    let (layout, values) = output;
    macro_rules! map {
        ($f:expr) => {
            dispatch(
                set,
                Zip { a: input, b: input, target: (layout, &mut *values), f: |x, _, _| $f(x) },
            )
        };
    }
    match activation {
        Activation::Relu => map!(relu),
        Activation::Gelu => map!(gelu),
        Activation::Tanh => map!(math::tanh),
        Activation::Sigmoid => {
            map!(math::sigmoid);
            layout.clear_padding(values);
        }
        Activation::Sine => map!(math::sin),
    }
}

/// dx `+=` f'(x) dy of one sample, with x the input and y the output of the forward pass.
pub fn backward(
    set: InstructionSet,
    activation: Activation,
    (x, y): (Value<'_>, Value<'_>),
    gradient: (&Blocked, &[f32]),
    target: (&Blocked, &mut [f32]),
) {
    macro_rules! derivative {
        ($of:expr, $f:expr) => {
            dispatch(
                set,
                Zip { a: $of, b: gradient, target, f: |v: f32, dy: f32, dx: f32| dx + dy * $f(v) },
            )
        };
    }
    match activation {
        Activation::Relu => derivative!(y, |y| if y > 0.0 { 1.0 } else { 0.0 }),
        Activation::Gelu => derivative!(x, gelu_derivative),
        Activation::Tanh => derivative!(y, |y| 1.0 - y * y),
        Activation::Sigmoid => derivative!(y, |y| y * (1.0 - y)),
        Activation::Sine => derivative!(x, math::cos),
    }
}

/// A ReLU in place.
pub fn clamp(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = relu(*value));
}

/// The gradient of a sample, zero where the output of a ReLU is not positive.
pub fn mask_positive(
    set: InstructionSet,
    output: (&Blocked, &[f32]),
    target: (&Blocked, &mut [f32]),
) {
    let f = |y: f32, _: f32, dy: f32| if y > 0.0 { dy } else { 0.0 };
    dispatch(set, Zip { a: output, b: output, target, f });
}
