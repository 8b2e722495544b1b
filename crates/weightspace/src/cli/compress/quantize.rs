//! Options of the method quantize.

use clap::Args;
use weightspace::quantize::{Options, Preparation, Target};
use weightspace_core::TensorInfo;

use super::shared::{DEFAULT_CALIBRATION, SharedArgs};
use crate::cli::Global;
use crate::cli::model::Model;

/// Bits of a weight when nothing else is asked for.
const DEFAULT_BITS: u8 = 8;

/// How weights become integers.
#[derive(Args)]
#[command(next_help_heading = "Options of --method quantize")]
pub struct QuantizeArgs {
    /// Bits of every weight, 2 to 8 [default: 8]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8),
          conflicts_with_all = ["target_bytes", "target_accuracy"])]
    bits: Option<u8>,
}

impl QuantizeArgs {
    /// The first option that is given.
    pub fn first_given(&self) -> Option<&'static str> {
        self.bits.is_some().then_some("--bits")
    }

    /// The options, given whether there are images.
    pub fn options(&self, shared: &SharedArgs, with_data: bool, global: &Global) -> Options {
        let target = match (shared.target_bytes, shared.target_accuracy) {
            (Some(bytes), _) => Target::Bytes(bytes),
            (None, Some(accuracy)) => Target::Accuracy(accuracy),
            (None, None) => Target::Bits(self.bits.unwrap_or(DEFAULT_BITS)),
        };
        // Sharing bits out needs images to measure with: whoever names a data set means to use it.
        let wanted = with_data && !matches!(target, Target::Bits(_));
        let default = wanted.then_some(DEFAULT_CALIBRATION);
        let Preparation { fold, calibrate, seed } = shared.preparation(default, global);
        Options { target, fold, calibrate, seed }
    }

    /// Bytes of the file that these options lead to, without what entropy coding saves.
    pub fn estimated_bytes(&self, shared: &SharedArgs, model: &Model) -> u64 {
        const NAME_AND_SHAPE: u64 = 24;
        let bits = u64::from(self.bits.unwrap_or(DEFAULT_BITS));
        let tensor_bytes = |tensor: &TensorInfo| {
            let content = match tensor.dtype.is_float() && tensor.shape.len() >= 2 {
                true => tensor.element_count() as u64 * bits / 8 + tensor.shape[0] as u64,
                false => tensor.byte_count() as u64,
            };
            NAME_AND_SHAPE + content
        };
        let whole = model.tensors().iter().map(tensor_bytes).sum();
        shared.target_bytes.map_or(whole, |target| target.min(whole))
    }
}
