//! MNIST and the sets that share its files.

use super::class_names::{DIGITS, FASHION};
use super::files::{Source, owned};
use super::idx::{self, Element};
use super::info::Request;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels};

const TRAIN_FILES: [&str; 2] = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"];
const TEST_FILES: [&str; 2] = ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"];

pub(super) const MNIST: DatasetInfo = DatasetInfo {
    name: "mnist",
    title: "MNIST handwritten digits",
    source: "Y. LeCun, C. Cortes, C. J. C. Burges (1998); no licence stated",
    shape: Some([1, 28, 28]),
    classes: &DIGITS,
    images: [60_000, 10_000],
    preprocessing: "mnist",
    folders: &["mnist", "MNIST/raw"],
    train_files: &TRAIN_FILES,
    test_files: &TEST_FILES,
    origin: Origin::Files { url: "https://ossci-datasets.s3.amazonaws.com/mnist/" },
    load,
};

pub(super) const FASHION_MNIST: DatasetInfo = DatasetInfo {
    name: "fashion-mnist",
    title: "Fashion-MNIST articles of clothing",
    source: "H. Xiao, K. Rasul, R. Vollgraf (Zalando SE, 2017); MIT",
    shape: Some([1, 28, 28]),
    classes: &FASHION,
    images: [60_000, 10_000],
    preprocessing: "fashion-mnist",
    folders: &["fashion-mnist", "fashion_mnist", "FashionMNIST/raw"],
    train_files: &TRAIN_FILES,
    test_files: &TEST_FILES,
    origin: Origin::Files { url: "https://github.com/zalandoresearch/fashion-mnist" },
    load,
};

fn load(request: &Request<'_>) -> Result<Dataset, DataError> {
    let files = request.files()?;
    let (mut images, mut labels) = (Source::open(&files[0])?, Source::open(&files[1])?);
    let limit = request.published_images();
    let pixels = idx::read_images(&mut images, Element::U8, [28, 28], limit)?;
    let classes = request.info.classes;
    let labels = idx::read_labels(&mut labels, pixels.len() / (28 * 28), classes.len())?;
    let dataset =
        Dataset::new(request.name, [1, 28, 28], Pixels::U8(pixels), labels, owned(classes))?;
    Ok(dataset.with_split(request.split))
}
