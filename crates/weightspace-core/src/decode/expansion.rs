//! Projected tensors: coefficients from their planes, weights from coefficients.

use std::ops::Range;

use crate::basis::{Projection, Start};
use crate::container::error::{Reason, refuse};
use crate::container::projection::{check_sums, tensors};
use crate::container::table::Storage;
use crate::container::{Projected, WspFile};
use crate::entropy::planes::PlaneDecoder;
use crate::random::Key;
use crate::tensor::{DType, Tensor};

/// Types whose values coefficients can be added to.
pub(super) fn fits_f32(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// The coefficients of a file and what they stand for.
pub(super) struct Expansion {
    projection: Projection,
    coefficients: Vec<i32>,
    step: f32,
    /// Positions in the table of the projected tensors.
    indices: Vec<usize>,
}

impl Expansion {
    /// Decodes the coefficients from at most `planes` planes.
    pub(super) fn new(file: &WspFile, key: Key, planes: usize) -> Result<Self, Reason> {
        let Some(stored) = file.stored_projection() else {
            return refuse!("no projection");
        };
        let Projected { basis, start, step, segments, .. } = &stored.projected;
        let lengths: Vec<usize> = segments.iter().map(|segment| segment.coefficients).collect();
        let mut decoder = PlaneDecoder::new(&lengths, file.whole_planes());
        let mut left = planes.min(file.planes());
        for (index, section) in stored.planes.iter().enumerate() {
            if left == 0 {
                break;
            }
            let count = section.planes.min(left);
            left -= count;
            if !decoder.decode(file.plane_content(index), count) {
                return refuse!("a section of planes does not decode");
            }
        }
        let coefficients = decoder.finish();
        check_sums(&stored.projected, &coefficients)?;
        let entries = file.entries();
        let projection = Projection::new(*basis, key, *start, tensors(entries), segments.clone());
        let projection = match projection {
            Ok(projection) => projection,
            Err(error) => return refuse!("{error}"),
        };
        let indices =
            (0..entries.len()).filter(|&index| entries[index].storage == Storage::Projected);
        Ok(Expansion { projection, coefficients, step: *step, indices: indices.collect() })
    }

    /// True if weights are those of a base and something added.
    pub(super) fn needs_base(&self) -> bool {
        self.projection.start() == Start::Base
    }

    /// Elements of the tensor at a position in the table; `base` is the base's tensor if it is needed.
    pub(super) fn weights(
        &self,
        index: usize,
        elements: Range<usize>,
        base: Option<&Tensor>,
    ) -> Result<Vec<f32>, Reason> {
        let Ok(tensor) = self.indices.binary_search(&index) else {
            return refuse!("tensor {index} is not projected");
        };
        let mut weights = vec![0.0; elements.len()];
        match base {
            Some(base) => copy_elements(base, elements.clone(), &mut weights),
            None => self.projection.write_start(tensor, elements.clone(), &mut weights),
        }
        let coefficients = (&self.coefficients[..], self.step);
        self.projection.add_exact(tensor, elements, coefficients, &mut weights);
        Ok(weights)
    }
}

/// Elements of a tensor of a type that fits into `f32`.
fn copy_elements(tensor: &Tensor, elements: Range<usize>, out: &mut [f32]) {
    let size = tensor.dtype().size();
    let bytes = &tensor.bytes()[elements.start * size..elements.end * size];
    let part = Tensor::from_bytes(tensor.dtype(), vec![out.len()], bytes.to_vec());
    out.copy_from_slice(&part.to_f32());
}
