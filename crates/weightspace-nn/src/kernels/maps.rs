//! Where the values of one sample stand in memory, and moving them in and out.

use super::conv::{BLOCK, Strides};
use crate::net::{Activation, Shape};

/// Memory layout of one sample's value.
///
/// Feature maps: `[channels / 16][height + 2 border][width + 2 border][16]`. Vectors: one row of
/// whole blocks. Lanes beyond the last channel and the border hold zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocked {
    /// Channels, or elements of a vector.
    pub channels: usize,
    /// Rows; 1 for a vector.
    pub height: usize,
    /// Columns; 1 for a vector.
    pub width: usize,
    /// Zeros on every side.
    pub border: usize,
}

impl Blocked {
    /// The layout of a shape.
    pub fn new(shape: Shape, border: usize) -> Self {
        match shape {
            Shape::Maps { channels, height, width } => Blocked { channels, height, width, border },
            Shape::Vector(channels) => Blocked { channels, height: 1, width: 1, border: 0 },
        }
    }

    /// Blocks of 16 channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// Distances between neighbours.
    pub fn strides(&self) -> Strides {
        let row = (self.width + 2 * self.border) * BLOCK;
        Strides { block: (self.height + 2 * self.border) * row, row, pixel: BLOCK }
    }

    /// Length of one sample.
    pub fn len(&self) -> usize {
        self.blocks() * self.strides().block
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position of pixel (0, 0) of the first block.
    pub fn origin(&self) -> usize {
        let s = self.strides();
        self.border * (s.row + s.pixel)
    }

    /// Position of lane 0 of a pixel.
    pub fn at(&self, block: usize, y: usize, x: usize) -> usize {
        let s = self.strides();
        self.origin() + block * s.block + y * s.row + x * s.pixel
    }

    /// One row of one block, inside the border.
    pub fn row<'a>(&self, values: &'a [f32], block: usize, y: usize) -> &'a [[f32; BLOCK]] {
        let start = self.at(block, y, 0);
        values[start..start + self.width * BLOCK].as_chunks().0
    }

    /// One row of one block, inside the border.
    pub fn row_mut<'a>(
        &self,
        values: &'a mut [f32],
        block: usize,
        y: usize,
    ) -> &'a mut [[f32; BLOCK]] {
        let start = self.at(block, y, 0);
        values[start..start + self.width * BLOCK].as_chunks_mut().0
    }

    /// Writes a channel-major sample (C, H, W) into blocks.
    pub fn scatter(&self, sample: &[f32], values: &mut [f32]) {
        let plane = self.height * self.width;
        for c in 0..self.channels {
            for y in 0..self.height {
                let source = &sample[c * plane + y * self.width..][..self.width];
                let row = self.row_mut(values, c / BLOCK, y);
                for (pixel, &value) in row.iter_mut().zip(source) {
                    pixel[c % BLOCK] = value;
                }
            }
        }
    }

    /// Reads a channel-major sample (C, H, W) out of blocks.
    pub fn gather(&self, values: &[f32], sample: &mut [f32]) {
        let plane = self.height * self.width;
        for c in 0..self.channels {
            for y in 0..self.height {
                let target = &mut sample[c * plane + y * self.width..][..self.width];
                let row = self.row(values, c / BLOCK, y);
                for (value, pixel) in target.iter_mut().zip(row) {
                    *value = pixel[c % BLOCK];
                }
            }
        }
    }
}

/// Calls `f` with every pair of rows of an input and an output of equal height and width.
pub fn for_each_row(
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
    mut f: impl FnMut(usize, &[[f32; BLOCK]], &mut [[f32; BLOCK]]),
) {
    let (from, source) = input;
    let (to, target) = output;
    for block in 0..from.blocks() {
        for y in 0..from.height {
            f(block, from.row(source, block, y), to.row_mut(target, block, y));
        }
    }
}

/// Applies a non-linearity to every channel; lanes beyond the last channel stay zero.
pub fn activate(activation: Activation, input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let f: fn(f32) -> f32 = match activation {
        Activation::Relu => |x| x.max(0.0),
        Activation::Gelu => |x| 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::Tanh => f32::tanh,
        Activation::Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
    };
    let channels = input.0.channels;
    for_each_row(input, output, |block, source, target| {
        let lanes = (channels - block * BLOCK).min(BLOCK);
        for (to, from) in target.iter_mut().zip(source) {
            for (to, &from) in to[..lanes].iter_mut().zip(from) {
                *to = f(from);
            }
            to[lanes..].fill(0.0);
        }
    });
}

/// a + b, clamped at zero where asked for.
pub fn add(
    a: (&Blocked, &[f32]),
    b: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
    relu: bool,
) {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let (layout, values) = b;
    let mut y = 0;
    for_each_row(a, output, |block, first, target| {
        let second = layout.row(values, block, y % layout.height);
        for ((to, p), q) in target.iter_mut().zip(first).zip(second) {
            for lane in 0..BLOCK {
                to[lane] = (p[lane] + q[lane]).max(floor);
            }
        }
        y += 1;
    });
}

/// The option A shortcut: every `stride`-th pixel, channels moved up by half of the new ones.
pub fn pad_shortcut(stride: usize, input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let (from, source) = input;
    let (to, target) = output;
    let shift = (to.channels - from.channels) / 2;
    for block in 0..to.blocks() {
        for y in 0..to.height {
            let row = to.row_mut(target, block, y);
            row.fill([0.0; BLOCK]);
            for lane in 0..BLOCK {
                let channel = (block * BLOCK + lane).wrapping_sub(shift);
                if channel < from.channels {
                    let old = from.row(source, channel / BLOCK, y * stride);
                    for (x, pixel) in row.iter_mut().enumerate() {
                        pixel[lane] = old[x * stride][channel % BLOCK];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_survive_blocking() {
        let layout = Blocked { channels: 19, height: 3, width: 5, border: 2 };
        let sample: Vec<f32> = (0..19 * 15).map(|i| i as f32 + 1.0).collect();
        let mut blocked = vec![0.0; layout.len()];
        layout.scatter(&sample, &mut blocked);
        assert_eq!(blocked.iter().filter(|v| **v != 0.0).count(), sample.len());
        assert_eq!(blocked[layout.at(1, 2, 4) + 2], *sample.last().unwrap());
        let mut back = vec![0.0; sample.len()];
        layout.gather(&blocked, &mut back);
        assert_eq!(sample, back);
    }
}
