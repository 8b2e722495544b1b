//! The numbers that formulas of optimisers are written for.

use std::ops::{Add, Div, Mul, Sub};

use crate::kernels::simd::Lanes;

/// One number, or one of every lane.
pub(crate) trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Square root.
    fn root(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }
}

/// Sixteen numbers in a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Wide<L>(L);

impl<L: Lanes> Wide<L> {
    /// # Safety
    /// The processor has the instruction set of `L` for as long as the number is calculated with.
    #[inline(always)]
    pub unsafe fn new(value: L) -> Self {
        Wide(value)
    }

    /// The lanes.
    #[inline(always)]
    pub fn get(self) -> L {
        self.0
    }
}

macro_rules! operator {
    ($operator:ident, $method:ident) => {
        impl<L: Lanes> $operator for Wide<L> {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: the instruction set is there, by the contract of `new`.
                Wide(unsafe { self.0.$method(other.0) })
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl<L: Lanes> Real for Wide<L> {
    #[inline(always)]
    fn root(self) -> Self {
        // SAFETY: the instruction set is there, by the contract of `new`.
        Wide(unsafe { self.0.sqrt() })
    }
}
