//! Norms of gradients, and clipping by them.

/// Values of one task; see the pieces of an optimiser's step.
const PIECE: usize = 1 << 18;

/// Euclidean norm of all values.
///
/// Sums are in `f64` in an order that depends on the length alone, not on the number of threads.
pub fn global_norm(gradient: &[f32]) -> f64 {
    sum_of_squares(gradient).sqrt()
}

/// Scales `gradient` down to the norm `max_norm` if its norm is larger, as
/// `torch.nn.utils.clip_grad_norm_`, and returns the norm that it had.
///
/// A norm that is not finite makes gradients NaN, as in PyTorch: the caller sees it in the result.
pub fn clip_global_norm(gradient: &mut [f32], max_norm: f64) -> f64 {
    let norm = global_norm(gradient);
    let factor = (max_norm / (norm + 1e-6)) as f32;
    // Not `factor < 1.0`: a NaN must go on into the gradient.
    let enough = factor >= 1.0;
    if !enough {
        gradient.iter_mut().for_each(|g| *g *= factor);
    }
    norm
}

fn sum_of_squares(values: &[f32]) -> f64 {
    if values.len() > PIECE {
        let (left, right) = values.split_at(values.len() / 2);
        let (left, right) = rayon::join(|| sum_of_squares(left), || sum_of_squares(right));
        return left + right;
    }
    sum(values, |v| v * v)
}

/// Sum of `of` all values, in eight lanes: it vectorises, and its order is fixed.
pub(super) fn sum(values: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    let (lanes, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for lane in lanes {
        sums.iter_mut().zip(lane).for_each(|(sum, &v)| *sum += of(f64::from(v)));
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&v| of(f64::from(v))).sum::<f64>()
}
