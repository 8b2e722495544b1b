//! Pseudo-random bases: a few coefficients stand for many weights (PRANC, "Pseudo RAndom Networks for
//! Compacting deep models", eq. 1: theta = sum of alpha_j basis_j).
//!
//! A basis is a matrix of integers that is never stored: any part of it is generated where it is
//! needed, from a key. [`Matrix`] is one such matrix, [`Projection`] joins them to all weights of a
//! network. `docs/format.md`, section 12, is normative.
//!
//! A new basis is one file with `entry`, `expand` and `pullback`, a variant of [`Basis`], one line in
//! [`BASES`] and its arms in [`Matrix`].

mod chacha;
mod dense;
mod hadamard;
mod projection;
mod signs;
mod sketch;
mod uniform;
mod walsh;
mod words;

use std::ops::Range;

pub use projection::{ProjectedTensor, Projection, ProjectionError, Segment, Start};

use crate::InstructionSet;
use crate::random::Key;

/// How the entries of a matrix are generated. The discriminants are the codes in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Basis {
    /// Random signs, independent within rows and columns.
    Dense = 0,
    /// Independent odd integers from -255 to 255.
    Uniform = 1,
    /// Columns of Hadamard matrices, rows with random signs: exactly orthogonal.
    Hadamard = 2,
    /// One random sign in each row: exactly orthogonal.
    Sketch = 3,
    /// One 1 in each row, as in HashedNets (Chen et al. 2015).
    Hash = 4,
}

/// A basis: an entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct BasisInfo {
    /// Which.
    pub basis: Basis,
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
}

/// Every basis, in the order of the codes in files.
pub static BASES: [BasisInfo; 5] = [
    BasisInfo {
        basis: Basis::Dense,
        name: "dense",
        title: "Random signs (PRANC); d x k additions, fused with generation",
    },
    BasisInfo {
        basis: Basis::Uniform,
        name: "uniform",
        title: "Independent uniform numbers of 8 bits (PRANC's own distribution), d x k products",
    },
    BasisInfo {
        basis: Basis::Hadamard,
        name: "hadamard",
        title: "Randomised Hadamard transform, orthogonal, d log d additions",
    },
    BasisInfo {
        basis: Basis::Sketch,
        name: "sketch",
        title: "One signed coefficient for every weight, orthogonal, d additions",
    },
    BasisInfo {
        basis: Basis::Hash,
        name: "hash",
        title: "One coefficient without sign for every weight (HashedNet), a baseline",
    },
];

impl Basis {
    /// The table's entry.
    pub fn info(self) -> &'static BasisInfo {
        &BASES[self as usize]
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The basis of that name.
    pub fn find(name: &str) -> Option<Basis> {
        BASES.iter().find(|info| info.name == name).map(|info| info.basis)
    }

    /// Largest magnitude of an entry.
    pub fn largest_entry(self) -> u32 {
        match self {
            Basis::Uniform => 255,
            _ => 1,
        }
    }
}

/// The text names no basis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown basis '{0}'; known are {known}", known = BASES.map(|info| info.name).join(", "))]
pub struct UnknownBasis(String);

impl std::str::FromStr for Basis {
    type Err = UnknownBasis;

    fn from_str(text: &str) -> Result<Self, UnknownBasis> {
        Basis::find(text).ok_or_else(|| UnknownBasis(text.to_owned()))
    }
}

impl std::fmt::Display for Basis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A matrix of integers that is generated where it is needed: a row per weight, a column per
/// coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// How entries are generated.
    pub basis: Basis,
    /// From which key.
    pub key: Key,
    /// Number of the matrix among those of this key.
    pub segment: u32,
    /// Number of weights d.
    pub rows: usize,
    /// Number of coefficients k, at most d.
    pub columns: usize,
}

/// Numbers of which a matrix makes sums: `f32` where a basis is trained, `i32` where a file is decoded.
pub trait Element: bytemuck::Pod + Default + Send + Sync + number::Number {}

impl Element for f32 {}
impl Element for i32 {}

mod number {
    /// What the two types of elements share.
    pub trait Number: Sized + std::ops::AddAssign {
        /// Whether elements are added as `f32`.
        const IS_FLOAT: bool;
        /// 0 - self.
        fn negated(self) -> Self;
        /// 0 - self if the lowest bit is set.
        fn negated_if(self, bit: u32) -> Self;
        /// `integer` times self.
        fn times(self, integer: i32) -> Self;
        /// The sum of two elements given as their bits.
        fn add_bits(a: u32, b: u32) -> u32;
        /// The difference of two elements given as their bits.
        fn sub_bits(a: u32, b: u32) -> u32;
    }

    impl Number for f32 {
        const IS_FLOAT: bool = true;

        #[inline(always)]
        fn negated(self) -> Self {
            -self
        }

        #[inline(always)]
        fn negated_if(self, bit: u32) -> Self {
            f32::from_bits(self.to_bits() ^ bit << 31)
        }

        #[inline(always)]
        fn times(self, integer: i32) -> Self {
            self * integer as f32
        }

        #[inline(always)]
        fn add_bits(a: u32, b: u32) -> u32 {
            (f32::from_bits(a) + f32::from_bits(b)).to_bits()
        }

        #[inline(always)]
        fn sub_bits(a: u32, b: u32) -> u32 {
            (f32::from_bits(a) - f32::from_bits(b)).to_bits()
        }
    }

    // Sums of a file are below 2^31 by its format; whatever else is given wraps around.
    impl Number for i32 {
        const IS_FLOAT: bool = false;

