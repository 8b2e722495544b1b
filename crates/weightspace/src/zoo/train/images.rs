//! What a zoo is trained on and judged by.

use weightspace_nn::data::{Dataset, split_train_validation};
use weightspace_nn::lanes::LaneImages;

use crate::zoo::{ZooDescription, ZooError};

/// Images of a zoo, preprocessed: all groups read the same ones.
pub struct ZooImages {
    /// What models learn from.
    pub(super) train: LaneImages,
    /// What was held out of the training images.
    pub(super) validation: Option<LaneImages>,
    /// Test images, where the data set has such.
    pub(super) test: Option<LaneImages>,
    shape: [usize; 3],
    class_count: usize,
    /// Of all images and labels.
    pub(super) sha256: [String; 2],
}

impl ZooImages {
    /// The images that a description names, of the data set's two splits.
    ///
    /// # Errors
    /// If preprocessing and images do not fit, or more images are wanted than there are.
    pub fn new(
        description: &ZooDescription,
        train: &Dataset,
        test: Option<&Dataset>,
    ) -> Result<Self, ZooError> {
        let preprocessing = description.preprocessing()?;
        let wanted = description.holdout + description.images.unwrap_or(1);
        if wanted > train.len() {
            let reason =
                format!("{wanted} images are wanted, {} has {}", train.name(), train.len());
            return Err(ZooError::Description(reason));
        }
        let (mut chosen, held_out) =
            split_train_validation(train.len(), description.holdout, description.data_seed);
        chosen.truncate(description.images.unwrap_or(chosen.len()));
        let some = |indices: &[usize]| LaneImages::new(train, &preprocessing, Some(indices));
        let shape = preprocessing.output_shape(train.shape());
        Ok(ZooImages {
            train: some(&chosen)?,
            validation: (!held_out.is_empty()).then(|| some(&held_out)).transpose()?,
            test: test.map(|test| LaneImages::new(test, &preprocessing, None)).transpose()?,
            shape: shape.map_err(|error| ZooError::Description(error.to_string()))?,
            class_count: train.class_count(),
            sha256: [train.sha256(), test.map_or("", Dataset::sha256)].map(str::to_owned),
        })
    }

    /// Channels, height and width of an image as networks see it.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of classes.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// Images to learn from, to validate with, and to test with.
    pub fn counts(&self) -> [usize; 3] {
        let len = |images: &Option<LaneImages>| images.as_ref().map_or(0, LaneImages::len);
        [self.train.len(), len(&self.validation), len(&self.test)]
    }
}
