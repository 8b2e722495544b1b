//! Model zoos: populations of networks of one architecture, with their weights at several epochs.
//!
//! A zoo is made from a [`ZooDescription`], which says what its models ([`ModelSpec`]) are; its models
//! are divided among machines by [`Shard`]. On disk it is a [tree] of folders as the published
//! zoos are, or one [packed] file; a [`Population`] reads both, model by model. [`index`]
//! makes a table of it, [`stats`] what can be said in numbers and pictures; [`align`] brings the
//! units of all models into one order.
//!
//! ```
//! use weightspace::zoo::ZooDescription;
//!
//! let description = ZooDescription::parse(
//!     r#"
//!         data = "digits"
//!         preprocessing = "unit-pad28"
//!         arch = "zoo-cnn"
//!         epochs = 5
//!         batch = 32
//!         checkpoints = [0, 1, 5]
//!         activation = ["tanh", "relu"]
//!         seeds = "1-8"
//!     "#,
//! )?;
//! assert_eq!(description.models()?.len(), 16);
//! # Ok::<(), weightspace::zoo::ZooError>(())
//! ```

pub mod align;
pub mod description;
pub mod epochs;
mod error;
pub mod import;
pub mod index;
mod json;
pub mod metrics;
pub mod names;
pub mod packed;
pub mod params;
mod parquet;
pub mod population;
pub mod presets;
mod row;
pub mod shard;
pub mod spec;
pub mod stated;
pub mod stats;
pub mod train;
pub mod tree;
mod weights;

pub use description::ZooDescription;
pub use error::ZooError;
pub use import::{Damaged, Import, Survey};
pub use metrics::EpochMetrics;
pub use params::Params;
pub use population::{Model, Parts, Population};
pub use shard::Shard;
pub use spec::{ModelSpec, ZooOptimizer, ZooSchedule};
pub use weights::ModelWeights;
