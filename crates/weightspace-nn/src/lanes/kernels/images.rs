//! Sixteen images side by side.

use super::super::{LANES, Vector};
use super::at_mut;
use crate::kernels::simd::{InstructionSet, Kernel, Lanes, dispatch};

/// Writes value i of image l to lane l of vector i.
pub(in crate::lanes) fn transpose(
    set: InstructionSet,
    images: [&[f32]; LANES],
    target: &mut [Vector],
) {
    let count = target.len();
    dispatch(set, Transpose { images: images.map(|image| &image[..count]), target });
}

struct Transpose<'a> {
    /// As many values each as there are targets.
    images: [&'a [f32]; LANES],
    target: &'a mut [Vector],
}

impl Kernel for Transpose<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let whole = self.target.len() / LANES * LANES;
        for first in (0..whole).step_by(LANES) {
            // SAFETY: 16 values of every image and of the target follow `first`; the processor has the
            // instruction set by the contract of `run`.
            unsafe {
                let rows =
                    std::array::from_fn(|lane| L::load(self.images[lane].as_ptr().add(first)));
                for (i, column) in L::transpose(rows).into_iter().enumerate() {
                    column.store(at_mut(self.target, first + i));
                }
            }
        }
        for i in whole..self.target.len() {
            for lane in 0..LANES {
                self.target[i].0[lane] = self.images[lane][i];
            }
        }
    }
}
