//! Parts of a model's weights, read where they are.

use std::borrow::Cow;
use std::ops::Range;

use weightspace_core::{Checkpoint, DType, StateDict, Tensor, TensorInfo};

use super::ZooError;
use super::names::correspondence;

/// The weights of a model, of which parts can be read: of a packed zoo and of safetensors files nothing but these
/// is touched.
pub struct ModelWeights<'a> {
    held: Held<'a>,
    /// Tensors in another order, and where they are among those that are held.
    order: Option<(Vec<TensorInfo>, Vec<usize>)>,
}

enum Held<'a> {
    /// Elements of all tensors end to end, little-endian `f32`.
    Row(Cow<'a, [u8]>, &'a [TensorInfo]),
    Checkpoint(Checkpoint),
    Tensors(&'a StateDict, Vec<TensorInfo>),
}

impl<'a> ModelWeights<'a> {
    fn of(held: Held<'a>) -> Self {
        ModelWeights { held, order: None }
    }

    /// With tensors in the order of another network, under its names, if they are [those of the same](correspondence); else nothing.
    pub fn in_order_of(self, known: &[TensorInfo]) -> Option<Self> {
        // Of almost every network; this is asked for every window that is read.
        let same = |(a, b): (&TensorInfo, &TensorInfo)| a.name == b.name && a.shape == b.shape;
        if known.len() == self.tensors().len() && known.iter().zip(self.tensors()).all(same) {
            return Some(self);
        }
        let positions = correspondence(known, self.tensors())?;
        let tensor = |(info, &at): (&TensorInfo, &usize)| TensorInfo {
            name: info.name.clone(),
            ..self.tensors()[at].clone()
        };
        let tensors = known.iter().zip(&positions).map(tensor).collect();
        let held = |at: usize| self.order.as_ref().map_or(at, |(_, order)| order[at]);
        let order = positions.into_iter().map(held).collect();
        Some(ModelWeights { order: Some((tensors, order)), ..self })
    }

    pub(super) fn of_row(bytes: Cow<'a, [u8]>, tensors: &'a [TensorInfo]) -> Self {
        ModelWeights::of(Held::Row(bytes, tensors))
    }

    /// Those of a checkpoint.
    pub fn of_checkpoint(checkpoint: Checkpoint) -> Self {
        ModelWeights::of(Held::Checkpoint(checkpoint))
    }

    /// Those of a state dict.
    pub fn of_tensors(tensors: &'a StateDict) -> Self {
        ModelWeights::of(Held::Tensors(tensors, tensors.infos()))
    }

    /// Names, types and shapes.
    pub fn tensors(&self) -> &[TensorInfo] {
        match (&self.order, &self.held) {
            (Some((tensors, _)), _) => tensors,
            (None, Held::Row(_, tensors)) => tensors,
            (None, Held::Checkpoint(checkpoint)) => checkpoint.tensors(),
            (None, Held::Tensors(_, tensors)) => tensors,
        }
    }

    /// Elements of a tensor, in row-major order, where they are; nothing for those that must be read.
    ///
    /// # Panics
    /// If there is no such tensor, or it has fewer elements.
    pub fn mapped(&self, tensor: usize, elements: Range<usize>) -> Option<&[f32]> {
        match self.bytes(tensor, elements) {
            Ok((DType::F32, Cow::Borrowed(bytes))) if cfg!(target_endian = "little") => {
                bytemuck::try_cast_slice(bytes).ok()
            }
            _ => None,
        }
    }

    /// Reads elements of a tensor, in row-major order, into `out`.
    ///
    /// # Errors
    /// If the data is damaged.
    ///
    /// # Panics
    /// If there is no such tensor, it has fewer elements, or `out` has another length.
    pub fn read(
        &self,
        tensor: usize,
        elements: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), ZooError> {
        assert_eq!(elements.len(), out.len(), "elements of a tensor");
        let (dtype, bytes) = self.bytes(tensor, elements)?;
        convert(dtype, &bytes, out);
        Ok(())
    }

    /// The little-endian bytes of elements of a tensor, and what they are.
    fn bytes(
        &self,
        tensor: usize,
        elements: Range<usize>,
    ) -> Result<(DType, Cow<'_, [u8]>), ZooError> {
        let tensor = self.order.as_ref().map_or(tensor, |(_, order)| order[tensor]);
        match &self.held {
            Held::Row(bytes, tensors) => {
                let start: usize = tensors[..tensor].iter().map(TensorInfo::element_count).sum();
                let own = &bytes[4 * start..][..4 * tensors[tensor].element_count()];
                Ok((DType::F32, own[4 * elements.start..4 * elements.end].into()))
            }
            Held::Checkpoint(checkpoint) => {
                let dtype = checkpoint.tensors()[tensor].dtype;
                Ok((dtype, checkpoint.element_bytes(tensor, elements)?))
            }
            Held::Tensors(dict, tensors) => {
                let (dtype, name) = (tensors[tensor].dtype, &tensors[tensor].name);
                let bytes = dict.get(name).map_or(&[][..], Tensor::bytes);
                Ok((
                    dtype,
                    bytes[dtype.size() * elements.start..dtype.size() * elements.end].into(),
                ))
            }
        }
    }
}

fn convert(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    if dtype == DType::F32 {
        let values = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        out.iter_mut().zip(values).for_each(|(out, value)| *out = value);
    } else {
        let tensor = Tensor::from_bytes(dtype, vec![out.len()], bytes.to_vec());
        out.copy_from_slice(&tensor.to_f32());
    }
}
