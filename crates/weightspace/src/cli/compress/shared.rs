//! Options of several methods.

use clap::Args;
use weightspace_core::container::Method;

/// Calibration images when the number is not given.
pub const DEFAULT_CALIBRATION: usize = 512;

/// What more than one method can be told.
#[derive(Args)]
#[command(next_help_heading = "Options of the methods quantize and low-rank")]
pub struct SharedArgs {
    /// Largest size of the file
    #[arg(long, value_name = "N")]
    pub target_bytes: Option<u64>,
    /// Compress for the inputs that N training images, without labels, give: quantize rounds by second
    /// order, low-rank weighs singular values; both correct biases [default: 512 where --data comes
    /// with a target or --method low-rank, else 0]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "512", requires = "data")]
    pub calibrate: Option<usize>,
    /// Keep batch normalisations apart from the layers before them
    #[arg(long)]
    pub no_fold: bool,
}

impl SharedArgs {
    /// The first option that is given and that the method does not have.
    pub fn first_misplaced(&self, method: Method) -> Option<&'static str> {
        let given = [
            ("--target-bytes", self.target_bytes.is_some()),
            ("--calibrate", self.calibrate.is_some()),
            ("--no-fold", self.no_fold),
        ];
        let takes = matches!(method, Method::Quantize | Method::LowRank);
        given.into_iter().find(|(_, given)| *given && !takes).map(|(name, _)| name)
    }
}
