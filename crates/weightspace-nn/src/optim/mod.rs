//! Optimisers on flat vectors of weights.
//!
//! An [`OptimizerConfig`] says which one with which settings (it is what configuration files hold),
//! [`ParameterGroups`] say where the tensors lie in the flat vector, and an [`Optimizer`] made from both
//! changes weights by gradients. Every rule is one file and one line of [`OPTIMIZERS`]; values agree with
//! PyTorch's step by step. Nothing here uses fused multiply-add, so elementwise rules give the same bits
//! on every machine with every number of threads.

mod adam;
mod adamw;
mod adaptive;
mod centralization;
mod clip;
mod config;
mod ema;
mod error;
mod groups;
mod lookahead;
mod muon;
mod newton_schulz;
mod optimizer;
mod radam;
mod ranger;
mod real;
mod rule;
mod sgd;

pub(crate) use adaptive::{Adaptive, AdaptiveValue, divided};
pub(crate) use real::Wide;
pub(crate) use rule::{Rule, Step};
pub(crate) use sgd::SgdValue;

pub use adam::Adam;
pub use adamw::AdamW;
pub use clip::{clip_global_norm, global_norm};
pub use config::{OPTIMIZERS, OptimizerConfig, OptimizerInfo};
pub use ema::Ema;
pub use error::OptimizerError;
pub use groups::{ParameterGroup, ParameterGroups};
pub use lookahead::Lookahead;
pub use muon::{MatrixScale, Muon};
pub use optimizer::Optimizer;
pub use radam::RAdam;
pub use ranger::Ranger;
pub use sgd::Sgd;
