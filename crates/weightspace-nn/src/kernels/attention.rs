//! Multi-head self-attention of one sample: softmax(q k^T / sqrt(width)) v for every head.
//!
//! Everything is computed with the tokens of the keys, or the elements of a head, side by side in
//! the lanes. The probabilities are recomputed in the backward pass.

use super::math;
use super::simd::{InstructionSet, Kernel, Lanes, dispatch};

/// Sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Tokens.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Elements of one head.
    pub width: usize,
    /// From one token of query, key and value to the next.
    pub input_stride: usize,
    /// From one token of the result to the next.
    pub output_stride: usize,
}

impl Heads {
    /// Length of the scratch memory: transposed keys and values, probabilities, their gradients.
    pub fn scratch_len(&self) -> usize {
        2 * self.tokens * (self.width + self.tokens)
    }

    /// First element of a token's query (part 0), key (1) or value (2) of a head.
    fn at(&self, token: usize, part: usize, head: usize) -> usize {
        token * self.input_stride + (part * self.heads + head) * self.width
    }
}

/// target[j] += sum_i a[i] b[i][j]: a row times a matrix.
#[inline(always)]
fn row_times_matrix(a: &[f32], b: &[f32], target: &mut [f32]) {
    for (&a, b) in a.iter().zip(b.chunks_exact(target.len())) {
        for (target, &b) in target.iter_mut().zip(b) {
            *target += a * b;
        }
    }
}

/// Writes one part of one head as `[width][tokens]`.
#[inline(always)]
fn transpose(h: &Heads, input: &[f32], part: usize, head: usize, target: &mut [f32]) {
    for token in 0..h.tokens {
        let source = &input[h.at(token, part, head)..][..h.width];
        for (i, &value) in source.iter().enumerate() {
            target[i * h.tokens + token] = value;
        }
    }
}

/// Softmax of the scaled scores of one query.
#[inline(always)]
fn softmax(scores: &mut [f32], scale: f32) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = math::exp((*score - largest) * scale);
    }
    let inverse = 1.0 / scores.iter().sum::<f32>();
    scores.iter_mut().for_each(|score| *score *= inverse);
}

/// Probabilities `[tokens][tokens]` of one head; `keys` is scratch of `width * tokens`.
#[inline(always)]
fn probabilities(h: &Heads, input: &[f32], head: usize, keys: &mut [f32], target: &mut [f32]) {
    transpose(h, input, 1, head, keys);
    target.fill(0.0);
    let scale = 1.0 / (h.width as f32).sqrt();
    for (token, row) in target.chunks_exact_mut(h.tokens).enumerate() {
        row_times_matrix(&input[h.at(token, 0, head)..][..h.width], keys, row);
        softmax(row, scale);
    }
}

struct Forward<'a> {
    heads: Heads,
    input: &'a [f32],
    output: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let h = self.heads;
        let (keys, rest) = self.scratch.split_at_mut(h.width * h.tokens);
        let scores = &mut rest[..h.tokens * h.tokens];
        for head in 0..h.heads {
            probabilities(&h, self.input, head, keys, scores);
            for (token, row) in scores.chunks_exact(h.tokens).enumerate() {
                let target =
                    &mut self.output[token * h.output_stride + head * h.width..][..h.width];
                target.fill(0.0);
                for (other, &p) in row.iter().enumerate() {
                    let value = &self.input[h.at(other, 2, head)..][..h.width];
                    target.iter_mut().zip(value).for_each(|(t, v)| *t += p * v);
                }
            }
        }
    }
}

/// Attention of one sample; `input` holds query, key and value of every token side by side.
pub fn forward(
    set: InstructionSet,
    heads: Heads,
    input: &[f32],
    output: &mut [f32],
    scratch: &mut [f32],
) {
    dispatch(set, Forward { heads, input, output, scratch });
}

struct Backward<'a> {
    heads: Heads,
    input: &'a [f32],
    gradient: &'a [f32],
    output: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let h = self.heads;
        let scale = 1.0 / (h.width as f32).sqrt();
        let (transposed, rest) = self.scratch.split_at_mut(h.width * h.tokens);
        let (p, rest) = rest.split_at_mut(h.tokens * h.tokens);
        let ds = &mut rest[..h.tokens * h.tokens];
        for head in 0..h.heads {
            probabilities(&h, self.input, head, transposed, p);
            // ds = p . (dp - sum_j p dp) / sqrt(width) with dp = dy v^T.
            transpose(&h, self.input, 2, head, transposed);
            ds.fill(0.0);
            for token in 0..h.tokens {
                let dy = &self.gradient[token * h.output_stride + head * h.width..][..h.width];
                let ds = &mut ds[token * h.tokens..][..h.tokens];
                let p = &p[token * h.tokens..][..h.tokens];
                row_times_matrix(dy, transposed, ds);
                let mean: f32 = p.iter().zip(&*ds).map(|(p, dp)| p * dp).sum();
                ds.iter_mut().zip(p).for_each(|(ds, p)| *ds = p * (*ds - mean) * scale);
                // dq += ds k: the rows of k side by side.
                let dq = &mut self.output[h.at(token, 0, head)..][..h.width];
                for (other, &ds) in ds.iter().enumerate() {
                    let key = &self.input[h.at(other, 1, head)..][..h.width];
                    dq.iter_mut().zip(key).for_each(|(dq, k)| *dq += ds * k);
                }
            }
            // dv += p^T dy, dk += ds^T q.
            for other in 0..h.tokens {
                let dv = &mut self.output[h.at(other, 2, head)..][..h.width];
                for token in 0..h.tokens {
                    let p = p[token * h.tokens + other];
                    let dy = &self.gradient[token * h.output_stride + head * h.width..][..h.width];
                    dv.iter_mut().zip(dy).for_each(|(dv, dy)| *dv += p * dy);
                }
                let dk = &mut self.output[h.at(other, 1, head)..][..h.width];
                for token in 0..h.tokens {
                    let ds = ds[token * h.tokens + other];
                    let query = &self.input[h.at(token, 0, head)..][..h.width];
                    dk.iter_mut().zip(query).for_each(|(dk, q)| *dk += ds * q);
                }
            }
        }
    }
}

/// `output` (the gradient of query, key and value) += the gradient of [`forward`].
pub fn backward(
    set: InstructionSet,
    heads: Heads,
    input: &[f32],
    gradient: &[f32],
    output: &mut [f32],
    scratch: &mut [f32],
) {
    dispatch(set, Backward { heads, input, gradient, output, scratch });
}
