//! Where the values of one sample stand in memory, and moving them in and out.

use crate::net::Shape;

/// Channels of one block.
pub const BLOCK: usize = 16;

/// Tokens of a multiple of so many elements are kept further apart.
const LONG_TOKEN: usize = 128;

/// Where the values of one operand stand, in `f32` elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strides {
    /// From one sample to the next.
    pub sample: usize,
    /// From one block of 16 channels to the next.
    pub block: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one pixel to the next.
    pub pixel: usize,
}

/// Memory layout of one sample's value.
///
/// Feature maps: `[channels / 16][height + 2 border][width + 2 border][16]`. Tokens and vectors (one
/// token): `[count][width / 16][16]`, so that the tokens of all samples of a chunk are the rows of
/// one matrix. Lanes beyond the last channel and the border hold zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocked {
    /// Channels, or elements of a token.
    pub channels: usize,
    /// Rows; 1 for tokens.
    pub height: usize,
    /// Columns, or tokens.
    pub width: usize,
    /// Zeros on every side.
    pub border: usize,
    /// The blocks of one token stand together, not the pixels of one block.
    pub token_major: bool,
}

impl Blocked {
    /// The layout of a shape.
    pub fn new(shape: Shape, border: usize) -> Self {
        match shape {
            Shape::Maps { channels, height, width } => {
                Blocked { channels, height, width, border, token_major: false }
            }
            Shape::Tokens { count, width } => Blocked::tokens(count, width),
            Shape::Vector(len) => Blocked::tokens(1, len),
        }
    }

    /// `count` tokens of `channels` elements.
    pub fn tokens(count: usize, channels: usize) -> Self {
        Blocked { channels, height: 1, width: count, border: 0, token_major: true }
    }

    /// The same values with another border; tokens have none.
    pub fn with_border(self, border: usize) -> Self {
        Blocked { border: if self.token_major { 0 } else { border }, ..self }
    }

    /// Blocks of 16 channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// From one token to the next. Tokens a power of two apart would share few lines of the cache,
    /// so that long ones get a block more.
    fn token_stride(&self) -> usize {
        let len = self.blocks() * BLOCK;
        if len.is_multiple_of(LONG_TOKEN) { len + BLOCK } else { len }
    }

    /// Distances between neighbours.
    pub fn strides(&self) -> Strides {
        let sample = self.len();
        if self.token_major {
            let token = self.token_stride();
            return Strides { sample, block: BLOCK, row: sample, pixel: token };
        }
        let row = (self.width + 2 * self.border) * BLOCK;
        Strides { sample, block: (self.height + 2 * self.border) * row, row, pixel: BLOCK }
    }

    /// Distances where the tokens of all samples are the rows of one matrix.
    pub fn row_strides(&self) -> Strides {
        Strides { row: 0, sample: 0, ..self.strides() }
    }

    /// Length of one sample.
    pub fn len(&self) -> usize {
        if self.token_major {
            return self.width * self.token_stride();
        }
        let pixels = (self.height + 2 * self.border) * (self.width + 2 * self.border);
        self.blocks() * BLOCK * pixels
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position of pixel (0, 0) of the first block.
    pub fn origin(&self) -> usize {
        if self.token_major {
            return 0;
        }
        let s = self.strides();
        self.border * (s.row + s.pixel)
    }

    /// Position of lane 0 of a pixel.
    pub fn at(&self, block: usize, y: usize, x: usize) -> usize {
        let s = self.strides();
        self.origin() + block * s.block + y * s.row + x * s.pixel
    }

    /// The pixels of one row of one block, inside the border.
    #[inline(always)]
    pub fn pixels<'a>(
        &self,
        values: &'a [f32],
        block: usize,
        y: usize,
    ) -> impl Iterator<Item = &'a [f32; BLOCK]> + use<'a> {
        let s = self.strides();
        let start = self.at(block, y, 0);
        let values = &values[start..start + (self.width - 1) * s.pixel + BLOCK];
        values.as_chunks().0.iter().step_by(s.pixel / BLOCK)
    }

