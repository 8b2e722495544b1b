//! Where an engine gets its weights from: all at once, or some rows of a tensor at a time.

use std::ops::Range;

use weightspace_core::{DType, StateDict, Tensor};

/// Why weights cannot be read; the message names file and tensor.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Gives the values of tensors: a state dict has them, a file reads or rebuilds those asked for.
pub trait WeightSource {
    /// Number of elements of the tensor of that name; `None` if there is none.
    fn tensor_len(&self, name: &str) -> Option<usize>;

    /// Appends some rows of a tensor, row-major, to `values`. A row is what stands under one index
    /// of the outermost dimension: one filter of a convolution, one output's weights of a linear
    /// layer, one value of a vector.
    ///
    /// # Errors
    /// If there is no such tensor, if it has no such rows, or if they cannot be read.
    fn rows(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), SourceError>;
}

impl WeightSource for StateDict {
    fn tensor_len(&self, name: &str) -> Option<usize> {
        self.get(name).map(Tensor::element_count)
    }

    fn rows(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), SourceError> {
        let tensor = self.get(name).ok_or_else(|| format!("tensor {name} is missing"))?;
        append_rows(name, tensor, rows, values)
    }
}

/// Appends some rows of a tensor that is in memory, as a [`WeightSource`] does.
///
/// # Errors
/// If the tensor, whose name is for the message, has no such rows.
pub fn append_rows(
    name: &str,
    tensor: &Tensor,
    rows: Range<usize>,
    values: &mut Vec<f32>,
) -> Result<(), SourceError> {
    let count = tensor.shape().first().copied().unwrap_or(1);
    if rows.start > rows.end || rows.end > count {
        return Err(format!("tensor {name} has {count} rows, asked for {rows:?}").into());
    }
    // Borrowed if it is `f32`.
    if tensor.dtype() == DType::F32 || rows == (0..count) {
        let row = tensor.element_count() / count.max(1);
        values.extend_from_slice(&tensor.to_f32()[rows.start * row..rows.end * row]);
        return Ok(());
    }
    let row = tensor.bytes().len() / count;
    let bytes = &tensor.bytes()[rows.start * row..rows.end * row];
    let len = bytes.len() / tensor.dtype().size();
    let part = Tensor::from_bytes(tensor.dtype(), vec![len], bytes.to_vec());
    values.extend_from_slice(&part.to_f32());
    Ok(())
}
