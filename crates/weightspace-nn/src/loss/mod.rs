//! Losses: what training makes small, and its gradient with respect to a network's outputs.
//!
//! A loss is the mean over the samples of a batch. It holds what the outputs are compared with and
//! sees them in chunks of consecutive samples, in any order and on any thread: the values returned
//! for all chunks of a batch add up to the batch's loss, the gradients are those of that loss.
//! Nothing is allocated.
//!
//! ```
//! use weightspace_nn::loss::{CrossEntropy, Loss};
//!
//! let loss = CrossEntropy::new(&[1, 0], 2);
//! let mut gradient = [0.0; 4];
//! let value = loss.evaluate(0, &[0.0, 0.0, 3.0, 0.0], &mut gradient);
//! assert_eq!((value * 1e4).round(), 3709.0);
//! assert_eq!(gradient[..2], [0.25, -0.25]);
//! ```

mod cross_entropy;
mod distillation;
mod feature_distillation;
mod linear;
mod negative_log_likelihood;
mod nt_xent;
mod softmax;
mod square_root;
mod squared_error;
mod weighted;

use std::ops::Range;

pub use cross_entropy::CrossEntropy;
pub use distillation::Distillation;
pub use feature_distillation::{FeatureDistance, FeatureDistillation};
pub use linear::Linear;
pub use negative_log_likelihood::NegativeLogLikelihood;
pub use nt_xent::NtXent;
pub use square_root::SquareRoot;
pub use squared_error::MaskedMeanSquaredError;
pub use weighted::Weighted;

/// A loss for one batch.
pub trait Loss: Sync {
    /// Sees the outputs of the whole batch before it is evaluated: only for losses that compare samples, where a
    /// [`Task`](crate::train::Task) says that it has one.
    fn observe(&mut self, outputs: &[f32]) {
        let _ = outputs;
    }

    /// Returns what the samples that begin with `first_sample` contribute to the loss of the whole
    /// batch, and overwrites `gradient` with that loss's gradient with respect to `outputs`. Both
    /// are samples x width, row by row.
    ///
    /// Outputs that are not finite give a loss that is not a number.
    ///
    /// # Panics
    /// If `outputs` are not whole rows of samples of the batch or `gradient` has another length.
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64;

    /// The loss of the batch, given the sum of what all samples contribute, and the factor that all
    /// gradients then have: for losses that are a function of such a sum. Where several losses are summed
    /// it is not asked for.
    fn of_sum(&self, sum: f64) -> (f64, f64) {
        (sum, 1.0)
    }
}

/// Size of the outputs of a batch.
#[derive(Clone, Copy, Debug)]
struct Size {
    samples: usize,
    width: usize,
}

impl Size {
    /// That of `len` outputs.
    ///
    /// # Panics
    /// If these are not whole rows.
    fn of(len: usize, width: usize) -> Self {
        assert!(width > 0 && len.is_multiple_of(width), "{len} values are no rows of {width}");
        Self { samples: len / width, width }
    }

    /// Numbers of the samples that a chunk of outputs and gradients are of.
    fn chunk(self, first_sample: usize, outputs: &[f32], gradient: &[f32]) -> Range<usize> {
        assert_eq!(outputs.len(), gradient.len(), "as many gradients as outputs");
        let samples = first_sample..first_sample + Size::of(outputs.len(), self.width).samples;
        assert!(samples.end <= self.samples, "samples {samples:?} of {}", self.samples);
        samples
    }

    /// Where the values of these samples stand in those of the batch.
    fn values(self, samples: &Range<usize>) -> Range<usize> {
        samples.start * self.width..samples.end * self.width
    }
}

/// Panics if a label is no class.
fn check_labels(labels: &[u16], classes: usize) {
    let invalid = labels.iter().find(|&&label| usize::from(label) >= classes);
    assert!(invalid.is_none(), "label {} of {classes} classes", invalid.unwrap());
}

/// Sum of the products of the elements; every product is exact.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            lanes[i] += f64::from(a[i]) * f64::from(b[i]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(a) * f64::from(b));
    lanes.into_iter().chain(rest).sum()
}
