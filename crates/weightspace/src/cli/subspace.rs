//! Options of the method subspace that `train` and `compress` share.

use std::path::{Path, PathBuf};

use clap::Args;
use weightspace::subspace::{Norms, Split, SubspaceConfig};
use weightspace_core::basis::Basis;
use weightspace_core::container::ProjectionKey;
use weightspace_core::random::Key;

use super::decoding::read_key;

/// What a subspace is; what is not given stays as it was.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of --method subspace")]
pub struct SubspaceArgs {
    /// Basis as `weightspace list` names it [default: hadamard]
    #[arg(long, value_name = "NAME")]
    basis: Option<Basis>,
    /// Number of coefficients of the network [default: 10000]
    #[arg(long, value_name = "N")]
    k: Option<usize>,
    /// Which tensors share coefficients: flat (all), per-layer, or numbers of every layer as 100,400,20
    /// [default: flat]
    #[arg(long, value_name = "HOW")]
    split: Option<Split>,
    /// Seed of the basis [default: --seed]
    #[arg(long, value_name = "N", conflicts_with = "key_file")]
    basis_seed: Option<u64>,
    /// Key of the basis in place of a seed, 32 bytes or 64 hexadecimal digits, which the result does
    /// not hold and needs (see docs/security.md for what that is worth)
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Bits of a coefficient in the file; below 8 they are rounded while they are trained [default: 8]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=16))]
    coefficient_bits: Option<u8>,
    /// What becomes of normalisations: trained, and in the file, or those of the base [default: trained]
    #[arg(long, value_name = "HOW")]
    norms: Option<Norms>,
    /// Bits of the numbers of normalisations in the file [default: 8]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=16))]
    norm_bits: Option<u8>,
    /// Write a difference to this checkpoint or .wsp file, which the result then needs
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
}

impl SubspaceArgs {
    /// Changes what is given.
    pub fn apply(&self, config: &mut SubspaceConfig) {
        let Self { basis, k, split, basis_seed, coefficient_bits, norms, norm_bits, .. } = self;
        config.basis = basis.unwrap_or(config.basis);
        config.coefficients = k.unwrap_or(config.coefficients);
        config.split = split.clone().unwrap_or_else(|| config.split.clone());
        config.seed = basis_seed.or(config.seed);
        config.bits = coefficient_bits.unwrap_or(config.bits);
        config.norms = norms.unwrap_or(config.norms);
        config.norm_bits = norm_bits.unwrap_or(config.norm_bits);
    }

    /// The first option that is given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--basis", self.basis.is_some()),
            ("--k", self.k.is_some()),
            ("--split", self.split.is_some()),
            ("--basis-seed", self.basis_seed.is_some()),
            ("--key-file", self.key_file.is_some()),
            ("--coefficient-bits", self.coefficient_bits.is_some()),
            ("--norms", self.norms.is_some()),
            ("--norm-bits", self.norm_bits.is_some()),
            ("--base", self.base.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// The key of a basis, and what its file says of it: a seed, or nothing.
pub fn key(
    config: &SubspaceConfig,
    key_file: Option<&Path>,
    seed: u64,
) -> anyhow::Result<(Key, ProjectionKey)> {
    if let Some(path) = key_file {
        return Ok((read_key(path)?, ProjectionKey::Withheld));
    }
    let seed = config.seed.unwrap_or(seed);
    Ok((Key::for_purpose(seed, "subspace"), ProjectionKey::Seed(seed)))
}
