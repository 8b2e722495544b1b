//! Broken files end in one clear line, quickly and in little memory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weightspace_nn::data::{self, DataError, Dataset, DatasetInfo, Split};

use crate::tiny;

const SPLITS: [Split; 2] = [Split::Train, Split::Test];

fn open(info: &DatasetInfo, directory: &Path, split: Split) -> Result<Dataset, DataError> {
    let start = Instant::now();
    let result = data::open(info.name, Some(directory), split);
    assert!(start.elapsed() < Duration::from_secs(60), "{} took too long", info.name);
    result
}

/// The message of an error, which must be one line that names a file of the data set.
fn message(result: Result<Dataset, DataError>, files: &[(PathBuf, Vec<u8>)]) -> String {
    let message = result.expect_err("must be refused").to_string();
    assert!(!message.contains('\n'), "{message}");
    let names = files.iter().map(|(path, _)| path.to_str().unwrap().trim_end_matches(".gz"));
    assert!(names.into_iter().any(|name| message.contains(name)), "{message}");
    message
}

/// Calls `check` for every file of every data set, in a directory where all files are intact.
fn for_every_file(check: impl Fn(&DatasetInfo, Split, &Path, &Path, &[u8])) {
    let directory = tempfile::tempdir().unwrap();
    tiny::write_all(directory.path());
    for info in tiny::file_datasets() {
        for split in SPLITS {
            for (path, bytes) in tiny::files(info, split) {
                let file = directory.path().join(path);
                check(info, split, directory.path(), &file, &bytes);
                tiny::write(&file, &bytes);
            }
        }
    }
}

#[test]
fn truncated_files_are_refused() {
    for_every_file(|info, split, directory, file, bytes| {
        let borders = [0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 127, 128, 136, 200];
        let cuts = borders.into_iter().chain([bytes.len() / 2, bytes.len() - 1]);
        for cut in cuts.filter(|&cut| cut < bytes.len()) {
            tiny::write(file, &bytes[..cut]);
            // A file of single-byte labels or whole records is wrong only beside its partner.
            message(open(info, directory, split), &tiny::files(info, split));
        }
    });
}

#[test]
fn longer_files_are_refused() {
    for_every_file(|info, split, directory, file, bytes| {
        let compressed = bytes.starts_with(&[0x1F, 0x8B]);
        // What follows a compressed stream or the matrices sought is not read.
        if !compressed && info.name != "svhn" {
            tiny::write(file, &[bytes, &[1]].concat());
            message(open(info, directory, split), &tiny::files(info, split));
        }
    });
}

#[test]
fn missing_files_are_named() {
    for_every_file(|info, split, directory, file, _| {
        std::fs::remove_file(file).unwrap();
        let error = open(info, directory, split).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }));
        message(Err(error), &tiny::files(info, split));
    });
}

#[test]
fn folders_in_place_of_files_are_refused() {
    for_every_file(|info, split, directory, file, _| {
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
        message(open(info, directory, split), &tiny::files(info, split));
        std::fs::remove_dir(file).unwrap();
    });
}

#[test]
fn flipped_bits_never_panic() {
    for_every_file(|info, split, directory, file, bytes| {
        let mut bytes = bytes.to_vec();
        for index in (0..bytes.len()).take(320) {
            for mask in [1, 0x80] {
                bytes[index] ^= mask;
                tiny::write(file, &bytes);
                if let Err(error) = open(info, directory, split) {
                    message(Err(error), &tiny::files(info, split));
                }
                bytes[index] ^= mask;
            }
        }
    });
}

