//! Ranks that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Communicator;

/// Ranks for as many threads, in their order: each thread takes one. They do what processes do, within
/// one process; to train faster, give one rank more threads instead.
pub fn threads(count: usize) -> Vec<ThreadRank> {
    let state = State { sent: vec![Vec::new(); count], ..State::default() };
    let group = Arc::new(Group { size: count, state: Mutex::new(state), changed: Condvar::new() });
    (0..count).map(|rank| ThreadRank { rank, group: Arc::clone(&group) }).collect()
}

/// A rank that is a thread. When it is dropped while others wait for it, these panic instead of waiting
/// for ever.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What each rank says.
    sent: Vec<Vec<u8>>,
    /// Ranks at the next meeting.
    waiting: usize,
    /// Meetings so far.
    meetings: u64,
    /// A rank is gone.
    left: bool,
}

impl ThreadRank {
    /// What a rank that panicked has left is consistent: nothing is changed in between.
    fn state(&self) -> MutexGuard<'_, State> {
        self.group.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all ranks.
    fn meet(&self) {
        let mut state = self.state();
        let meetings = state.meetings;
        state.waiting += 1;
        if state.waiting == self.group.size {
            state.waiting = 0;
            state.meetings += 1;
            self.group.changed.notify_all();
            return;
        }
        while state.meetings == meetings {
            assert!(!state.left, "a rank has left the others");
            state = self.group.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says something to all, and reads what all said.
    fn exchange(&self, own: &[u8], read: impl FnOnce(&[Vec<u8>])) {
        self.state().sent[self.rank] = own.to_vec();
        self.meet();
        read(&self.state().sent);
        // Nobody speaks again before all have read.
        self.meet();
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        self.state().left = true;
        self.group.changed.notify_all();
    }
}

impl Communicator for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.group.size
    }

    fn gather(&self, own: &[u8], lengths: &[usize], all: &mut [u8]) {
        assert_eq!(lengths.iter().sum::<usize>(), all.len(), "the bytes of all ranks");
        self.exchange(own, |sent| {
            let mut rest = all;
            for (sent, &length) in sent.iter().zip(lengths) {
                let (piece, behind) = rest.split_at_mut(length);
                piece.copy_from_slice(sent);
                rest = behind;
            }
        });
    }

    fn transpose(&self, sent: &[u8], received: &mut [u8]) {
        let piece = received.len() / self.group.size;
        self.exchange(sent, |sent| {
            let sent = sent.iter().map(|sent| &sent[self.rank * piece..][..piece]);
            received.chunks_exact_mut(piece).zip(sent).for_each(|(to, from)| {
                to.copy_from_slice(from);
            });
        });
    }
}
