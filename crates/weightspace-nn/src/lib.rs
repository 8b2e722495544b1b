//! Networks, data sets and the CPU engine of **weightspace**.

pub mod arch;
pub mod data;
pub mod engine;
pub mod evaluate;
pub mod init;
pub mod kernels;
pub mod loss;
pub mod net;
pub mod optim;
pub mod schedule;

pub use engine::Engine;
pub use net::{Net, NetBuilder, NodeId};
