//! Ranks: processes, or threads in their stead, that train one network together.
//!
//! Every rank does its [`Part`] of the work, and what is summed is summed in the order of the ranks,
//! whatever carries the bytes. So all ranks hold the same bits, and as many ranks always find the same.
//!
//! All ranks call the same methods in the same order; where one may fail alone, [`agree`] makes all of
//! them fail. Training as one rank is training as many with [`Solo`].
//!
//! ```
//! use weightspace_nn::comm::{Communicator, threads};
//!
//! let sums = std::thread::scope(|scope| {
//!     let ranks = threads(3).into_iter().map(|rank| {
//!         scope.spawn(move || {
//!             let mut values = [1.0, rank.rank() as f32];
//!             rank.sum_f32(&mut values);
//!             values
//!         })
//!     });
//!     let ranks: Vec<_> = ranks.collect();
//!     ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
//! });
//! assert_eq!(sums, [[3.0, 3.0]; 3]);
//! ```

mod agreement;
mod threads;

use std::fmt;
use std::ops::{AddAssign, Range};

use bytemuck::Pod;

pub use agreement::{Elsewhere, agree, agree_on};
pub use threads::{ThreadRank, threads};

/// Values of so many bytes are summed by every rank, which takes one exchange; of more, every rank sums
/// a piece, which takes two and less traffic.
const SMALL: usize = 4096;

/// Values that are summed at a time, so that memory stays bounded.
const BLOCK: usize = 1 << 20;

/// One of several ranks, through which it speaks to the others.
///
/// Every method but [`rank`](Self::rank), [`size`](Self::size) and [`part`](Self::part) waits for all
/// ranks and must be called by all of them, with slices of the same lengths. What is carried does not
/// fail: a rank that is lost ends all.
pub trait Communicator: fmt::Debug + Send + Sync {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// Writes the bytes of all ranks, one rank's after the other's. `lengths` says how many each rank
    /// has.
    ///
    /// # Panics
    /// If a length is wrong, or there are 2 GiB or more.
    fn gather(&self, own: &[u8], lengths: &[usize], all: &mut [u8]);

    /// Sends piece i of `sent` to rank i; piece i of `received` is what rank i sent here. There are as
    /// many pieces as ranks, all of one length.
    ///
    /// # Panics
    /// If these are no such pieces, or of 2 GiB or more.
    fn transpose(&self, sent: &[u8], received: &mut [u8]);

    /// This rank's part of what all do together.
    fn part(&self) -> Part {
        Part { index: self.rank(), count: self.size() }
    }

    /// Writes the values of all ranks, one rank's after the other's. `lengths` says how many each rank
    /// has, as [`Part::lengths`] does.
    ///
    /// # Panics
    /// If a length is wrong, or there are 2 GiB or more.
    fn gather_f32(&self, own: &[f32], lengths: &[usize], all: &mut [f32]) {
        let lengths: Vec<_> = lengths.iter().map(|length| length * size_of::<f32>()).collect();
        self.gather(bytemuck::cast_slice(own), &lengths, bytemuck::cast_slice_mut(all));
    }

    /// Writes the values of all ranks, of which each has as many, one rank's after the other's.
    ///
    /// # Panics
    /// If a length is wrong, or there are 2 GiB or more.
    fn gather_f64(&self, own: &[f64], all: &mut [f64]) {
        let lengths = vec![size_of_val(own); self.size()];
        self.gather(bytemuck::cast_slice(own), &lengths, bytemuck::cast_slice_mut(all));
    }

    /// Replaces the values by their sums over all ranks, added in the order of the ranks.
    fn sum_f32(&self, values: &mut [f32]) {
        sum(self, values);
    }

    /// Replaces the values by their sums over all ranks, added in the order of the ranks.
    fn sum_f64(&self, values: &mut [f64]) {
        sum(self, values);
    }

    /// Whether it is so on any rank.
    fn any(&self, own: bool) -> bool {
        let mut all = vec![0; self.size()];
        self.gather(&[u8::from(own)], &vec![1; self.size()], &mut all);
        all.contains(&1)
    }
}

fn sum<C, T>(comm: &C, values: &mut [T])
where
    C: Communicator + ?Sized,
    T: Pod + AddAssign,
{
    let size = comm.size();
    if size == 1 || values.is_empty() {
        return;
    }
    if size_of_val(values) <= SMALL {
        let mut all = vec![T::zeroed(); values.len() * size];
        let lengths = vec![size_of_val(values); size];
        let own = bytemuck::cast_slice(values);
        comm.gather(own, &lengths, bytemuck::cast_slice_mut(&mut all));
        add_up(&all, values);
        return;
    }
    for block in values.chunks_mut(BLOCK) {
        let piece = block.len().div_ceil(size);
        let mut padded = vec![T::zeroed(); piece * size];
        padded[..block.len()].copy_from_slice(block);
        let mut received = padded.clone();
        let bytes = bytemuck::cast_slice_mut(&mut received);
        comm.transpose(bytemuck::cast_slice(&padded), bytes);
        let mut own = vec![T::zeroed(); piece];
        add_up(&received, &mut own);
        let lengths = vec![size_of_val(&own[..]); size];
        let all = bytemuck::cast_slice_mut(&mut padded);
        comm.gather(bytemuck::cast_slice(&own), &lengths, all);
        block.copy_from_slice(&padded[..block.len()]);
    }
}

/// Writes the sum of the rows.
fn add_up<T: Pod + AddAssign>(rows: &[T], sum: &mut [T]) {
    let (first, others) = rows.split_at(sum.len());
    sum.copy_from_slice(first);
    for row in others.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += *value);
    }
}

/// One of several parts, all as large but for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which one, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Part {
    /// The only one.
    pub const WHOLE: Part = Part { index: 0, count: 1 };

    /// What it has of `len` things; the parts follow each other. Empty where there are too few.
    ///
    /// ```
    /// use weightspace_nn::comm::Part;
    ///
    /// let parts = [0, 1, 2].map(|index| Part { index, count: 3 }.range(8));
    /// assert_eq!(parts, [0..2, 2..5, 5..8]);
    /// ```
    pub fn range(self, len: usize) -> Range<usize> {
        self.index * len / self.count..(self.index + 1) * len / self.count
    }

    /// How many of `len` things each part has.
    pub fn lengths(self, len: usize) -> Vec<usize> {
        let parts = (0..self.count).map(|index| Part { index, ..self });
        parts.map(|part| part.range(len).len()).collect()
    }
}

/// The only rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, own: &[u8], _: &[usize], all: &mut [u8]) {
        all.copy_from_slice(own);
    }

    fn transpose(&self, sent: &[u8], received: &mut [u8]) {
        received.copy_from_slice(sent);
    }

    fn gather_f64(&self, own: &[f64], all: &mut [f64]) {
        all.copy_from_slice(own);
    }

    fn any(&self, own: bool) -> bool {
        own
    }
}
