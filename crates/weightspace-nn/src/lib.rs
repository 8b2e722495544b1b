//! Networks, data sets and the CPU engine of **weightspace**.

pub mod arch;
pub mod data;
pub mod net;

pub use net::{Net, NetBuilder, NodeId};
