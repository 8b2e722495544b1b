//! Sixteen models of one architecture, trained at once: every scalar of the network is a vector with
//! one lane per model.
//!
//! Small networks leave wide registers empty when they run one by one. Here each lane of a register is
//! another model, with its own weights, seed, activation, dropout, optimiser and rates, so that every
//! instruction works for sixteen of them whatever the shapes are. A [`LaneTrainer`] gives each model what
//! a [`Trainer`](crate::train::Trainer) gives it alone, up to the order in which sums are rounded; what a
//! model gets does not depend on its lane or its neighbours. Groups are independent of each other: one
//! per thread.
//!
//! A plan turns the chain of operations of a [`Net`] into passes over buffers `[.., lane]`;
//! samples run forward and backward one after the other (or in chunks, where the weights are larger than
//! a sample's values), while what they need is in the cache.

mod backward;
mod error;
mod evaluate;
mod forward;
mod images;
mod kernels;
mod optimise;
mod plan;
mod state;
mod tally;
mod trainer;
mod workspace;

pub use error::LaneError;
pub use images::LaneImages;
pub use trainer::LaneTrainer;

use crate::Net;
use crate::train::TrainConfig;

/// Models of a full group.
pub const LANES: usize = 16;

/// One model of a group. Activations, dropout, optimiser, rates, decay and seed may differ between the
/// models of a group; shapes, batch, epochs and `drop_last` may not.
#[derive(Clone, Debug)]
pub struct LaneModel {
    /// The network, of operations that follow one another.
    pub net: Net,
    /// How it is trained.
    pub config: TrainConfig,
    /// Weights to begin with, in the order of [`Net::layout`].
    pub weights: Vec<f32>,
}

/// In which order the models see the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOrder {
    /// Each in that of its own seed.
    Own,
    /// All in the order of this seed.
    Shared(u64),
}

/// One value of every model. Aligned, so that a load never touches two lines of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
struct Vector([f32; LANES]);

impl Vector {
    const ZERO: Vector = Vector([0.0; LANES]);
}

/// As many vectors of zeros.
fn zeros(len: usize) -> Vec<Vector> {
    vec![Vector::ZERO; len]
}
