//! Dropout, with a mask of its own in every lane.

use super::super::{LANES, Vector};
use crate::kernels::dropout::Mask;
use crate::kernels::simd::{InstructionSet, Kernel, Lanes, dispatch};
use crate::net::Shape;

/// A dropout layer of some of the models.
#[derive(Clone, Debug)]
pub(in crate::lanes) struct DropoutPass {
    pub shape: Shape,
    /// The numbers by which masks know the elements.
    numbers: Vec<u32>,
    /// Probability, and number of the layer in the model's graph.
    pub layers: [Option<(f32, usize)>; LANES],
}

/// The masks of one sample.
pub(in crate::lanes) type LaneMasks = [Mask; LANES];

impl DropoutPass {
    pub fn new(shape: Shape) -> Self {
        let numbers = (0..shape.element_count()).map(|i| Mask::number(shape, i)).collect();
        DropoutPass { shape, numbers, layers: [None; LANES] }
    }

    /// The masks of a sample of the batch in a step of these seeds.
    pub fn masks(&self, seeds: &[u64; LANES], sample: usize) -> LaneMasks {
        std::array::from_fn(|lane| match self.layers[lane] {
            Some((probability, layer)) => Mask::new(probability, seeds[lane], layer, sample),
            None => Mask::NONE,
        })
    }

    /// Writes the factors of one sample's elements.
    pub fn factors(&self, set: InstructionSet, masks: &LaneMasks, factors: &mut [Vector]) {
        dispatch(set, Factors { numbers: &self.numbers, masks, factors });
    }
}

/// Elements computed at a time.
const PIECE: usize = 128;

struct Factors<'a> {
    numbers: &'a [u32],
    masks: &'a LaneMasks,
    factors: &'a mut [Vector],
}

impl Kernel for Factors<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // Lane by lane and in pieces that are longer than the compiler unrolls, so that it makes vector code.
        let pieces = self.numbers.chunks(PIECE).zip(self.factors.chunks_mut(PIECE));
        for (numbers, factors) in pieces {
            for (lane, mask) in self.masks.iter().enumerate() {
                let mut piece = [0.0; PIECE];
                for (factor, &number) in piece.iter_mut().zip(numbers) {
                    *factor = mask.factor(number);
                }
                for (factors, factor) in factors.iter_mut().zip(piece) {
                    factors.0[lane] = factor;
                }
            }
        }
    }
}
