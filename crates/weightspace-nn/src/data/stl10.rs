//! STL-10 in its binary version: images of 27,648 bytes (the red plane, then green, then blue, each
//! column by column) in one file, labels 1 to 10 in another. The unlabelled images are not used.

use std::io::Read;

use super::class_names::STL10 as CLASS_NAMES;
use super::files::{open_records, owned, transpose_planes};
use super::info::Request;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels};

const SIZE: usize = 96;
const SHAPE: [usize; 3] = [3, SIZE, SIZE];

pub(super) const STL10: DatasetInfo = DatasetInfo {
    name: "stl10",
    title: "STL-10 photographs",
    source: "A. Coates, H. Lee, A. Y. Ng (2011), from ImageNet; no licence stated",
    shape: Some(SHAPE),
    classes: &CLASS_NAMES,
    images: [5000, 8000],
    preprocessing: "half",
    folders: &["stl10_binary"],
    train_files: &["train_X.bin", "train_y.bin"],
    test_files: &["test_X.bin", "test_y.bin"],
    origin: Origin::Archive {
        name: "stl10_binary.tar.gz",
        url: "https://cs.stanford.edu/~acoates/stl10/",
    },
    load,
};

fn load(request: &Request<'_>) -> Result<Dataset, DataError> {
    let files = request.files()?;
    let (image_file, label_file) = (&files[0], &files[1]);
    let limit = request.published_images();
    let image = SHAPE.iter().product();
    let (mut images, count) = open_records(image_file, image, limit)?;
    let (mut labels, label_count) = open_records(label_file, 1, limit)?;
    if label_count != count {
        let problem = format!("{label_count} labels for {count} images");
        return Err(DataError::malformed(label_file, problem));
    }
    let mut bytes = vec![0; count];
    labels.read_exact(&mut bytes).map_err(DataError::io(label_file))?;
    if let Some(index) = bytes.iter().position(|label| !(1..=10).contains(label)) {
        let problem = format!("label {} of image {index}, expected 1 to 10", bytes[index]);
        return Err(DataError::malformed(label_file, problem));
    }
    let labels = bytes.iter().map(|&label| u16::from(label - 1)).collect();
    let mut pixels = vec![0; count * image];
    images.read_exact(&mut pixels).map_err(DataError::io(image_file))?;
    transpose_planes(&mut pixels, SIZE);
    let dataset =
        Dataset::new(request.name, SHAPE, Pixels::U8(pixels), labels, owned(&CLASS_NAMES))?;
    Ok(dataset.with_split(request.split))
}
