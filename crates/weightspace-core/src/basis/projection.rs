//! All weights of a network from coefficients.

use std::ops::Range;

use super::{Basis, Gain, Matrix};
use crate::random::{Key, Stream};

/// What the coefficients are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// Nothing.
    Zero,
    /// Weights drawn from the key, as PyTorch draws them: U(-b, b), b = 1 / sqrt(fan-in).
    Drawn,
    /// The weights of another network.
    Base,
}

/// A tensor whose weights coefficients stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectedTensor {
    /// Number of weights.
    pub len: usize,
    /// Inputs of one output; a bias has its weight's.
    pub fan_in: usize,
}

/// Consecutive tensors that share coefficients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which tensors.
    pub tensors: Range<usize>,
    /// Number of coefficients, at most that of the weights.
    pub coefficients: usize,
}

/// Why tensors and segments are no projection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The segments do not cover all tensors once, in order.
    #[error("the segments do not cover {tensors} tensors one after the other")]
    Cover {
        /// Number of tensors.
        tensors: usize,
    },
    /// No coefficients, or more than weights.
    #[error("segment {segment} has {coefficients} coefficients for {weights} weights")]
    Coefficients {
        /// Number of the segment.
        segment: usize,
        /// Its coefficients.
        coefficients: usize,
        /// Its weights.
        weights: usize,
    },
}

/// Weights as a linear function of coefficients: of each weight i of a tensor t, in a segment with
/// matrix M, theta_i = start_i + sum over j of M_ij u_j alpha_j / sqrt(3 fan-in_t), where u_j is the
/// [column gain](Matrix::column_gain).
///
/// A coefficient of 1 moves the weights by as much as PyTorch's initialisation is long: so the learning
/// rate of Adam that suits one basis suits all, whatever their number of coefficients.
///
/// The weights of all tensors stand end to end.
#[derive(Clone, Debug)]
pub struct Projection {
    key: Key,
    start: Start,
    tensors: Vec<ProjectedTensor>,
    /// Position of every tensor's first weight, and the number of all weights.
    offsets: Vec<usize>,
    segments: Vec<Segment>,
    matrices: Vec<Matrix>,
}

impl Projection {
    /// A projection; nothing is generated yet.
    ///
    /// # Errors
    /// If the segments do not cover the tensors, or have no coefficients or too many.
    pub fn new(
        basis: Basis,
        key: Key,
        start: Start,
        tensors: Vec<ProjectedTensor>,
        segments: Vec<Segment>,
    ) -> Result<Self, ProjectionError> {
        let mut offsets = vec![0];
        offsets.extend(tensors.iter().scan(0, |end, tensor| {
            *end += tensor.len;
            Some(*end)
        }));
        let mut matrices = Vec::with_capacity(segments.len());
        let mut next = 0;
        for (number, Segment { tensors: own, coefficients }) in segments.iter().enumerate() {
            if own.start != next || own.end <= own.start || own.end > tensors.len() {
                return Err(ProjectionError::Cover { tensors: tensors.len() });
            }
            next = own.end;
            let (rows, columns) = (offsets[own.end] - offsets[own.start], *coefficients);
            if columns == 0 || columns > rows {
                let (segment, weights) = (number, rows);
                return Err(ProjectionError::Coefficients {
                    segment,
                    coefficients: columns,
                    weights,
                });
            }
            matrices.push(Matrix { basis, key, segment: number as u32, rows, columns });
        }
        if next != tensors.len() {
            return Err(ProjectionError::Cover { tensors: tensors.len() });
        }
        Ok(Projection { key, start, tensors, offsets, segments, matrices })
    }

    /// Number of weights.
    pub fn weight_count(&self) -> usize {
        self.offsets[self.tensors.len()]
    }

    /// Number of coefficients: those of all segments end to end.
    pub fn coefficient_count(&self) -> usize {
        self.segments.iter().map(|segment| segment.coefficients).sum()
    }

    /// What the coefficients are added to.
    pub fn start(&self) -> Start {
        self.start
    }

    /// The tensors.
    pub fn tensors(&self) -> &[ProjectedTensor] {
        &self.tensors
    }

    /// The segments.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The weights of a segment, or of several.
    pub fn weights_of(&self, tensors: &Range<usize>) -> Range<usize> {
        self.offsets[tensors.start]..self.offsets[tensors.end]
    }

    /// The matrices, one per segment.
    pub fn matrices(&self) -> &[Matrix] {
        &self.matrices
    }

    /// Elements `elements` of a tensor to which coefficients are added: drawn ones or zeros. Those of
    /// a base are not known here, and `out` stays as it is.
    ///
    /// # Panics
    /// If there is no such tensor or element, or `out` has another length.
    pub fn write_start(&self, tensor: usize, elements: Range<usize>, out: &mut [f32]) {
        let ProjectedTensor { len, fan_in } = self.tensors[tensor];
        assert!(elements.end <= len && elements.len() == out.len(), "elements {elements:?}");
        match self.start {
            Start::Zero => out.fill(0.0),
            Start::Base => {}
            Start::Drawn => {
                let bound = (1.0 / fan_in as f64).sqrt() as f32;
                let mut stream = Stream::new(self.key, 1 << 63 | tensor as u64);
                stream.seek(elements.start as u64);
                stream.fill_uniform(out);
                out.iter_mut().for_each(|value| *value = (2.0 * *value - 1.0) * bound);
            }
        }
    }

    /// Adds to elements `elements` of a tensor what integer coefficients (those of all segments) times
    /// `step` stand for: the same bits on every machine.
    ///
    /// # Panics
    /// If there is no such tensor or element, or a slice has another length.
    pub fn add_exact(
        &self,
        tensor: usize,
        elements: Range<usize>,
        (coefficients, step): (&[i32], f32),
        out: &mut [f32],
    ) {
        let ProjectedTensor { len, fan_in } = self.tensors[tensor];
        assert!(elements.end <= len && elements.len() == out.len(), "elements {elements:?}");
        assert_eq!(coefficients.len(), self.coefficient_count(), "coefficients");
        let number = self.segments.partition_point(|segment| segment.tensors.end <= tensor);
        let (segment, matrix) = (&self.segments[number], &self.matrices[number]);
        let before: usize = self.segments[..number].iter().map(|s| s.coefficients).sum();
        let own = &coefficients[before..before + segment.coefficients];
        let first = self.offsets[tensor] - self.offsets[segment.tensors.start];
        let rows = first + elements.start..first + elements.end;
        let mut sums = vec![0i32; rows.len()];
        matrix.expand(0..matrix.columns, own, rows.clone(), &mut sums);
        matrix.row_gains(rows.clone(), |part, Gain { numerator, denominator }| {
            let square = numerator as f64 / (denominator * 3 * fan_in as u64) as f64;
            let step = step * square.sqrt() as f32;
            let part = part.start - rows.start..part.end - rows.start;
            for (out, &sum) in out[part.clone()].iter_mut().zip(&sums[part]) {
                *out += sum as f32 * step;
            }
        });
    }
}
