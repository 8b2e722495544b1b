//! Normalisations that are not folded into a convolution.

use super::conv::BLOCK;
use super::maps::{Blocked, for_each_row};

/// scale * x + shift per channel; both are padded with zeros to whole blocks.
pub fn affine(
    scale: &[f32],
    shift: &[f32],
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    for_each_row(input, output, |block, source, target| {
        let scale = &scale[block * BLOCK..][..BLOCK];
        let shift = &shift[block * BLOCK..][..BLOCK];
        for (to, from) in target.iter_mut().zip(source) {
            for lane in 0..BLOCK {
                to[lane] = scale[lane] * from[lane] + shift[lane];
            }
        }
    });
}

/// Group normalisation: mean and (biased) variance over the pixels and channels of each group.
pub fn group(
    groups: usize,
    eps: f32,
    scale: &[f32],
    shift: &[f32],
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    let (from, source) = input;
    let per_group = from.channels / groups;
    let count = (per_group * from.height * from.width) as f64;
    let mut sums = vec![[0f64; 2]; from.channels];
    for (c, sum) in sums.iter_mut().enumerate() {
        for y in 0..from.height {
            for pixel in from.row(source, c / BLOCK, y) {
                let value = f64::from(pixel[c % BLOCK]);
                sum[0] += value;
                sum[1] += value * value;
            }
        }
    }
    let padded = from.blocks() * BLOCK;
    let (mut a, mut b) = (vec![0.0; padded], vec![0.0; padded]);
    for g in 0..groups {
        let channels = g * per_group..(g + 1) * per_group;
        let total = sums[channels.clone()].iter().fold([0.0; 2], |t, s| [t[0] + s[0], t[1] + s[1]]);
        let mean = total[0] / count;
        let variance = (total[1] / count - mean * mean).max(0.0);
        let inverse = 1.0 / (variance + f64::from(eps)).sqrt();
        for c in channels {
            a[c] = (f64::from(scale[c]) * inverse) as f32;
            b[c] = (f64::from(shift[c]) - mean * f64::from(scale[c]) * inverse) as f32;
        }
    }
    affine(&a, &b, input, output);
}

/// Parameters of local response normalisation, as `torch.nn.LocalResponseNorm`.
#[derive(Clone, Copy, Debug)]
pub struct LocalResponse {
    /// Channels in the sum.
    pub size: usize,
    /// Scale of the mean of squares.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Offset.
    pub k: f32,
}

/// x / (k + alpha * mean of the squares of `size` neighbouring channels)^beta.
pub fn local_response(p: LocalResponse, input: (&Blocked, &[f32]), output: (&Blocked, &mut [f32])) {
    let (from, source) = input;
    let (to, target) = output;
    let value = |c: usize, y: usize, x: usize| source[from.at(c / BLOCK, y, x) + c % BLOCK];
    for y in 0..from.height {
        for x in 0..from.width {
            for c in 0..from.channels {
                let window =
                    c.saturating_sub(p.size / 2)..(c + p.size.div_ceil(2)).min(from.channels);
                let squares: f32 = window.map(|n| value(n, y, x) * value(n, y, x)).sum();
                let divisor = (p.k + p.alpha * squares / p.size as f32).powf(p.beta);
                target[to.at(c / BLOCK, y, x) + c % BLOCK] = value(c, y, x) / divisor;
            }
        }
    }
}
