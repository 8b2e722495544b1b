//! What a subspace is, as configuration files hold it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weightspace_core::basis::{Basis, Start};

/// What a subspace is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubspaceConfig {
    /// The basis.
    pub basis: Basis,
    /// Number of coefficients of the whole network.
    pub coefficients: usize,
    /// Which tensors share coefficients.
    pub split: Split,
    /// Seed of the basis; that of the training if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Bits of a coefficient in the file, 2 to 16. Below 8 they are rounded while they are trained.
    pub bits: u8,
    /// What becomes of normalisations.
    pub norms: Norms,
    /// Bits of the numbers of normalisations in the file, 2 to 16.
    pub norm_bits: u8,
}

impl Default for SubspaceConfig {
    /// 10,000 coefficients of 8 bits of the Hadamard basis over the whole network.
    fn default() -> Self {
        SubspaceConfig {
            basis: Basis::Hadamard,
            coefficients: 10_000,
            split: Split::Flat,
            seed: None,
            bits: 8,
            norms: Norms::Trained,
            norm_bits: 8,
        }
    }
}

impl SubspaceConfig {
    /// What coefficients are added to: the base of a difference, drawn weights, or, for HashedNets, nothing.
    pub fn start(&self, is_delta: bool) -> Start {
        match self.basis {
            _ if is_delta => Start::Base,
            Basis::Hash => Start::Zero,
            _ => Start::Drawn,
        }
    }
}

/// What becomes of normalisations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norms {
    /// They are trained, and in the file.
    #[default]
    Trained,
    /// They stay those of the base.
    Base,
}

impl FromStr for Norms {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trained" => Ok(Norms::Trained),
            "base" => Ok(Norms::Base),
            _ => Err(format!("'{text}' is neither trained nor base")),
        }
    }
}

/// Which tensors share coefficients. As text `flat`, `per-layer`, or the layers' numbers of coefficients,
/// as `100,400,20`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Split {
    /// All of the network.
    #[default]
    Flat,
    /// Those of a layer; every layer has its share by its number of weights.
    PerLayer,
    /// Those of a layer; every layer has so many coefficients.
    Given(Vec<usize>),
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Split::Flat => f.write_str("flat"),
            Split::PerLayer => f.write_str("per-layer"),
            Split::Given(counts) => {
                let counts: Vec<_> = counts.iter().map(usize::to_string).collect();
                f.write_str(&counts.join(","))
            }
        }
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let counts = || text.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
        match text {
            "flat" => Ok(Split::Flat),
            "per-layer" => Ok(Split::PerLayer),
            _ => counts().map(Split::Given).map_err(|_| {
                format!(
                    "'{text}' is neither flat, per-layer nor numbers of coefficients as 100,400,20"
                )
            }),
        }
    }
}

impl TryFrom<String> for Split {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Split> for String {
    fn from(split: Split) -> String {
        split.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_survive_text() {
        for split in [Split::Flat, Split::PerLayer, Split::Given(vec![3, 40, 5])] {
            assert_eq!(split.to_string().parse(), Ok(split));
        }
        assert!("flat,3".parse::<Split>().is_err());
    }
}
