//! The ranks of a training that are processes: those that `mpirun` started together.
//!
//! The feature `mpi` is needed to be one of several; what ranks do is in
//! [`weightspace_nn::comm`].

#[cfg(feature = "mpi")]
mod mpi;

use std::sync::Arc;

use weightspace_nn::comm::{Communicator, Solo};

/// Variables in which launchers tell a process how many it is one of: Open MPI; MPICH, Intel MPI and
/// Slurm.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];

/// Why processes cannot work together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommError {
    /// The program knows no MPI.
    #[error("started as one of {size} processes, but built without the feature `mpi`")]
    NotBuilt {
        /// Number of processes.
        size: usize,
    },
    /// MPI does not start.
    #[error("MPI does not start: {0}")]
    Start(&'static str),
}

/// All processes that were started together with this one; itself alone if there are no others.
///
/// # Errors
/// If there are others and MPI is not there or does not start; it starts once.
pub fn world() -> Result<Arc<dyn Communicator>, CommError> {
    let size = |name| std::env::var(name).ok()?.parse().ok();
    match SIZES.into_iter().find_map(size).unwrap_or(1) {
        0 | 1 => Ok(Arc::new(Solo)),
        size => many(size),
    }
}

#[cfg(feature = "mpi")]
fn many(_: usize) -> Result<Arc<dyn Communicator>, CommError> {
    Ok(Arc::new(mpi::World::new()?))
}

#[cfg(not(feature = "mpi"))]
fn many(size: usize) -> Result<Arc<dyn Communicator>, CommError> {
    Err(CommError::NotBuilt { size })
}
