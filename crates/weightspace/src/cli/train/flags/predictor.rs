//! The flags of the method predictor.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use weightspace::predictor::Others;

use super::{RunConfig, fill, set};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of --method predictor")]
pub(super) struct PredictorFlags {
    /// File that compress --method predictor has written for --init, whose predictor is trained on
    #[arg(long, value_name = "FILE.wsp")]
    predictor: Option<PathBuf>,
    /// Bits of the predictor's weights in the file, without --target-bytes [default: 8]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=16),
          conflicts_with = "target_bytes")]
    predictor_bits: Option<u8>,
    /// A step of its own for every row of the predictor's matrices [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    row_steps: Option<bool>,
    /// Bits of biases and normalisations in the file [default: 10]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=16))]
    vector_bits: Option<u8>,
    /// What becomes of weights that are not predicted: fixed or trained [default: fixed]
    #[arg(long, value_name = "WHAT", value_parser = others)]
    others: Option<Others>,
    /// Weight of the weights' root mean square error in the loss [default: 0]
    #[arg(long, value_name = "X")]
    recon_weight: Option<f64>,
}

fn others(text: &str) -> Result<Others, String> {
    match text {
        "fixed" => Ok(Others::Fixed),
        "trained" => Ok(Others::Trained),
        _ => Err("neither fixed nor trained".to_owned()),
    }
}

impl PredictorFlags {
    /// The first flag that is given.
    fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("--predictor", self.predictor.is_some()),
            ("--predictor-bits", self.predictor_bits.is_some()),
            ("--row-steps", self.row_steps.is_some()),
            ("--vector-bits", self.vector_bits.is_some()),
            ("--others", self.others.is_some()),
            ("--recon-weight", self.recon_weight.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    pub(super) fn apply(&self, config: &mut RunConfig) -> anyhow::Result<()> {
        let Some(tuning) = &mut config.predictor else {
            return match self.first_given() {
                Some(flag) => bail!("{flag} needs --method predictor"),
                None => Ok(()),
            };
        };
        fill(&mut config.predictor_file, &self.predictor);
        set(&mut tuning.bits, &self.predictor_bits);
        set(&mut tuning.row_steps, &self.row_steps);
        set(&mut tuning.vector_bits, &self.vector_bits);
        set(&mut tuning.others, &self.others);
        set(&mut tuning.reconstruction, &self.recon_weight);
        Ok(())
    }
}
