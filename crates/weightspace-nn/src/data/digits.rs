//! The handwritten digits that are part of the program, so that everything can be tried without a
//! download. `digits/NOTICE` states their source and licence.
//!
//! The 1,797 digits keep their published order; the last 360 are the test split, with 33 to 37
//! images of every class.

use super::class_names::DIGITS as CLASS_NAMES;
use super::files::{Source, owned};
use super::idx::{self, Element};
use super::info::Request;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels, Split};

const IMAGES: &[u8] = include_bytes!("digits/digits-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("digits/digits-labels-idx1-ubyte.gz");
const TRAIN: usize = 1437;
const TEST: usize = 360;

pub(super) const DIGITS: DatasetInfo = DatasetInfo {
    name: "digits",
    title: "Handwritten digits of 8 x 8 pixels, built in",
    source: "E. Alpaydin, C. Kaynak (1998), UCI Optical Recognition of Handwritten Digits; CC BY 4.0",
    shape: Some([1, 8, 8]),
    classes: &CLASS_NAMES,
    images: [TRAIN, TEST],
    preprocessing: "unit",
    folders: &[],
    train_files: &[],
    test_files: &[],
    origin: Origin::None,
    load,
};

fn load(request: &Request<'_>) -> Result<Dataset, DataError> {
    let mut images = Source::embedded("built-in digits, images", IMAGES);
    let mut labels = Source::embedded("built-in digits, labels", LABELS);
    let mut pixels = idx::read_images(&mut images, Element::U8, [8, 8], TRAIN + TEST)?;
    let mut labels = idx::read_labels(&mut labels, pixels.len() / 64, CLASS_NAMES.len())?;
    match request.split {
        Split::Train => {
            pixels.truncate(TRAIN * 64);
            labels.truncate(TRAIN);
        }
        Split::Test => {
            pixels.drain(..TRAIN * 64);
            labels.drain(..TRAIN);
        }
    }
    let class_names = owned(&CLASS_NAMES);
    let dataset = Dataset::new(request.name, [1, 8, 8], Pixels::U8(pixels), labels, class_names)?;
    Ok(dataset.with_scale(16.0).with_split(request.split))
}