    /// The pixels of one row of one block, inside the border.
    #[inline(always)]
    pub fn pixels_mut<'a>(
        &self,
        values: &'a mut [f32],
        block: usize,
        y: usize,
    ) -> impl Iterator<Item = &'a mut [f32; BLOCK]> + use<'a> {
        let s = self.strides();
        let start = self.at(block, y, 0);
        let values = &mut values[start..start + (self.width - 1) * s.pixel + BLOCK];
        values.as_chunks_mut().0.iter_mut().step_by(s.pixel / BLOCK)
    }

    /// One row of one block, inside the border; not of tokens.
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

    /// Sets the lanes beyond the last channel to zero.
    pub fn clear_padding(&self, values: &mut [f32]) {
        let lanes = self.channels % BLOCK;
        if lanes > 0 {
            for y in 0..self.height {
                for pixel in self.pixels_mut(values, self.blocks() - 1, y) {
                    pixel[lanes..].fill(0.0);
                }
            }
        }
    }

    /// Writes a sample (C, H, W for maps, token by token for tokens) into blocks.
    pub fn scatter(&self, sample: &[f32], values: &mut [f32]) {
        if self.token_major {
            let tokens = values.chunks_exact_mut(self.strides().pixel);
            for (token, source) in tokens.zip(sample.chunks_exact(self.channels)) {
                token[..self.channels].copy_from_slice(source);
            }
            return;
        }
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

    /// Adds a sample (C, H, W for maps, token by token for tokens) to blocks.
    pub fn add_scattered(&self, sample: &[f32], values: &mut [f32]) {
        if self.token_major {
            let tokens = values.chunks_exact_mut(self.strides().pixel);
            for (token, source) in tokens.zip(sample.chunks_exact(self.channels)) {
                token.iter_mut().zip(source).for_each(|(to, from)| *to += from);
            }
            return;
        }
        let plane = self.height * self.width;
        for c in 0..self.channels {
            for y in 0..self.height {
                let source = &sample[c * plane + y * self.width..][..self.width];
                let row = self.row_mut(values, c / BLOCK, y);
                for (pixel, &value) in row.iter_mut().zip(source) {
                    pixel[c % BLOCK] += value;
                }
            }
        }
    }

    /// Reads a sample (C, H, W for maps, token by token for tokens) out of blocks.
    pub fn gather(&self, values: &[f32], sample: &mut [f32]) {
        if self.token_major {
            let tokens = values.chunks_exact(self.strides().pixel);
            for (token, target) in tokens.zip(sample.chunks_exact_mut(self.channels)) {
                target.copy_from_slice(&token[..self.channels]);
            }
            return;
        }
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

/// A value of one sample and its layout.
pub type Value<'a> = (&'a Blocked, &'a [f32]);

/// Calls `f` with every pair of pixels of an input and an output of equal height and width.
#[inline(always)]
pub fn for_each_pixel(
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
    mut f: impl FnMut(usize, &[f32; BLOCK], &mut [f32; BLOCK]),
) {
    let (from, source) = input;
    let (to, target) = output;
    for block in 0..from.blocks() {
        for y in 0..from.height {
            let target = to.pixels_mut(target, block, y);
            for (from, to) in from.pixels(source, block, y).zip(target) {
                f(block, from, to);
            }
        }
    }
}

/// y = x, or y += x.
pub fn copy(input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32]), accumulate: bool) {
    let keep = if accumulate { 1.0 } else { 0.0 };
    for_each_pixel(input, output, |_, from, to| {
        for lane in 0..BLOCK {
            to[lane] = to[lane] * keep + from[lane];
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
    let (to, target) = output;
    copy(a, (to, target), false);
    copy(b, (to, target), true);
    if relu {
        for value in target {
            // Not `max`, which would turn NaN into 0.
            if *value < 0.0 {
                *value = 0.0;
            }
        }
    }
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

/// dx += dy through the option A shortcut.
pub fn pad_shortcut_backward(
    stride: usize,
    gradient: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    let (to, dy) = gradient;
    let (from, dx) = output;
    let shift = (to.channels - from.channels) / 2;
    for channel in 0..from.channels {
        let (block, lane) = ((channel + shift) / BLOCK, (channel + shift) % BLOCK);
        for y in 0..to.height {
            let target = from.row_mut(dx, channel / BLOCK, y * stride);
            for (x, pixel) in to.row(dy, block, y).iter().enumerate() {
                target[x * stride][channel % BLOCK] += pixel[lane];
            }
        }
    }
}

/// Two sequences of tokens side by side.
pub fn concat(a: (&Blocked, &[f32]), b: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let (to, target) = output;
    for token in 0..to.width {
        let target = &mut target[token * to.strides().pixel..][..to.channels];
        let (first, second) = target.split_at_mut(a.0.channels);
        first.copy_from_slice(&a.1[token * a.0.strides().pixel..][..first.len()]);
        second.copy_from_slice(&b.1[token * b.0.strides().pixel..][..second.len()]);
    }
}

/// dx += the part of dy that starts at element `first` of every token.
pub fn concat_backward(first: usize, gradient: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let (from, dy) = gradient;
    let (to, dx) = output;
    for token in 0..to.width {
        let dy = &dy[token * from.strides().pixel + first..][..to.channels];
        let dx = &mut dx[token * to.strides().pixel..][..to.channels];
        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_survive_blocking() {
        let shape = Shape::Maps { channels: 19, height: 3, width: 5 };
        let layout = Blocked::new(shape, 2);
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
