//! What a zoo is trained on and judged by.

use weightspace_nn::data::{Augmentation, Dataset, Preprocessing, split_train_validation};
use weightspace_nn::lanes::{LaneImages, LaneTrainer};

use crate::zoo::{ZooDescription, ZooError};

/// Which images of a zoo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What models learn from.
    Train,
    /// What was held out of the training images.
    Validation,
    /// Test images, where the data set has such.
    Test,
}

/// Images of a zoo: all groups read the same ones.
pub struct ZooImages {
    pub(super) source: Source,
    counts: [usize; 3],
    shape: [usize; 3],
    class_count: usize,
    /// Of all images and labels.
    pub(super) sha256: [String; 2],
}

/// Images in the form in which the zoo's networks are trained on them.
pub(super) enum Source {
    /// Preprocessed, for networks that lanes can train.
    Lanes([Option<LaneImages>; 3]),
    /// As they are, for all others.
    Datasets(Datasets),
}

/// A data set of which some images are trained on and others held out.
pub(super) struct Datasets {
    pub train: Dataset,
    pub chosen: Vec<usize>,
    pub held_out: Vec<usize>,
    pub test: Option<Dataset>,
    pub preprocessing: Preprocessing,
    pub augmentation: Augmentation,
}

impl ZooImages {
    /// The images that a description names, of the data set's two splits.
    ///
    /// # Errors
    /// If preprocessing, images and networks do not fit, or more images are wanted than there are.
    pub fn new(
        description: &ZooDescription,
        train: Dataset,
        test: Option<Dataset>,
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
        let shape = preprocessing.output_shape(train.shape());
        let shape = shape.map_err(|error| ZooError::Description(error.to_string()))?;
        let class_count = train.class_count();
        let counts = [chosen.len(), held_out.len(), test.as_ref().map_or(0, Dataset::len)];
        let sha256 = [train.sha256(), test.as_ref().map_or("", Dataset::sha256)].map(str::to_owned);
        let augmentation = description.augmentation()?;
        let first = description.models()?.into_iter().next();
        let net = first.map(|spec| spec.net(shape[0], shape[1], class_count)).transpose()?;
        let in_lanes = augmentation == Augmentation::NONE
            && net.is_some_and(|net| LaneTrainer::supports(&net).is_ok());
        let source = if in_lanes {
            let of = |dataset, indices| LaneImages::new(dataset, &preprocessing, indices);
            Source::Lanes([
                Some(of(&train, Some(&chosen))?),
                (!held_out.is_empty()).then(|| of(&train, Some(&held_out))).transpose()?,
                test.as_ref().map(|test| of(test, None)).transpose()?,
            ])
        } else {
            Source::Datasets(Datasets {
                train,
                chosen,
                held_out,
                test,
                preprocessing,
                augmentation,
            })
        };
        Ok(ZooImages { source, counts, shape, class_count, sha256 })
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
        self.counts
    }

    /// Models that are trained together.
    pub(super) fn group_size(&self) -> usize {
        match self.source {
            Source::Lanes(_) => weightspace_nn::lanes::LANES,
            Source::Datasets(_) => 1,
        }
    }
}
