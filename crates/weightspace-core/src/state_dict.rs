//! A state dict: named tensors in the order of their file.

use indexmap::IndexMap;
use sha2::{Digest, Sha256};

use crate::tensor::{Tensor, TensorInfo};

/// Named tensors in file order, as `torch.nn.Module.state_dict` gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict {
    tensors: IndexMap<String, Tensor>,
}

impl StateDict {
    /// An empty state dict.
    pub fn new() -> Self {
        StateDict::default()
    }

    /// Adds a tensor at the end, or replaces the one of that name where it stands.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names, types and shapes in order.
    pub fn infos(&self) -> Vec<TensorInfo> {
        self.iter()
            .map(|(name, t)| TensorInfo {
                name: name.to_string(),
                dtype: t.dtype(),
                shape: t.shape().to_vec(),
            })
            .collect()
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// True when there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Number of elements of all tensors together, buffers included.
    pub fn element_count(&self) -> usize {
        self.iter().map(|(_, t)| t.element_count()).sum()
    }

    /// SHA-256 of names, types, shapes and bytes in the order of the names: the identity of the
    /// weights, whatever file format and order they came in.
    ///
    /// Each tensor contributes: length of the name (u64), name, code of the type (u8, its position
    /// in [`DType::ALL`](crate::DType::ALL)), rank (u64), dimensions (u64 each), bytes. All
    /// integers are little-endian.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        let mut hash = Sha256::new();
        for (name, tensor) in sorted {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update([tensor.dtype() as u8]);
            hash.update((tensor.shape().len() as u64).to_le_bytes());
            for &n in tensor.shape() {
                hash.update((n as u64).to_le_bytes());
            }
            hash.update(tensor.bytes());
        }
        hash.finalize().into()
    }
}

impl FromIterator<(String, Tensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(iter: I) -> Self {
        StateDict { tensors: iter.into_iter().collect() }
    }
}

impl IntoIterator for StateDict {
    type Item = (String, Tensor);
    type IntoIter = indexmap::map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_ignores_order_and_sees_everything_else() {
        let a = Tensor::from_f32(vec![2], &[1.0, 2.0]);
        let b = Tensor::from_f32(vec![1, 2], &[1.0, 2.0]);
        let dict = |items: &[(&str, &Tensor)]| {
            items.iter().map(|(n, t)| (n.to_string(), (*t).clone())).collect::<StateDict>()
        };
        let reference = dict(&[("a", &a), ("b", &b)]).content_hash();
        assert_eq!(reference, dict(&[("b", &b), ("a", &a)]).content_hash());
        assert_ne!(reference, dict(&[("a", &b), ("b", &b)]).content_hash());
        assert_ne!(reference, dict(&[("a", &a), ("c", &b)]).content_hash());
    }
}
