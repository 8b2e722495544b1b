//! The `.wsp` file: one compressed network, whatever the method. `docs/format.md` is the
//! normative description; this module writes and reads what it says.
//!
//! [`encode`] and [`write`](fn@write) take named tensors, each with its [`Coding`];
//! [`encode_projected`] and [`write_projected`] also the coefficients that some of them are made of.
//! [`encode_predicted`] and [`write_predicted`] also the predictor that gives some of them.
//! *Inner* tensors stand in the table too, but are only what tensors of the network are made of.
//! [`WspFile`] opens a file, lists what it holds and decodes it tensor by tensor.

mod bytes;
pub(crate) mod error;
mod file;
mod framing;
pub(crate) mod limits;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod predictor;
mod product;
pub(crate) mod projection;
pub(crate) mod quantized;
pub(crate) mod raw;
pub(crate) mod table;
mod write;

pub use error::WspError;
pub use file::WspFile;
pub use framing::{Section, SectionKind};
pub use predictor::{Predicted, PredictedInfo, PredictedTensor, PredictorInfo};
pub use projection::{Projected, ProjectionKey};
pub use quantized::{OCTAVE_EIGHTHS, Quantized};
pub use write::{
    encode, encode_predicted, encode_projected, write, write_predicted, write_projected,
};

use crate::tensor::{DType, Tensor};

/// How the tensors of a file were compressed: its sections beside the table follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// Tensors quantised one by one.
    Quantize = 0,
    /// Tensors as a few coefficients of a pseudo-random basis.
    Subspace = 1,
    /// Tensors as the outputs of a small network.
    Predictor = 2,
    /// Matrices as products of two thin ones.
    LowRank = 3,
}

impl Method {
    /// Every method; the position of each is its code in the file.
    pub const ALL: [Method; 4] =
        [Method::Quantize, Method::Subspace, Method::Predictor, Method::LowRank];

    /// The name used in listings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Quantize => "quantize",
            Method::Subspace => "subspace",
            Method::Predictor => "predictor",
            Method::LowRank => "low-rank",
        }
    }
}

/// What a file says about the network it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the tensors were compressed.
    pub method: Method,
    /// Architecture, for instance `resnet20`; empty when unknown.
    pub arch: String,
    /// Data set, for instance `cifar10`; empty when unknown.
    pub data: String,
    /// Preprocessing of the inputs as text; empty when unknown.
    pub preprocessing: String,
    /// First half of [`StateDict::content_hash`](crate::StateDict::content_hash) of the original.
    pub source_hash: [u8; 16],
    /// Size of the original file in bytes.
    pub source_bytes: u64,
    /// Number of parameters of the original.
    pub source_parameters: u64,
}

impl Default for Header {
    fn default() -> Self {
        Header {
            method: Method::Quantize,
            arch: String::new(),
            data: String::new(),
            preprocessing: String::new(),
            source_hash: [0; 16],
            source_bytes: 0,
            source_parameters: 0,
        }
    }
}

/// How one tensor is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Coding {
    /// Bit for bit, any element type; deflated where that is smaller.
    Raw(Tensor),
    /// Every element has the same value.
    Constant {
        /// Element type.
        dtype: DType,
        /// Dimensions, outermost first; at most 2^16 elements.
        shape: Vec<usize>,
        /// The value, rounded to the nearest of a floating-point `dtype`.
        value: Number,
    },
    /// Integers times a scale; decodes to `f32`.
    Quantized(Quantized),
    /// What the coefficients of a projection stand for; decodes to `f32`.
    Projected {
        /// Dimensions, outermost first.
        shape: Vec<usize>,
    },
    /// What a predictor gives; decodes to `f32`.
    Predicted {
        /// Dimensions, outermost first; at least one, and none is 0.
        shape: Vec<usize>,
    },
    /// Equal to the base's tensor of that name.
    Base {
        /// Element type.
        dtype: DType,
        /// Dimensions, outermost first.
        shape: Vec<usize>,
    },
    /// The product of two matrices, as the matrix of one row for each index of the first dimension;
    /// decodes to `f32`. The factors become inner tensors of the file.
    Product {
        /// Dimensions, outermost first; at least two.
        shape: Vec<usize>,
        /// \[rows, rank\]: [`Raw`](Coding::Raw) of a type that fits into `f32`,
        /// [`Constant`](Coding::Constant) or [`Quantized`](Coding::Quantized).
        left: Box<Coding>,
        /// \[rank, columns\], likewise.
        right: Box<Coding>,
    },
}

impl Coding {
    /// Dimensions of the tensor, outermost first.
    pub fn shape(&self) -> &[usize] {
        match self {
            Coding::Raw(tensor) => tensor.shape(),
            Coding::Constant { shape, .. }
            | Coding::Projected { shape }
            | Coding::Predicted { shape }
            | Coding::Product { shape, .. }
            | Coding::Base { shape, .. } => shape,
            Coding::Quantized(quantized) => &quantized.shape,
        }
    }

    /// Element type that the tensor decodes to.
    pub fn dtype(&self) -> DType {
        match self {
            Coding::Raw(tensor) => tensor.dtype(),
            Coding::Constant { dtype, .. } | Coding::Base { dtype, .. } => *dtype,
            Coding::Quantized(_)
            | Coding::Projected { .. }
            | Coding::Predicted { .. }
            | Coding::Product { .. } => DType::F32,
        }
    }
}

/// The value of a [`Coding::Constant`]: exact for every element type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A real number, for the floating-point types.
    Float(f64),
    /// An integer, for the others (booleans are 0 and 1).
    Integer(i128),
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Number::Float(value)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Number::Integer(value.into())
    }
}

impl Number {
    /// The little-endian bytes of one element; `None` where `dtype` has no such value.
    fn to_bytes(self, dtype: DType) -> Option<Vec<u8>> {
        let bytes = match (self, dtype) {
            (Number::Float(value), _) if dtype.is_float() => {
                let element = Tensor::from_bytes(DType::F64, vec![], value.to_le_bytes().into());
                element.cast_float(dtype).bytes().to_vec()
            }
            (Number::Integer(value @ 0..=1), DType::Bool) => vec![value as u8],
            (Number::Integer(value), DType::U8) => u8::try_from(value).ok()?.to_le_bytes().into(),
            (Number::Integer(value), DType::I8) => i8::try_from(value).ok()?.to_le_bytes().into(),
            (Number::Integer(value), DType::U16) => u16::try_from(value).ok()?.to_le_bytes().into(),
            (Number::Integer(value), DType::I16) => i16::try_from(value).ok()?.to_le_bytes().into(),
            (Number::Integer(value), DType::U32) => u32::try_from(value).ok()?.to_le_bytes().into(),
            (Number::Integer(value), DType::I32) => i32::try_from(value).ok()?.to_le_bytes().into(),
            (Number::Integer(value), DType::U64) => u64::try_from(value).ok()?.to_le_bytes().into(),
            (Number::Integer(value), DType::I64) => i64::try_from(value).ok()?.to_le_bytes().into(),
            _ => return None,
        };
        Some(bytes)
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Float(value) => value.fmt(f),
            Number::Integer(value) => value.fmt(f),
        }
    }
}
