//! Networks, data sets and the CPU engine of **weightspace**.

pub mod arch;
pub mod comm;
pub mod data;
pub mod engine;
pub mod evaluate;
pub mod init;
pub mod kernels;
pub mod lanes;
pub mod linalg;
pub mod loss;
pub mod model_state;
pub mod net;
pub mod optim;
pub mod schedule;
pub mod train;

pub use engine::Engine;
pub use model_state::ModelState;
pub use net::{Net, NetBuilder, NodeId};
