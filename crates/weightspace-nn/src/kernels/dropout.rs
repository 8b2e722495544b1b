//! Dropout with a mask that is a function of a key and the element's position: it need not be
//! stored, and does not depend on threads.

use super::maps::{BLOCK, Blocked};
use crate::net::Shape;

/// A mixing function with good avalanche on 32 bits (Wellons' hash prospector, 2018).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The mask of one sample of one layer in one step.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    low: u32,
    high: u32,
    /// Elements whose number is below are zeroed.
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// The mask of that step, layer and sample.
    pub fn new(probability: f32, seed: u64, layer: usize, sample: usize) -> Self {
        let layer = mix(seed as u32 ^ mix(layer as u32));
        let low = mix(layer ^ mix((seed >> 32) as u32 ^ mix(sample as u32)));
        let high = mix(low ^ (sample as u64 >> 32) as u32 ^ 0x9e37_79b9);
        let threshold = (f64::from(probability) * 4_294_967_296.0).min(4_294_967_295.0) as u32;
        let scale = if probability < 1.0 { 1.0 / (1.0 - probability) } else { 0.0 };
        Mask { low, high, threshold, scale }
    }

    /// The mask that keeps everything.
    pub const NONE: Mask = Mask { low: 0, high: 0, threshold: 0, scale: 1.0 };

    /// What element `number` is multiplied with.
    #[inline(always)]
    pub fn factor(&self, number: u32) -> f32 {
        let kept = mix(self.low.wrapping_add(number)) ^ self.high >= self.threshold;
        if kept { self.scale } else { 0.0 }
    }

    /// Number of an element, given by its position in (channel, row, column) order.
    pub fn number(shape: Shape, element: usize) -> u32 {
        let Shape::Maps { height, width, .. } = shape else { return element as u32 };
        let (channel, pixel) = (element / (height * width), element % (height * width));
        ((channel / BLOCK * height * width + pixel) * BLOCK + channel % BLOCK) as u32
    }

    /// y = mask * x / (1 - p), or added to y.
    pub fn apply(
        &self,
        input: (&Blocked, &[f32]),
        output: (&Blocked, &mut [f32]),
        accumulate: bool,
    ) {
        let keep = if accumulate { 1.0 } else { 0.0 };
        let mut at = self.low;
        super::maps::for_each_pixel(input, output, |_, from, to| {
            for lane in 0..BLOCK {
                let kept = mix(at.wrapping_add(lane as u32)) ^ self.high >= self.threshold;
                to[lane] = to[lane] * keep + if kept { from[lane] * self.scale } else { 0.0 };
            }
            at = at.wrapping_add(BLOCK as u32);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_stated_share_and_scales_it() {
        let layout = Blocked::tokens(100, 160);
        let ones = vec![1.0; layout.len()];
        for probability in [0.0, 0.1, 0.5] {
            let mut y = vec![0.0; ones.len()];
            Mask::new(probability, 7, 3, 11).apply((&layout, &ones), (&layout, &mut y), false);
            let dropped = y.iter().filter(|y| **y == 0.0).count() as f32 / y.len() as f32;
            assert!((dropped - probability).abs() < 0.015, "{probability}: {dropped}");
            let mean = y.iter().sum::<f32>() / y.len() as f32;
            assert!((mean - 1.0).abs() < 0.03, "{probability}: {mean}");
        }
    }
}
