//! The methods of compression by name: one table.

use weightspace_core::container::Method;

/// A method: an entry of the table.
#[derive(Clone, Copy, Debug)]
pub struct MethodInfo {
    /// Its name and its code in `.wsp` files.
    pub method: Method,
    /// What it does, in one line.
    pub title: &'static str,
}

/// Every method, in the order of the codes in files.
pub static METHODS: [MethodInfo; 4] = [
    MethodInfo {
        method: Method::Quantize,
        title: "Weights as integers of 2 to 8 bits times scales, entropy-coded",
    },
    MethodInfo {
        method: Method::Subspace,
        title: "A key and a few coefficients of a pseudo-random basis (PRANC), to be trained",
    },
    MethodInfo {
        method: Method::Predictor,
        title: "A small network that gives the weights from their coordinates (NeRN, decoupled training)",
    },
    MethodInfo {
        method: Method::LowRank,
        title: "Weights as products of two thin matrices (truncated SVD), in f16 or 8 bits",
    },
];

/// The method of that name.
pub fn find(name: &str) -> Option<&'static MethodInfo> {
    METHODS.iter().find(|info| info.method.name() == name)
}
