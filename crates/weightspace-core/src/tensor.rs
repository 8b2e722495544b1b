//! A tensor as it stands in a file: element type, shape and little-endian bytes.

use std::borrow::Cow;

use half::{bf16, f16};

/// Element type of a [`Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// IEEE 754 half precision.
    F16,
    /// Brain float: the upper half of an `F32`.
    BF16,
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8 bit.
    U8,
    /// Signed 8 bit.
    I8,
    /// Unsigned 16 bit.
    U16,
    /// Signed 16 bit.
    I16,
    /// Unsigned 32 bit.
    U32,
    /// Signed 32 bit.
    I32,
    /// Unsigned 64 bit.
    U64,
    /// Signed 64 bit.
    I64,
}

impl DType {
    /// Every element type; the position of each is its code in `.wsp` files (docs/format.md).
    pub const ALL: [DType; 13] = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::U16,
        DType::I16,
        DType::U32,
        DType::I32,
        DType::U64,
        DType::I64,
    ];

    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 => 1,
            DType::F16 | DType::BF16 | DType::U16 | DType::I16 => 2,
            DType::F32 | DType::U32 | DType::I32 => 4,
            DType::F64 | DType::U64 | DType::I64 => 8,
        }
    }

    /// True for the four floating-point types.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// The name used in listings, for instance `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::Bool => "bool",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::U16 => "u16",
            DType::I16 => "i16",
            DType::U32 => "u32",
            DType::I32 => "i32",
            DType::U64 => "u64",
            DType::I64 => "i64",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Name, element type and shape of a tensor that has not been read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the state dict, for instance `layer1.0.conv1.weight`.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Number of elements; 1 for a scalar.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the elements.
    pub fn byte_count(&self) -> usize {
        self.element_count() * self.dtype.size()
    }
}

/// A dense row-major tensor: element type, shape and little-endian bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor from raw little-endian bytes.
    ///
    /// # Panics
    /// If `bytes` does not hold exactly the elements of `shape`: readers check lengths before.
    pub fn from_bytes(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        let expected = shape.iter().product::<usize>() * dtype.size();
        assert_eq!(bytes.len(), expected, "bytes of a {dtype} tensor of shape {shape:?}");
        Tensor { dtype, shape, bytes }
    }

    /// An `f32` tensor.
    ///
    /// # Panics
    /// If `values` does not hold exactly the elements of `shape`.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes = if cfg!(target_endian = "little") {
            bytemuck::cast_slice(values).to_vec()
        } else {
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
        Tensor::from_bytes(DType::F32, shape, bytes)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements as little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements; 1 for a scalar.
    pub fn element_count(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The elements as `f32`, borrowed where they are stored so; wider types are rounded to nearest.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        if self.dtype == DType::F32
            && cfg!(target_endian = "little")
            && let Ok(values) = bytemuck::try_cast_slice(&self.bytes)
        {
            return Cow::Borrowed(values);
        }
        Cow::Owned(self.iter_f64().map(|v| v as f32).collect())
    }

    /// The elements as `f64`: exact for every type but 64-bit integers above 2^53.
    pub fn iter_f64(&self) -> impl Iterator<Item = f64> + '_ {
        let dtype = self.dtype;
        self.bytes.chunks_exact(dtype.size()).map(move |b| element_as_f64(dtype, b))
    }

    /// Whether no element, as `f32`, is infinite or not a number.
    pub fn is_finite_as_f32(&self) -> bool {
        // All are looked at, in words as wide as they are, which is quicker than to stop at the first.
        let flag = |value: &f32| u32::from(!value.is_finite());
        self.to_f32().iter().fold(0, |any, value| any | flag(value)) == 0
    }

    /// The tensor converted to another floating-point type (round to nearest even).
    pub fn cast_float(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype {
            return self.clone();
        }
        let bytes = match dtype {
            DType::F32 => self.iter_f64().flat_map(|v| (v as f32).to_le_bytes()).collect(),
            DType::F64 => self.iter_f64().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F16 => self.iter_f64().flat_map(|v| f16::from_f64(v).to_le_bytes()).collect(),
            DType::BF16 => self.iter_f64().flat_map(|v| bf16::from_f64(v).to_le_bytes()).collect(),
            _ => panic!("cast_float to {dtype}, which is no floating-point type"),
        };
        Tensor::from_bytes(dtype, self.shape.clone(), bytes)
    }
}

fn element_as_f64(dtype: DType, b: &[u8]) -> f64 {
    /// The first `N` bytes; `chunks_exact` has made sure that they are there.
    fn array<const N: usize>(b: &[u8]) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(b);
        out
    }
    match dtype {
        DType::F32 => f32::from_le_bytes(array(b)) as f64,
        DType::F64 => f64::from_le_bytes(array(b)),
        DType::F16 => f16::from_le_bytes(array(b)).to_f64(),
        DType::BF16 => bf16::from_le_bytes(array(b)).to_f64(),
        DType::Bool | DType::U8 => b[0] as f64,
        DType::I8 => b[0] as i8 as f64,
        DType::U16 => u16::from_le_bytes(array(b)) as f64,
        DType::I16 => i16::from_le_bytes(array(b)) as f64,
        DType::U32 => u32::from_le_bytes(array(b)) as f64,
        DType::I32 => i32::from_le_bytes(array(b)) as f64,
        DType::U64 => u64::from_le_bytes(array(b)) as f64,
        DType::I64 => i64::from_le_bytes(array(b)) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_round_trips_and_casts() {
        let t = Tensor::from_f32(vec![2, 2], &[1.0, -2.5, 0.1, f32::MAX]);
        assert_eq!(t.to_f32().as_ref(), &[1.0, -2.5, 0.1, f32::MAX]);
        assert!(t.is_finite_as_f32() && t.cast_float(DType::F64).is_finite_as_f32());
        assert!(!t.cast_float(DType::F16).is_finite_as_f32(), "f32::MAX is beyond f16");
        assert!(!Tensor::from_f32(vec![2], &[1.0, f32::NAN]).is_finite_as_f32());
        let half = t.cast_float(DType::F16);
        assert_eq!(half.to_f32()[1], -2.5);
        assert_eq!(half.to_f32()[3], f32::INFINITY);
        assert_eq!(t.cast_float(DType::F64).cast_float(DType::F32), t);
    }

    #[test]
    fn every_dtype_reads_its_bytes() {
        for dtype in DType::ALL {
            let mut bytes = vec![0; dtype.size()];
            match dtype {
                DType::F32 => bytes.copy_from_slice(&1f32.to_le_bytes()),
                DType::F64 => bytes.copy_from_slice(&1f64.to_le_bytes()),
                DType::F16 => bytes.copy_from_slice(&f16::ONE.to_le_bytes()),
                DType::BF16 => bytes.copy_from_slice(&bf16::ONE.to_le_bytes()),
                _ => bytes[0] = 1,
            }
            let t = Tensor::from_bytes(dtype, vec![], bytes);
            assert_eq!(t.to_f32().as_ref(), &[1.0], "{dtype}");
            assert_eq!(t.element_count(), 1);
        }
    }
}
