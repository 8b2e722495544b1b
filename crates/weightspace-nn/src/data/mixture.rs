//! Mixtures of two training images, for learning from a teacher.

use weightspace_core::random::{Key, Stream};

use super::{Dataset, PreprocessingError, View};

/// Mixes images of a batch with others (Zhang et al. 2018): a teacher that knows all its training images by heart is
/// sure of each, but tells something about what lies between them (Beyer et al. 2022).
#[derive(Clone, Debug, Default)]
pub struct Mixtures {
    partners: Vec<usize>,
    shares: Vec<f32>,
    images: Vec<f32>,
}

impl Mixtures {
    /// Mixes every image of a batch, given by its `indices` and written to `images` by
    /// [`Dataset::fill_augmented`], with another one of `pool`.
    ///
    /// What image `index` is mixed with is a function of the view and the index alone, drawn from stream epoch x 2^32 +
    /// index of purpose `mixture`: the place of its partner in the pool, then a word, of which 2^-32 is the share of the
    /// image itself. The partner is augmented as in its own place of the epoch.
    ///
    /// # Errors
    /// If the preprocessing does not fit the images.
    ///
    /// # Panics
    /// If an index is out of range, or `images` has another length than that many images.
    pub fn mix(
        &mut self,
        dataset: &Dataset,
        indices: &[usize],
        pool: &[usize],
        view: &View,
        images: &mut [f32],
    ) -> Result<(), PreprocessingError> {
        let key = Key::for_purpose(view.seed, "mixture");
        self.partners.clear();
        self.shares.clear();
        for &index in indices {
            let mut stream = Stream::new(key, u64::from(view.epoch) << 32 | index as u64);
            self.partners.push(pool[stream.below(pool.len() as u32) as usize]);
            self.shares.push(stream.next_u32() as f32 / (1u64 << 32) as f32);
        }
        self.images.resize(images.len(), 0.0);
        let (partners, others) = (&self.partners, &mut self.images);
        dataset.fill_augmented(partners, view, others)?;
        let size = (images.len() / indices.len().max(1)).max(1);
        let pairs = images.chunks_exact_mut(size).zip(self.images.chunks_exact(size));
        for ((image, other), share) in pairs.zip(&self.shares) {
            let pixels = image.iter_mut().zip(other);
            pixels.for_each(|(own, other)| *own = share * *own + (1.0 - share) * other);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Augmentation, Split, open};

    #[test]
    fn a_mixture_lies_between_its_images_and_depends_on_seed_epoch_and_index_alone() {
        let digits = open("digits", None, Split::Train).unwrap();
        let preprocessing = "unit".parse().unwrap();
        let pool = [5, 6, 7];
        let mixed = |indices: &[usize], seed| {
            let mut images = vec![0.0; indices.len() * 64];
            let (augmentation, epoch) = (Augmentation::NONE, 3);
            let view = View { preprocessing: &preprocessing, augmentation, seed, epoch };
            digits.fill(indices, &preprocessing, &mut images).unwrap();
            Mixtures::default().mix(&digits, indices, &pool, &view, &mut images).unwrap();
            images
        };
        let (all, last) = (mixed(&[0, 1, 2, 3], 1), mixed(&[3], 1));
        assert_eq!(all[3 * 64..], last);
        assert_ne!(all, mixed(&[0, 1, 2, 3], 2));
        let mut originals = vec![0.0; 7 * 64];
        digits.fill(&[0, 1, 2, 3, 5, 6, 7], &preprocessing, &mut originals).unwrap();
        let (own, others) = originals.split_at(4 * 64);
        for (mixed, own) in all.chunks(64).zip(own.chunks(64)) {
            let between = |other: &[f32]| {
                let mut pixels = mixed.iter().zip(own.iter().zip(other));
                let inside = |(m, (a, b)): (&f32, (&f32, &f32))| {
                    (a.min(*b) - 1e-6..=a.max(*b) + 1e-6).contains(m)
                };
                pixels.all(inside)
            };
            assert!(others.chunks(64).any(between));
        }
    }
}
