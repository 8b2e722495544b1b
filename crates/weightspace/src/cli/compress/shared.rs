//! Options of several methods.

use clap::Args;
use weightspace::quantize::Preparation;
use weightspace_core::container::Method;

use super::MethodChoice;
use crate::cli::Global;

/// Calibration images when the number is not given.
pub const DEFAULT_CALIBRATION: usize = 512;

/// What more than one method can be told.
#[derive(Args)]
#[command(
    next_help_heading = "Options of the methods auto, quantize and low-rank, targets also of predictor"
)]
pub struct SharedArgs {
    /// Largest size of the file
    #[arg(long, value_name = "N")]
    pub target_bytes: Option<u64>,
    /// Smallest accuracy on held-out training images, as a fraction: of the smallest file that has it
    #[arg(long, value_name = "A", value_parser = fraction, requires = "data",
          conflicts_with = "target_bytes")]
    pub target_accuracy: Option<f64>,
    /// Compress for the inputs that N training images, without labels, give: quantize rounds by second
    /// order, low-rank weighs singular values; both correct biases. More images give better files in
    /// more time and memory [default: 512 where --data comes with a target or --method low-rank, else 0]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "512", requires = "data")]
    pub calibrate: Option<usize>,
    /// Keep batch normalisations apart from the layers before them
    #[arg(long)]
    pub no_fold: bool,
}

/// A fraction on the command line.
pub fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse().map_err(|_| "not a number".to_owned())?;
    match value {
        0.0..=1.0 => Ok(value),
        _ => Err("not a fraction from 0 to 1".to_owned()),
    }
}

impl SharedArgs {
    /// The first option that is given and that the method does not have.
    pub fn first_misplaced(&self, method: MethodChoice) -> Option<&'static str> {
        let given = [
            ("--target-bytes", self.target_bytes.is_some()),
            ("--target-accuracy", self.target_accuracy.is_some()),
            ("--calibrate", self.calibrate.is_some()),
            ("--no-fold", self.no_fold),
        ];
        let takes = |name: &str| match method {
            MethodChoice::Auto => true,
            MethodChoice::One(Method::Predictor) => name.starts_with("--target"),
            MethodChoice::One(method) => matches!(method, Method::Quantize | Method::LowRank),
        };
        given.into_iter().find(|(name, given)| *given && !takes(name)).map(|(name, _)| name)
    }

    /// What is done before a target matters, with as many images as are the method's `default`.
    pub fn preparation(&self, default: Option<usize>, global: &Global) -> Preparation {
        let calibrate = self.calibrate.or(default).unwrap_or(0);
        Preparation { fold: !self.no_fold, calibrate, seed: global.seed() }
    }
}
