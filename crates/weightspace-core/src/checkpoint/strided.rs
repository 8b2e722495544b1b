//! Tensors as views of a storage: offset and strides, gathered into dense row-major bytes.

use super::contents::byte_count;
use super::error::{Reason, reason};
use crate::tensor::DType;

/// Where the elements of a tensor lie in a storage. Offset and strides count elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) offset: usize,
}

impl View {
    /// The view of a storage that holds exactly this tensor, outermost dimension first or, as
    /// Fortran and so NumPy may have it, last.
    pub(super) fn dense(
        dtype: DType,
        shape: Vec<usize>,
        fortran_order: bool,
    ) -> Result<Self, Reason> {
        byte_count(dtype, &shape).ok_or_else(|| reason!("has an impossible shape"))?;
        let mut strides = vec![0; shape.len()];
        let mut stride = 1;
        for axis in 0..shape.len() {
            let axis = if fortran_order { axis } else { shape.len() - 1 - axis };
            strides[axis] = stride;
            stride *= shape[axis].max(1);
        }
        Ok(View { dtype, shape, strides, offset: 0 })
    }

    /// Checks that every element lies within a storage of `storage_bytes`.
    pub(super) fn check(&self, storage_bytes: u64) -> Result<(), Reason> {
        if self.shape.len() != self.strides.len() {
            let (shape, strides) = (self.shape.len(), self.strides.len());
            return Err(reason!("has {shape} dimensions but {strides} strides"));
        }
        let bytes = byte_count(self.dtype, &self.shape)
            .ok_or_else(|| reason!("has an impossible shape"))?;
        let end = if bytes == 0 { Some(0) } else { self.end() };
        match end {
            Some(end) if end as u64 <= storage_bytes => Ok(()),
            _ => Err(reason!(
                "of shape {:?} needs {} bytes of a storage that has {storage_bytes}",
                self.shape,
                end.map_or("too many".to_owned(), |end| end.to_string())
            )),
        }
    }

    /// The end of the last element in bytes.
    fn end(&self) -> Option<usize> {
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (&n, &s)| at.checked_add((n - 1).checked_mul(s)?))?;
        last.checked_add(1)?.checked_mul(self.dtype.size())
    }

    /// Copies the elements out of `storage` in row-major order.
    pub(super) fn gather(&self, storage: &[u8]) -> Result<Vec<u8>, Reason> {
        self.check(storage.len() as u64)?;
        let size = self.dtype.size();
        let count = self.shape.iter().product::<usize>();
        if count == 0 {
            return Ok(Vec::new());
        }
        // Innermost dimensions that are dense are copied as one run.
        let mut run = 1;
        let mut outer = self.shape.len();
        while outer > 0 && (self.strides[outer - 1] == run || self.shape[outer - 1] == 1) {
            outer -= 1;
            run *= self.shape[outer];
        }
        let mut bytes = Vec::with_capacity(count * size);
        // The stride of a single element is never taken and may be anything.
        let step = |axis: usize| if self.shape[axis] == 1 { 0 } else { self.strides[axis] };
        let mut index = vec![0; outer];
        let mut at = self.offset;
        for _ in 0..count / run {
            bytes.extend_from_slice(&storage[at * size..(at + run) * size]);
            for axis in (0..outer).rev() {
                index[axis] += 1;
                at += step(axis);
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= step(axis) * self.shape[axis];
                index[axis] = 0;
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn view(shape: &[usize], strides: &[usize], offset: usize) -> View {
        View { dtype: DType::U8, shape: shape.to_vec(), strides: strides.to_vec(), offset }
    }

    #[test]
    fn views_gather_what_they_show() {
        let storage: Vec<u8> = (0..12).collect();
        let gather = |v: View| v.gather(&storage).unwrap();
        assert_eq!(gather(view(&[3, 4], &[4, 1], 0)), storage);
        assert_eq!(gather(view(&[2, 3], &[1, 4], 1)), [1, 5, 9, 2, 6, 10]);
        assert_eq!(gather(view(&[2, 2], &[0, 1], 3)), [3, 4, 3, 4]);
        assert_eq!(gather(view(&[], &[], 11)), [11]);
        assert_eq!(gather(view(&[1, 2], &[usize::MAX, 3], 1)), [1, 4]);
        assert!(gather(view(&[0, 5], &[7, 9], 100)).is_empty());
        assert_eq!(gather(View::dense(DType::U8, vec![2, 3], true).unwrap()), [0, 2, 4, 1, 3, 5]);
        let wide = View { dtype: DType::U16, ..view(&[2], &[2], 1) };
        assert_eq!(gather(wide), [2, 3, 6, 7]);
    }

    #[test]
    fn views_outside_their_storage_are_refused() {
        let huge = usize::MAX / 2;
        for bad in [
            view(&[13], &[1], 0),
            view(&[2], &[12], 0),
            view(&[1], &[1], 12),
            view(&[2], &[huge], huge),
            view(&[3], &[huge], 0),
            view(&[huge, huge], &[0, 0], 0),
            view(&[2, 2], &[1], 0),
        ] {
            assert!(bad.gather(&[0; 12]).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn gathering_agrees_with_indexing(
            dims in prop::collection::vec((0usize..4, 0usize..6), 0..4),
            offset in 0usize..5,
        ) {
            let (shape, strides): (Vec<_>, Vec<_>) = dims.into_iter().unzip();
            let storage: Vec<u8> = (0..100).collect();
            let mut expected = vec![offset];
            for (&n, &s) in shape.iter().zip(&strides) {
                expected =
                    expected.iter().flat_map(|&at| (0..n).map(move |i| at + i * s)).collect();
            }
            let expected: Vec<u8> = expected.into_iter().map(|at| storage[at]).collect();
            prop_assert_eq!(view(&shape, &strides, offset).gather(&storage).unwrap(), expected);
        }
    }
}