/// Writes one file of an otherwise intact data set and returns the message without the directory.
fn refused(name: &str, split: Split, index: usize, bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let info = data::info(name).unwrap();
    let files = tiny::files(info, split);
    for (path, intact) in &files {
        tiny::write(&directory.path().join(path), intact);
    }
    tiny::write(&directory.path().join(&files[index].0), bytes);
    let message = message(open(info, directory.path(), split), &files);
    message.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn absurd_headers_are_refused() {
    let images = |bytes: &[u8]| refused("mnist", Split::Train, 0, bytes);
    assert_eq!(
        images(&tiny::idx(0x08, &[u32::MAX, 28, 28], &[])),
        "mnist/train-images-idx3-ubyte: 4294967295 images of 28 x 28, expected 1 to 60000 of 28 x 28"
    );
    assert_eq!(
        images(&tiny::idx(0x08, &[5, 1 << 31, 1 << 31], &[])),
        "mnist/train-images-idx3-ubyte: 5 images of 2147483648 x 2147483648, expected 1 to 60000 of 28 x 28"
    );
    assert_eq!(
        images(&tiny::idx(0x08, &[60_000, 28, 28], &[0; 10])),
        "mnist/train-images-idx3-ubyte: the file ends after 10 of 47040000 bytes of pixels"
    );
    assert_eq!(
        images(&tiny::idx(0x0D, &[5, 28, 28], &[0; 5 * 784 * 4])),
        "mnist/train-images-idx3-ubyte: begins with [00, 00, 0d, 03], expected [00, 00, 08, 03] (idx, 3 dimensions)"
    );
    assert!(images(&tiny::idx(0x08, &[0, 28, 28], &[])).contains(": 0 images"));
    let matrix = |dimensions: &[u32]| {
        let labels = tiny::matlab_matrix("y", dimensions, &[1; 8], false);
        refused("svhn", Split::Train, 0, &[tiny::matlab_header(), labels].concat())
    };
    let labels = matrix(&[u32::MAX, 1]);
    assert_eq!(labels, "svhn/train_32x32.mat: 4294967295 labels, expected 1 to 73257");
    assert_eq!(matrix(&[8, 1]), "svhn/train_32x32.mat: holds no matrix X");
    assert_eq!(
        matrix(&[9, 1]),
        "svhn/train_32x32.mat: 8 bytes of type 2 in a matrix of [9, 1], expected bytes (type 2)"
    );
    assert_eq!(matrix(&[2, 4]), "svhn/train_32x32.mat: y is [2, 4], expected [images, 1]");
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let labels = |labels: &[u8]| {
        let bytes = tiny::idx(0x08, &[labels.len() as u32], labels);
        refused("fashion-mnist", Split::Train, 1, &bytes)
    };
    let file = "fashion-mnist/train-labels-idx1-ubyte";
    assert_eq!(
        labels(&[0, 1, 10, 3, 4]),
        format!("{file}: label 10 of image 2, expected below 10")
    );
    assert_eq!(labels(&[0, 1, 2, 3]), format!("{file}: 4 labels for 5 images"));
    assert_eq!(
        refused("stl10", Split::Test, 1, &[1, 2, 0, 3, 4]),
        "stl10_binary/test_y.bin: label 0 of image 2, expected 1 to 10"
    );
    let record = [vec![100], vec![100], vec![0; 3072]].concat();
    assert_eq!(
        refused("cifar100", Split::Test, 0, &record),
        "cifar-100-binary/test.bin: label 100 of image 0, expected below 100"
    );
}

#[test]
fn pixels_outside_the_range_are_refused() {
    for value in [-1.0, 1.001, f32::NAN, f32::INFINITY] {
        let mut pixels = vec![0; 5 * 256 * 4];
        pixels[400..404].copy_from_slice(&value.to_be_bytes());
        let bytes = tiny::idx(0x0D, &[5, 16, 16], &pixels);
        assert_eq!(
            refused("usps", Split::Train, 0, &bytes),
            format!("usps/usps-train-images-idx3-float: pixel value {value}, expected 0 to 1")
        );
    }
}

#[test]
fn decompression_bombs_are_not_inflated() {
    let bomb = tiny::gzip(&tiny::idx(0x08, &[5, 28, 28], &vec![0; 100 << 20]));
    assert_eq!(
        refused("mnist", Split::Test, 0, &bomb),
        "mnist/t10k-images-idx3-ubyte.gz: the file is longer than its header says"
    );
    let name = "x".repeat(100 << 20);
    let bomb = tiny::matlab_matrix(&name, &[5, 1], &[1; 5], true);
    assert_eq!(
        refused("svhn", Split::Test, 0, &[tiny::matlab_header(), bomb].concat()),
        "svhn/test_32x32.mat: element of type 1 and 104857600 bytes, expected type 1 and up to 256 bytes"
    );
}

#[test]
fn a_file_larger_than_the_published_one_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    tiny::write_all(directory.path());
    let path = directory.path().join("cifar-10-batches-bin/test_batch.bin");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(3073 << 24).unwrap();
    let error = open(data::info("cifar10").unwrap(), directory.path(), Split::Test).unwrap_err();
    let expected = "51556384768 bytes, expected 1 to 10000 records of 3073 bytes";
    assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
}
