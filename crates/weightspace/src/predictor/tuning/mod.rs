//! The second phase in a file's own arithmetic: the predictor that is trained is the one that the file holds.
//!
//! Forward, the predictor's weights are integers times steps, of every row or matrix; backward, their
//! gradient is that of the rounded ones (straight-through) and, with a target for the file's size, of the
//! price of their bits, as that of [`quantize::aware`](crate::quantize::aware).

mod config;
mod parameterization;
mod plan;
mod steps;

pub use config::TuningConfig;
pub use parameterization::RoundedPredictor;
pub use plan::{TuningError, TuningPlan};
