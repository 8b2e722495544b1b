//! CIFAR-10 and CIFAR-100 in their binary version: records of one or two label bytes and 3,072
//! pixels (the red plane, then green, then blue, each row by row).

use std::io::Read;

use super::class_names::{CIFAR10 as CIFAR10_CLASSES, CIFAR100 as CIFAR100_CLASSES};
use super::files::{open_records, owned};
use super::info::Request;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels};

const URL: &str = "https://www.cs.toronto.edu/~kriz/cifar.html";
const SOURCE: &str = "A. Krizhevsky (2009); no licence stated";
const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

pub(super) const CIFAR10: DatasetInfo = DatasetInfo {
    name: "cifar10",
    title: "CIFAR-10 photographs",
    source: SOURCE,
    shape: Some(SHAPE),
    classes: &CIFAR10_CLASSES,
    images: [50_000, 10_000],
    preprocessing: "cifar10",
    folders: &["cifar-10-batches-bin"],
    train_files: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test_files: &["test_batch.bin"],
    origin: Origin::Archive { name: "cifar-10-binary.tar.gz", url: URL },
    load: |request| load(request, 1),
};

pub(super) const CIFAR100: DatasetInfo = DatasetInfo {
    name: "cifar100",
    title: "CIFAR-100 photographs, fine classes",
    source: SOURCE,
    shape: Some(SHAPE),
    classes: &CIFAR100_CLASSES,
    images: [50_000, 10_000],
    preprocessing: "cifar100",
    folders: &["cifar-100-binary"],
    train_files: &["train.bin"],
    test_files: &["test.bin"],
    origin: Origin::Archive { name: "cifar-100-binary.tar.gz", url: URL },
    load: |request| load(request, 2),
};

/// Reads records that begin with `header` label bytes, of which the last is the class (in CIFAR-100
/// the fine class, after the coarse one).
fn load(request: &Request<'_>, header: usize) -> Result<Dataset, DataError> {
    let paths = request.files()?;
    let limit = request.published_images() / paths.len();
    let files = paths
        .iter()
        .map(|path| open_records(path, header + PIXELS, limit))
        .collect::<Result<Vec<_>, _>>()?;
    let total = files.iter().map(|(_, count)| count).sum::<usize>();
    let mut pixels = Vec::with_capacity(total * PIXELS);
    let mut labels = Vec::with_capacity(total);
    let classes = request.info.classes;
    let mut record = vec![0; header + PIXELS];
    for (path, (mut reader, count)) in paths.iter().zip(files) {
        for index in 0..count {
            reader.read_exact(&mut record).map_err(DataError::io(path))?;
            let label = record[header - 1];
            if label as usize >= classes.len() {
                let expected = classes.len();
                let problem = format!("label {label} of image {index}, expected below {expected}");
                return Err(DataError::malformed(path, problem));
            }
            labels.push(u16::from(label));
            pixels.extend_from_slice(&record[header..]);
        }
    }
    let dataset = Dataset::new(request.name, SHAPE, Pixels::U8(pixels), labels, owned(classes))?;
    Ok(dataset.with_split(request.split))
}
