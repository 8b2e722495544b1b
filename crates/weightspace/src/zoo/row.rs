//! A network's tensors as one row of numbers.

use serde::{Deserialize, Serialize};
use weightspace_core::{DType, StateDict, Tensor, TensorInfo, quoted};

/// Names, types and shapes of a network's tensors, which stand end to end in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowLayout(pub Vec<TensorInfo>);

/// Most dimensions of a tensor of a zoo.
const MAX_RANK: usize = 8;

/// A tensor as it stands in the metadata of a packed file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorEntry {
    name: String,
    shape: Vec<usize>,
    #[serde(default = "f32_name", skip_serializing_if = "is_f32")]
    dtype: String,
}

fn f32_name() -> String {
    DType::F32.name().to_owned()
}

fn is_f32(name: &String) -> bool {
    name == DType::F32.name()
}

impl RowLayout {
    /// Number of elements; nothing if that is beyond what can be addressed.
    pub fn checked_len(&self) -> Option<usize> {
        self.0.iter().try_fold(0usize, |sum, info| {
            let count = info.shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
            sum.checked_add(count)
        })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.iter().map(TensorInfo::element_count).sum()
    }

    /// For the metadata of a packed file.
    pub fn entries(&self) -> Vec<TensorEntry> {
        let entry = |info: &TensorInfo| TensorEntry {
            name: info.name.clone(),
            shape: info.shape.clone(),
            dtype: info.dtype.name().to_owned(),
        };
        self.0.iter().map(entry).collect()
    }

    /// From the metadata of a packed file.
    pub fn from_entries(entries: Vec<TensorEntry>) -> Result<Self, String> {
        let info = |entry: TensorEntry| {
            let dtype = DType::ALL.into_iter().find(|dtype| dtype.name() == entry.dtype);
            match dtype {
                None => Err(format!(
                    "{} has the unknown type {}",
                    quoted(&entry.name),
                    quoted(&entry.dtype)
                )),
                Some(_) if entry.shape.len() > MAX_RANK => {
                    Err(format!("{} has more than {MAX_RANK} dimensions", quoted(&entry.name)))
                }
                Some(dtype) => Ok(TensorInfo { name: entry.name, dtype, shape: entry.shape }),
            }
        };
        entries.into_iter().map(info).collect::<Result<_, _>>().map(RowLayout)
    }

    /// The tensors end to end, as little-endian `f32`. Values of other types must be ones that `f32` has.
    pub fn row(&self, tensors: &StateDict) -> Result<Vec<f32>, String> {
        let mut row = Vec::with_capacity(self.len());
        for info in &self.0 {
            let tensor = tensors.get(&info.name);
            let tensor =
                tensor.ok_or_else(|| format!("tensor {} is missing", quoted(&info.name)))?;
            let exact = |value: f64| value.is_nan() || f64::from(value as f32) == value;
            if tensor.dtype() != DType::F32
                && let Some(value) = tensor.iter_f64().find(|&value| !exact(value))
            {
                let name = quoted(&info.name);
                return Err(format!("tensor {name} has {value}, which rows of f32 cannot hold"));
            }
            row.extend_from_slice(&tensor.to_f32());
        }
        Ok(row)
    }

    /// The inverse of [`row`](Self::row). Values must be ones that their tensor's type has.
    pub fn state_dict(&self, row: &[f32]) -> Result<StateDict, String> {
        let mut rest = row;
        let tensor = |info: &TensorInfo| {
            let (own, others) = rest.split_at(info.element_count());
            rest = others;
            Ok((info.name.clone(), tensor_of(info, own)?))
        };
        self.0.iter().map(tensor).collect()
    }
}

fn tensor_of(info: &TensorInfo, values: &[f32]) -> Result<Tensor, String> {
    let exact = Tensor::from_f32(info.shape.clone(), values);
    if info.dtype == DType::F32 {
        return Ok(exact);
    }
    let size = info.dtype.size();
    // Sign and size of an integer are in its lowest bytes.
    let integers = || values.iter().flat_map(|&v| (v as i128).to_le_bytes().into_iter().take(size));
    let tensor = match info.dtype.is_float() {
        true => exact.cast_float(info.dtype),
        false => Tensor::from_bytes(info.dtype, info.shape.clone(), integers().collect()),
    };
    let is_bool = info.dtype == DType::Bool;
    let same = |found: f64, value: f32| {
        (found == f64::from(value) || (found.is_nan() && value.is_nan()))
            && (!is_bool || found <= 1.0)
    };
    let other = tensor.iter_f64().zip(values).find(|&(found, &value)| !same(found, value));
    if let Some((_, value)) = other {
        let reason =
            format!("tensor {} has {value}, which is no {}", quoted(&info.name), info.dtype);
        return Err(reason);
    }
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_all_types_come_back() {
        let dict: StateDict = DType::ALL
            .into_iter()
            .map(|dtype| {
                let one = Tensor::from_f32(vec![2], &[1.0, 0.0]);
                let bytes = match dtype.is_float() {
                    true => one.cast_float(dtype).bytes().to_vec(),
                    false => [[1, 0, 0, 0, 0, 0, 0, 0], [0; 8]]
                        .iter()
                        .flat_map(|bytes| bytes[..dtype.size()].to_vec())
                        .collect(),
                };
                (dtype.name().to_owned(), Tensor::from_bytes(dtype, vec![2], bytes))
            })
            .collect();
        let layout = RowLayout(dict.infos());
        let row = layout.row(&dict).unwrap();
        assert_eq!(row, [1.0, 0.0].repeat(DType::ALL.len()));
        assert_eq!(layout.state_dict(&row).unwrap(), dict);
        for (dtype, value) in [
            (DType::Bool, 2.0),
            (DType::U8, -1.0),
            (DType::U8, 256.0),
            (DType::I64, 0.5),
            (DType::F16, 1e5),
        ] {
            let info = TensorInfo { name: "a".to_owned(), dtype, shape: vec![1] };
            let error = RowLayout(vec![info]).state_dict(&[value]).unwrap_err();
            assert_eq!(error, format!("tensor \"a\" has {value}, which is no {dtype}"));
        }
        let info = TensorInfo { name: "a".to_owned(), dtype: DType::I64, shape: vec![1] };
        assert!(RowLayout(vec![info]).state_dict(&[f32::NAN]).is_err());
        let again = RowLayout::from_entries(layout.entries()).unwrap();
        assert_eq!(again, layout);
        let minus = Tensor::from_bytes(DType::I64, vec![1], (-7i64).to_le_bytes().to_vec());
        let info = TensorInfo { name: "a".into(), dtype: DType::I64, shape: vec![1] };
        assert_eq!(tensor_of(&info, &[-7.0]), Ok(minus));
    }

    #[test]
    fn what_a_row_cannot_hold_is_refused() {
        let large = Tensor::from_bytes(DType::I64, vec![], (1i64 << 24 | 1).to_le_bytes().to_vec());
        let dict: StateDict = [("n".to_owned(), large)].into_iter().collect();
        let error = RowLayout(dict.infos()).row(&dict).unwrap_err();
        assert_eq!(error, "tensor \"n\" has 16777217, which rows of f32 cannot hold");
    }
}