        #[inline(always)]
        fn negated(self) -> Self {
            self.wrapping_neg()
        }

        #[inline(always)]
        fn negated_if(self, bit: u32) -> Self {
            let mask = -((bit & 1) as i32);
            (self ^ mask).wrapping_sub(mask)
        }

        #[inline(always)]
        fn times(self, integer: i32) -> Self {
            self.wrapping_mul(integer)
        }

        #[inline(always)]
        fn add_bits(a: u32, b: u32) -> u32 {
            a.wrapping_add(b)
        }

        #[inline(always)]
        fn sub_bits(a: u32, b: u32) -> u32 {
            a.wrapping_sub(b)
        }
    }
}

impl Matrix {
    /// One entry.
    ///
    /// # Panics
    /// If there is no such row or column.
    pub fn entry(&self, row: usize, column: usize) -> i32 {
        assert!(row < self.rows && column < self.columns, "entry {row}, {column}");
        match self.basis {
            Basis::Dense => dense::entry(self, row, column),
            Basis::Uniform => uniform::entry(self, row, column),
            Basis::Hadamard => hadamard::entry(self, row, column),
            Basis::Sketch => sketch::entry(self, row, column, true),
            Basis::Hash => sketch::entry(self, row, column, false),
        }
    }

    /// Rows `rows` of the product of columns `columns` with their coefficients.
    ///
    /// # Panics
    /// If there are no such rows or columns, or `coefficients` or `out` have another length.
    pub fn expand<T: Element>(
        &self,
        columns: Range<usize>,
        coefficients: &[T],
        rows: Range<usize>,
        out: &mut [T],
    ) {
        self.expand_with(InstructionSet::best(), columns, coefficients, rows, out);
    }

    /// As [`expand`](Self::expand), with a given instruction set: sums of integers are the same.
    ///
    /// # Panics
    /// As [`expand`](Self::expand), or if the machine does not have the instruction set.
    pub fn expand_with<T: Element>(
        &self,
        set: InstructionSet,
        columns: Range<usize>,
        coefficients: &[T],
        rows: Range<usize>,
        out: &mut [T],
    ) {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "{rows:?}, {columns:?}");
        assert_eq!((coefficients.len(), out.len()), (columns.len(), rows.len()), "lengths");
        let coefficients = (columns, coefficients);
        match self.basis {
            Basis::Dense => dense::expand(self, set, coefficients, rows, out),
            Basis::Uniform => uniform::expand(self, set, coefficients, rows, out),
            Basis::Hadamard => hadamard::expand(self, set, coefficients, rows, out),
            Basis::Sketch => sketch::expand(self, true, coefficients, rows, out),
            Basis::Hash => sketch::expand(self, false, coefficients, rows, out),
        }
    }

    /// The transposed product: for each of these columns the sum over all rows of its entry times the
    /// row's gradient, which is used as working memory.
    ///
    /// # Panics
    /// If there are no such columns, or `gradient` or `out` have another length.
    pub fn pullback(&self, columns: Range<usize>, gradient: &mut [f32], out: &mut [f32]) {
        self.pullback_with(InstructionSet::best(), columns, gradient, out);
    }

    /// As [`pullback`](Self::pullback), with a given instruction set.
    ///
    /// # Panics
    /// As [`pullback`](Self::pullback), or if the machine does not have the instruction set.
    pub fn pullback_with(
        &self,
        set: InstructionSet,
        columns: Range<usize>,
        gradient: &mut [f32],
        out: &mut [f32],
    ) {
        assert!(columns.end <= self.columns, "{columns:?}");
        assert_eq!((gradient.len(), out.len()), (self.rows, columns.len()), "lengths");
        match self.basis {
            Basis::Dense => dense::pullback(self, set, columns, gradient, out),
            Basis::Uniform => uniform::pullback(self, set, columns, gradient, out),
            Basis::Hadamard => hadamard::pullback(self, set, columns, gradient, out),
            Basis::Sketch => sketch::pullback(self, true, columns, gradient, out),
            Basis::Hash => sketch::pullback(self, false, columns, gradient, out),
        }
    }

    /// By what the columns are to be multiplied so that each has the norm of a vector of `rows` ones.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn column_gain(&self, column: usize) -> Gain {
        assert!(column < self.columns, "column {column}");
        match self.basis {
            Basis::Dense => Gain { numerator: 1, denominator: 1 },
            Basis::Uniform => Gain { numerator: 1, denominator: uniform::MEAN_SQUARE },
            Basis::Hadamard => hadamard::column_gain(self, column),
            Basis::Sketch | Basis::Hash => sketch::column_gain(self, column),
        }
    }

    /// Calls `visit` for consecutive parts of `rows`, with the gain that all columns share which have an
    /// entry there other than 0.
    pub fn row_gains(&self, rows: Range<usize>, mut visit: impl FnMut(Range<usize>, Gain)) {
        match self.basis {
            Basis::Dense | Basis::Uniform => visit(rows, self.column_gain(0)),
            Basis::Hadamard => hadamard::row_gains(self, rows, visit),
            Basis::Sketch | Basis::Hash => sketch::row_gains(self, rows, visit),
        }
    }
}

/// The square of a factor, as a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gain {
    /// Above the line.
    pub numerator: u64,
    /// Below the line.
    pub denominator: u64,
}

impl Gain {
    /// The factor.
    pub fn factor(self) -> f64 {
        (self.numerator as f64 / self.denominator as f64).sqrt()
    }
}
