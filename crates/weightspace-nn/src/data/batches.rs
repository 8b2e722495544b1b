//! Batches in an order that seed and epoch alone decide.

use weightspace_core::random::{Key, Stream};

/// The batches of every epoch. The order of an epoch is a function of the indices, the seed and the
/// number of the epoch, so that to resume a run is to ask for the next batch.
///
/// ```
/// use weightspace_nn::data::Batches;
///
/// let mut batches = Batches::new((0..100).collect(), 32, 42, false);
/// assert_eq!(batches.batches_per_epoch(), 4);
/// assert_eq!(batches.batch(7, 3).len(), 4);
/// ```
#[derive(Clone, Debug)]
pub struct Batches {
    indices: Vec<usize>,
    batch_size: usize,
    key: Key,
    drop_last: bool,
    /// Epoch that `order` is of.
    epoch: Option<u32>,
    order: Vec<usize>,
}

impl Batches {
    /// Batches of `batch_size` of the samples `indices`. What is left for a last, smaller batch is
    /// left out if `drop_last`, which leaves none at all of fewer samples than a batch has.
    ///
    /// The order of epoch e is the indices shuffled by stream e of purpose `batches`
    /// ([`Stream::shuffle`]).
    ///
    /// # Panics
    /// If `batch_size` is 0 or there are 2^32 indices or more.
    pub fn new(indices: Vec<usize>, batch_size: usize, seed: u64, drop_last: bool) -> Self {
        assert!(batch_size > 0, "a batch has at least one sample");
        assert!(u32::try_from(indices.len()).is_ok(), "fewer than 2^32 samples");
        let key = Key::for_purpose(seed, "batches");
        let order = Vec::with_capacity(indices.len());
        Self { indices, batch_size, key, drop_last, epoch: None, order }
    }

    /// Samples in a batch; the last of an epoch may have fewer.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Number of batches of an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        match self.drop_last {
            true => self.indices.len() / self.batch_size,
            false => self.indices.len().div_ceil(self.batch_size),
        }
    }

    /// All indices in the order of that epoch, those of a left out last batch too.
    pub fn epoch(&mut self, epoch: u32) -> &[usize] {
        if self.epoch != Some(epoch) {
            self.order.clone_from(&self.indices);
            Stream::new(self.key, u64::from(epoch)).shuffle(&mut self.order);
            self.epoch = Some(epoch);
        }
        &self.order
    }

    /// Indices of the batch at that position of an epoch.
    ///
    /// # Panics
    /// If the epoch has no such batch.
    pub fn batch(&mut self, epoch: u32, batch: usize) -> &[usize] {
        let count = self.batches_per_epoch();
        assert!(batch < count, "batch {batch} of {count}");
        let batch_size = self.batch_size;
        let order = self.epoch(epoch);
        &order[batch * batch_size..order.len().min((batch + 1) * batch_size)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_are_the_same_everywhere() {
        let mut batches = Batches::new((100..110).collect(), 4, 42, false);
        assert_eq!(batches.epoch(0), [108, 102, 109, 107, 105, 100, 106, 101, 104, 103]);
        assert_eq!(batches.epoch(1), [102, 106, 104, 103, 101, 105, 100, 109, 107, 108]);
    }

    #[test]
    fn no_samples_give_no_batches() {
        assert_eq!(Batches::new(vec![], 4, 0, false).batches_per_epoch(), 0);
        assert_eq!(Batches::new(vec![1, 2, 3], 4, 0, true).batches_per_epoch(), 0);
        assert_eq!(Batches::new(vec![1, 2, 3], 4, 0, false).batches_per_epoch(), 1);
    }

    proptest! {
        #[test]
        fn an_epoch_has_every_sample_once(n in 0usize..200, size in 1usize..70, seed: u64, epoch: u32) {
            let mut batches = Batches::new((0..n).collect(), size, seed, false);
            let count = batches.batches_per_epoch();
            let mut seen = Vec::new();
            for i in 0..count {
                let batch = batches.batch(epoch, i);
                prop_assert!(batch.len() == size || i + 1 == count && !batch.is_empty());
                seen.extend_from_slice(batch);
            }
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..n));
        }

        #[test]
        fn whole_batches_only_if_the_last_is_dropped(n in 0usize..200, size in 1usize..70, seed: u64) {
            let mut all = Batches::new((0..n).collect(), size, seed, false);
            let mut whole = Batches::new((0..n).collect(), size, seed, true);
            prop_assert_eq!(whole.batches_per_epoch(), n / size);
            for i in 0..n / size {
                prop_assert_eq!(whole.batch(3, i), all.batch(3, i));
                prop_assert_eq!(whole.batch(3, i).len(), size);
            }
        }

        #[test]
        fn a_batch_does_not_depend_on_what_was_asked_before(
            seed: u64,
            asked in prop::collection::vec((0u32..4, 0usize..5), 1..12),
        ) {
            let new = || Batches::new((0..90).collect(), 20, seed, false);
            let mut used = new();
            for (epoch, batch) in asked {
                let mut fresh = new();
                prop_assert_eq!(used.batch(epoch, batch), fresh.batch(epoch, batch));
            }
        }

        #[test]
        fn epochs_and_seeds_differ(seed: u64, epoch in 0..u32::MAX) {
            let order = |seed, epoch| Batches::new((0..64).collect(), 8, seed, false).epoch(epoch).to_vec();
            prop_assert_ne!(order(seed, epoch), order(seed, epoch + 1));
            prop_assert_ne!(order(seed, epoch), order(seed.wrapping_add(1), epoch));
        }
    }
}
