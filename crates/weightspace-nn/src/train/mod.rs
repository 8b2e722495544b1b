//! The one training loop.
//!
//! A [`Trainer`] changes the coefficients of a [`Parameterization`] so that the network's loss on
//! the batches of a [`Task`] becomes small. It knows neither methods nor data: dense training is
//! [`Dense`], images with labels are [`Classification`].
//!
//! What is computed is a function of the configuration, its seed, the number of threads and the
//! instruction set alone; where training stands is a step's number. So a run that is interrupted and
//! continued from a [`RunFolder`] ends with the same bits as one that is not.
//!
//! Several ranks ([`comm`](crate::comm)) divide every batch as threads do, so that another number of
//! them rounds sums in another way and changes nothing else.
//!
//! ```
//! use weightspace_nn::train::{Classification, Dense, Silent, TrainConfig, Trainer};
//! use weightspace_nn::{ModelState, arch, data, init::Initialisation};
//!
//! let digits = data::open("digits", None, data::Split::Train)?;
//! let net = arch::build("mlp:64-32-10", &Default::default())?;
//! let config = TrainConfig { epochs: 2, ..TrainConfig::default() };
//! let start = ModelState::initial(&net, Initialisation::default(), config.seed);
//! let task = Classification::new(&net, &digits, &"unit".parse()?, 100, &config)?;
//! let dense = Dense::new(&net, start.weights);
//! let mut trainer = Trainer::new(Box::new(task), Box::new(dense), start.running, config)?;
//! trainer.run(&mut Silent)?;
//! let trained = trainer.result().to_state_dict(&net);
//! # assert_eq!(trained.len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classification;
mod config;
mod error;
mod evaluation;
mod folder;
mod metrics;
mod observer;
mod parameterization;
mod snapshot;
mod task;
mod teacher;
mod trainer;

pub use classification::{Classification, HELD_OUT_SEED, feature_maps};
pub use config::{DistillationConfig, Selection, TrainConfig};
pub use error::TrainError;
pub use folder::{CheckpointPolicy, RunFolder};
pub use metrics::{Metrics, peak_memory_bytes};
pub use observer::{Observer, Progress, Silent};
pub use parameterization::{Dense, Parameterization};
pub use task::{Prepared, Score, Task};
pub(crate) use trainer::dropout_seed;
pub use trainer::{Ending, Position, Trainer};
