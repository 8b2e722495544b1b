//! Images as the lanes read them.

use super::kernels::transpose;
use super::{LANES, LaneError, Vector};
use crate::data::{Dataset, Preprocessing};
use crate::kernels::simd::InstructionSet;

/// Preprocessed images of a data set and their labels: made once, read by every group of every thread.
#[derive(Clone, Debug)]
pub struct LaneImages {
    name: String,
    image_len: usize,
    pixels: Vec<f32>,
    labels: Vec<u16>,
    class_count: usize,
}

impl LaneImages {
    /// The images `indices` of a data set in that order, or all of them.
    ///
    /// # Errors
    /// If the preprocessing does not fit the images.
    ///
    /// # Panics
    /// If there is no image of an index.
    pub fn new(
        dataset: &Dataset,
        preprocessing: &Preprocessing,
        indices: Option<&[usize]>,
    ) -> Result<Self, LaneError> {
        let all: Vec<usize>;
        let indices = match indices {
            Some(indices) => indices,
            None => {
                all = (0..dataset.len()).collect();
                &all
            }
        };
        let image_len = preprocessing.output_shape(dataset.shape())?.iter().product();
        let mut pixels = vec![0.0; indices.len() * image_len];
        dataset.fill(indices, preprocessing, &mut pixels)?;
        let labels = indices.iter().map(|&index| dataset.labels()[index]).collect();
        let (name, class_count) = (dataset.name().to_owned(), dataset.class_count());
        Ok(LaneImages { name, image_len, pixels, labels, class_count })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values of one image.
    pub fn image_len(&self) -> usize {
        self.image_len
    }

    /// Number of classes of the data set.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// Checks that a network with so many inputs and outputs is one for these images.
    pub(super) fn check(&self, inputs: usize, classes: usize) -> Result<(), LaneError> {
        let mismatch = |found, of, expected| {
            Err(LaneError::Mismatch { what: self.name.clone(), found, of, expected })
        };
        if self.image_len != inputs {
            return mismatch(self.image_len, "values in an image", inputs);
        }
        if self.class_count != classes {
            return mismatch(self.class_count, "classes", classes);
        }
        Ok(())
    }

    fn image(&self, index: usize) -> &[f32] {
        &self.pixels[index * self.image_len..][..self.image_len]
    }

    /// Class of an image.
    pub(super) fn label(&self, index: usize) -> u16 {
        self.labels[index]
    }

    /// Writes an image of its own for every lane.
    pub(super) fn gather(
        &self,
        set: InstructionSet,
        indices: &[usize; LANES],
        target: &mut [Vector],
    ) {
        transpose(set, indices.map(|index| self.image(index)), target);
    }

    /// Writes one image for all lanes.
    pub(super) fn broadcast(&self, index: usize, target: &mut [Vector]) {
        for (target, &pixel) in target.iter_mut().zip(self.image(index)) {
            *target = Vector([pixel; LANES]);
        }
    }
}
