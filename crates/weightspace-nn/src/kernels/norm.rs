//! Normalisations that are not folded into a convolution.

use super::maps::{BLOCK, Blocked, for_each_pixel};

/// scale * x + shift per channel; both are padded with zeros to whole blocks.
pub fn affine(
    scale: &[f32],
    shift: &[f32],
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    for_each_pixel(input, output, |block, from, to| {
        let scale = &scale[block * BLOCK..][..BLOCK];
        let shift = &shift[block * BLOCK..][..BLOCK];
        for lane in 0..BLOCK {
            to[lane] = scale[lane] * from[lane] + shift[lane];
        }
    });
}

/// Mean and 1 / sqrt(variance + eps) of every group of channels of one sample.
fn group_statistics(groups: usize, eps: f32, input: (&Blocked, &[f32])) -> Vec<[f64; 2]> {
    let (layout, values) = input;
    let per_group = layout.channels / groups;
    let count = (per_group * layout.height * layout.width) as f64;
    let mut sums = vec![[0f64; 2]; groups];
    for_each_channel_value(layout, values, |c, value| {
        let sum = &mut sums[c / per_group];
        *sum = [sum[0] + value, sum[1] + value * value];
    });
    for sum in &mut sums {
        let mean = sum[0] / count;
        let variance = (sum[1] / count - mean * mean).max(0.0);
        *sum = [mean, 1.0 / (variance + f64::from(eps)).sqrt()];
    }
    sums
}

fn for_each_channel_value(layout: &Blocked, values: &[f32], mut f: impl FnMut(usize, f64)) {
    for block in 0..layout.blocks() {
        let lanes = (layout.channels - block * BLOCK).min(BLOCK);
        for y in 0..layout.height {
            for pixel in layout.pixels(values, block, y) {
                for (lane, &value) in pixel[..lanes].iter().enumerate() {
                    f(block * BLOCK + lane, f64::from(value));
                }
            }
        }
    }
}

/// Group normalisation: mean and (biased) variance over the pixels and channels of each group.
pub fn group(
    groups: usize,
    eps: f32,
    (scale, shift): (&[f32], &[f32]),
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    let from = input.0;
    let per_group = from.channels / groups;
    let padded = from.blocks() * BLOCK;
    let (mut a, mut b) = (vec![0.0; padded], vec![0.0; padded]);
    let statistics = group_statistics(groups, eps, input);
    for c in 0..from.channels {
        let [mean, inverse] = statistics[c / per_group];
        a[c] = (f64::from(scale[c]) * inverse) as f32;
        b[c] = (f64::from(shift[c]) - mean * f64::from(scale[c]) * inverse) as f32;
    }
    affine(&a, &b, input, output);
}

/// dx += the gradient of [`group`], and those of scale and shift.
pub fn group_backward(
    groups: usize,
    eps: f32,
    scale: &[f32],
    input: (&Blocked, &[f32]),
    gradient: (&Blocked, &[f32]),
    (scale_gradient, shift_gradient): (&mut [f32], &mut [f32]),
    output: (&Blocked, &mut [f32]),
) {
    let (from, x) = input;
    let per_group = from.channels / groups;
    let count = (per_group * from.height * from.width) as f64;
    let statistics = group_statistics(groups, eps, input);
    // Of every channel the sums of dy and dy x^.
    let mut sums = vec![[0f64; 2]; from.channels];
    let mut x_hat = Vec::with_capacity(from.channels * from.height * from.width);
    for_each_channel_value(from, x, |c, value| {
        let [mean, inverse] = statistics[c / per_group];
        x_hat.push((value - mean) * inverse);
    });
    let mut at = 0;
    for_each_channel_value(gradient.0, gradient.1, |c, dy| {
        sums[c] = [sums[c][0] + dy, sums[c][1] + dy * x_hat[at]];
        at += 1;
    });
    let mut of_group = vec![[0f64; 2]; groups];
    for (c, sum) in sums.iter().enumerate() {
        shift_gradient[c] += sum[0] as f32;
        scale_gradient[c] += sum[1] as f32;
        let (group, weight) = (&mut of_group[c / per_group], f64::from(scale[c]));
        *group = [group[0] + weight * sum[0], group[1] + weight * sum[1]];
    }
    let mut at = 0;
    for_each_pixel(gradient, output, |block, dy, dx| {
        let lanes = (from.channels - block * BLOCK).min(BLOCK);
        for lane in 0..lanes {
            let c = block * BLOCK + lane;
            let ([_, inverse], [sum, product]) =
                (statistics[c / per_group], of_group[c / per_group]);
            let direct = f64::from(scale[c]) * f64::from(dy[lane]);
            dx[lane] += (inverse * (direct - (sum + x_hat[at] * product) / count)) as f32;
            at += 1;
        }
    });
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

/// dx += the gradient of [`local_response`].
pub fn local_response_backward(
    p: LocalResponse,
    input: (&Blocked, &[f32]),
    gradient: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
) {
    let (from, source) = input;
    let (to, dx) = output;
    let channels = from.channels;
    let at =
        |layout: &Blocked, c: usize, y: usize, x: usize| layout.at(c / BLOCK, y, x) + c % BLOCK;
    // Channel c reads the channels of `window`; so channel n is read by c - after ..= c + before.
    let (before, after) = (p.size / 2, p.size.div_ceil(2));
    let mut base = vec![0f32; channels];
    for y in 0..from.height {
        for x in 0..from.width {
            let value = |c: usize| source[at(from, c, y, x)];
            let dy = |c: usize| gradient.1[at(gradient.0, c, y, x)];
            for (c, base) in base.iter_mut().enumerate() {
                let window = c.saturating_sub(before)..(c + after).min(channels);
                let squares: f32 = window.map(|n| value(n) * value(n)).sum();
                *base = p.k + p.alpha * squares / p.size as f32;
            }
            for n in 0..channels {
                let readers = (n + 1).saturating_sub(after)..(n + before + 1).min(channels);
                let sum: f32 =
                    readers.map(|c| dy(c) * value(c) * base[c].powf(-p.beta - 1.0)).sum();
                let scale = 2.0 * p.alpha * p.beta / p.size as f32;
                dx[at(to, n, y, x)] += dy(n) * base[n].powf(-p.beta) - scale * value(n) * sum;
            }
        }
    }
}
