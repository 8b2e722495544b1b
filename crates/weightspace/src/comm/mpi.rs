//! All processes of an MPI job.
//!
//! MPI ends the whole job when a process is lost. Only operations that move bytes are used: what MPI
//! itself adds up, it may add up in any order.

use std::fmt;

use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator as _, CommunicatorCollectives};
use mpi::{Count, Threading};
use weightspace_nn::comm::Communicator;

use super::CommError;

/// Exit code of a process that panicked.
const PANICKED: i32 = 101;

/// The world of this process. MPI ends with it.
pub struct World {
    rank: usize,
    size: usize,
    _universe: Universe,
}

impl World {
    /// Starts MPI, which is possible once.
    pub fn new() -> Result<Self, CommError> {
        let started = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) = started.ok_or(CommError::Start("it was started before"))?;
        if threading < Threading::Serialized {
            return Err(CommError::Start("its library is not made for threads"));
        }
        let world = universe.world();
        let number = |number: i32| usize::try_from(number).unwrap_or(0);
        Ok(World { rank: number(world.rank()), size: number(world.size()), _universe: universe })
    }

    fn world(&self) -> SimpleCommunicator {
        SimpleCommunicator::world()
    }
}

/// Without the others waiting for a process that panicked.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.world().abort(PANICKED);
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl Communicator for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, own: &[u8], lengths: &[usize], all: &mut [u8]) {
        assert_eq!(own.len(), lengths[self.rank], "as many bytes as this rank has");
        assert_eq!(lengths.iter().sum::<usize>(), all.len(), "the bytes of all ranks");
        check_size(all.len());
        let counts: Vec<Count> = lengths.iter().map(|&length| length as Count).collect();
        let starts = counts.iter().scan(0, |end, count| {
            let start = *end;
            *end += count;
            Some(start)
        });
        let starts: Vec<Count> = starts.collect();
        let mut all = PartitionMut::new(all, counts, starts);
        self.world().all_gather_varcount_into(own, &mut all);
    }

    fn transpose(&self, sent: &[u8], received: &mut [u8]) {
        assert_eq!(sent.len(), received.len(), "as many bytes in as out");
        assert!(sent.len().is_multiple_of(self.size), "a piece for every rank");
        check_size(sent.len());
        self.world().all_to_all_into(sent, received);
    }
}

/// MPI counts in 32 bits.
fn check_size(bytes: usize) {
    assert!(Count::try_from(bytes).is_ok(), "{bytes} bytes are too many for MPI");
}
