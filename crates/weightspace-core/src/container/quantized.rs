//! Quantised tensors and the exact arithmetic that turns them into numbers.

/// 2^(-j/8) for j = 0..8, rounded to the nearest `f32`: 0x3f800000, 0x3f6ac0c7, 0x3f5744fd,
/// 0x3f45672a, 0x3f3504f3, 0x3f25fed7, 0x3f1837f0, 0x3f0b95c2.
pub const OCTAVE_EIGHTHS: [f32; 8] = [
    f32::from_bits(0x3f80_0000),
    f32::from_bits(0x3f6a_c0c7),
    f32::from_bits(0x3f57_44fd),
    f32::from_bits(0x3f45_672a),
    f32::from_bits(0x3f35_04f3),
    f32::from_bits(0x3f25_fed7),
    f32::from_bits(0x3f18_37f0),
    f32::from_bits(0x3f0b_95c2),
];

/// A tensor of integers times a scale, or times one scale per output channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// Dimensions, outermost first; the outermost are the output channels.
    pub shape: Vec<usize>,
    /// Positive and finite.
    pub scale: f32,
    /// One exponent e per output channel, whose scale is `scale` * 2^(-e/8).
    pub channel_exponents: Option<Vec<u8>>,
    /// The integers in row-major order, each of magnitude below 2^24.
    pub values: Vec<i32>,
}

impl Quantized {
    /// The step of an output channel: `scale` * 2^(-e/8), computed as docs/format.md says.
    ///
    /// # Panics
    /// If there are channel exponents, but none for `channel`.
    pub fn channel_scale(&self, channel: usize) -> f32 {
        match &self.channel_exponents {
            Some(exponents) => channel_scale(self.scale, exponents[channel]),
            None => self.scale,
        }
    }

    /// The tensor's values in row-major order: exactly what a decoder gives.
    ///
    /// # Panics
    /// If `values` or `channel_exponents` do not have the numbers that `shape` says.
    pub fn dequantize(&self) -> Vec<f32> {
        assert_eq!(
            self.values.len(),
            self.shape.iter().product::<usize>(),
            "values of {:?}",
            self.shape
        );
        let channels = self.shape.first().copied().unwrap_or(1);
        let row = self.values.len() / channels.max(1);
        let rows = self.values.chunks(row.max(1)).enumerate();
        rows.flat_map(|(channel, row)| {
            let scale = self.channel_scale(channel);
            row.iter().map(move |&q| dequantize(q, scale))
        })
        .collect()
    }
}

/// `scale` * 2^(-e/8): the `f32` product with the constant of e mod 8 (rounded to nearest even),
/// times the power of two of e div 8 (exact but for subnormal results, which round again).
pub(crate) fn channel_scale(scale: f32, exponent: u8) -> f32 {
    let octaves = u32::from(exponent / 8);
    let power_of_two = f32::from_bits((127 - octaves) << 23);
    scale * OCTAVE_EIGHTHS[usize::from(exponent % 8)] * power_of_two
}

/// One value: the integer as `f32` (exact) times the scale of its channel (rounded to nearest).
pub(crate) fn dequantize(q: i32, channel_scale: f32) -> f32 {
    q as f32 * channel_scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eighths_are_the_nearest_floats() {
        for (j, constant) in OCTAVE_EIGHTHS.iter().enumerate() {
            assert_eq!(*constant, (-(j as f64) / 8.0).exp2() as f32, "2^(-{j}/8)");
        }
    }

    #[test]
    fn whole_octaves_are_exact() {
        for exponent in [0, 8, 16, 248] {
            let expected = 3.0 / (1u64 << (exponent / 8)) as f32;
            assert_eq!(channel_scale(3.0, exponent), expected);
        }
    }

    #[test]
    fn rows_have_their_own_scales() {
        let quantized = Quantized {
            shape: vec![2, 2],
            scale: 0.5,
            channel_exponents: Some(vec![0, 8]),
            values: vec![1, -2, 3, 4],
        };
        assert_eq!(quantized.dequantize(), [0.5, -1.0, 0.75, 1.0]);
    }
}
