//! Options of the method low-rank.

use clap::{Args, ValueEnum};
use weightspace::low_rank::{FactorType, Options, Target};
use weightspace::quantize::Preparation;
use weightspace_core::TensorInfo;

use super::shared::{DEFAULT_CALIBRATION, SharedArgs, fraction};
use crate::cli::Global;
use crate::cli::model::Model;

/// Share of the singular values when nothing else is asked for.
const DEFAULT_RANK_FRACTION: f64 = 0.5;

/// Which singular values are kept, and how.
#[derive(Args)]
#[command(next_help_heading = "Options of --method low-rank")]
pub struct LowRankArgs {
    /// Share of all singular values to keep, those of the most energy per byte [default: 0.5]
    #[arg(long, value_name = "F", value_parser = fraction,
          conflicts_with_all = ["target_bytes", "target_accuracy"])]
    rank_fraction: Option<f64>,
    /// How the elements of factors are stored [default: int8]
    #[arg(long, value_name = "TYPE", value_enum)]
    factors: Option<Factors>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Factors {
    /// Half precision
    F16,
    /// Integers of 8 bits, entropy-coded
    Int8,
}

impl LowRankArgs {
    /// The first option that is given.
    pub fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--rank-fraction", self.rank_fraction.is_some()),
            ("--factors", self.factors.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    /// The options, given whether there are images.
    pub fn options(&self, shared: &SharedArgs, with_data: bool, global: &Global) -> Options {
        let default = with_data.then_some(DEFAULT_CALIBRATION);
        let Preparation { fold, calibrate, seed } = shared.preparation(default, global);
        let target = match (shared.target_bytes, shared.target_accuracy) {
            (Some(bytes), _) => Target::Bytes(bytes),
            (None, Some(accuracy)) => Target::Accuracy(accuracy),
            (None, None) => {
                Target::RankFraction(self.rank_fraction.unwrap_or(DEFAULT_RANK_FRACTION))
            }
        };
        let factors = match self.factors {
            Some(Factors::F16) => FactorType::F16,
            Some(Factors::Int8) | None => FactorType::Int8,
        };
        Options { target, factors, fold, calibrate, seed }
    }

    /// Bytes of the file that these options lead to at most: layers are stored as they are, with 8 bits,
    /// where factors would be larger.
    pub fn estimated_bytes(&self, shared: &SharedArgs, model: &Model) -> u64 {
        const NAME_AND_SHAPE: u64 = 30;
        let tensor_bytes = |tensor: &TensorInfo| {
            let content = match tensor.dtype.is_float() && tensor.shape.len() >= 2 {
                true => (tensor.element_count() + tensor.shape[0]) as u64,
                false => tensor.byte_count() as u64,
            };
            NAME_AND_SHAPE + content
        };
        let whole = model.tensors().iter().map(tensor_bytes).sum();
        shared.target_bytes.map_or(whole, |target| target.min(whole))
    }
}
