//! SVHN, cropped digits: a MATLAB file with `X` (32 x 32 x 3 x images, bytes) and `y` (labels 1 to
//! 10, where 10 is the digit 0). MATLAB stores the first index fastest, so every image is
//! contiguous, plane by plane, each plane column by column.

use std::path::Path;

use super::class_names::DIGITS;
use super::files::{owned, transpose_planes};
use super::info::Request;
use super::matlab::Matrix;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels};

const SIZE: usize = 32;
const SHAPE: [usize; 3] = [3, SIZE, SIZE];

pub(super) const SVHN: DatasetInfo = DatasetInfo {
    name: "svhn",
    title: "SVHN house numbers, cropped digits",
    source: "Y. Netzer et al. (2011); for non-commercial use",
    shape: Some(SHAPE),
    classes: &DIGITS,
    images: [73_257, 26_032],
    preprocessing: "half",
    folders: &["svhn", "SVHN"],
    train_files: &["train_32x32.mat"],
    test_files: &["test_32x32.mat"],
    origin: Origin::Files { url: "http://ufldl.stanford.edu/housenumbers/" },
    load,
};

fn load(request: &Request<'_>) -> Result<Dataset, DataError> {
    let path = &request.files()?[0];
    let labels = read_labels(path, request.published_images())?;
    let mut images = Matrix::open(path, "X")?;
    let expected = [SIZE, SIZE, 3, labels.len()];
    // MATLAB drops a last dimension of one.
    let single = labels.len() == 1 && images.dimensions == expected[..3];
    if images.dimensions != expected && !single {
        let problem = format!("X is {:?}, expected {expected:?}", images.dimensions);
        return Err(DataError::malformed(path, problem));
    }
    let mut pixels = images.bytes()?;
    transpose_planes(&mut pixels, SIZE);
    let dataset = Dataset::new(request.name, SHAPE, Pixels::U8(pixels), labels, owned(&DIGITS))?;
    Ok(dataset.with_split(request.split))
}

fn read_labels(path: &Path, limit: usize) -> Result<Vec<u16>, DataError> {
    let mut labels = Matrix::open(path, "y")?;
    let &[count, 1] = labels.dimensions.as_slice() else {
        let problem = format!("y is {:?}, expected [images, 1]", labels.dimensions);
        return Err(DataError::malformed(path, problem));
    };
    if !(1..=limit).contains(&count) {
        let problem = format!("{count} labels, expected 1 to {limit}");
        return Err(DataError::malformed(path, problem));
    }
    let bytes = labels.bytes()?;
    if let Some(index) = bytes.iter().position(|label| !(1..=10).contains(label)) {
        let problem = format!("label {} of image {index}, expected 1 to 10", bytes[index]);
        return Err(DataError::malformed(path, problem));
    }
    Ok(bytes.into_iter().map(|label| u16::from(label % 10)).collect())
}
