//! Every reader finds shape, labels and pixels where its format puts them.

use std::fs;
use std::path::Path;

use weightspace_nn::data::{self, Dataset, Image, Split};

use crate::tiny::{self, LABELS, pixel};

/// Checks shape and all pixels of the first images of a data set against [`pixel`].
pub fn check_pixels(dataset: &Dataset) {
    let [channels, height, width] = dataset.shape();
    for n in 0..dataset.len() {
        for c in 0..channels {
            for i in 0..height * width {
                let expected = pixel(n, c, i / width, i % width);
                let index = c * height * width + i;
                match dataset.image(n) {
                    Image::U8(pixels) => assert_eq!(pixels[index], expected),
                    Image::F32(pixels) => assert_eq!(pixels[index], f32::from(expected) / 255.0),
                }
            }
        }
    }
}

#[test]
fn tiny_files_of_every_format() {
    let directory = tempfile::tempdir().unwrap();
    tiny::write_all(directory.path());
    for info in tiny::file_datasets() {
        let mut hashes = Vec::new();
        for split in [Split::Train, Split::Test] {
            let dataset = data::open(info.name, Some(directory.path()), split).unwrap();
            assert_eq!(dataset.name(), info.name);
            assert_eq!(dataset.split(), Some(split));
            assert_eq!(Some(dataset.shape()), info.shape, "{}", info.name);
            assert_eq!(dataset.class_names(), info.classes);
            assert!(dataset.labels().iter().copied().eq(LABELS.map(u16::from)), "{}", info.name);
            check_pixels(&dataset);
            hashes.push(dataset.sha256().to_owned());
            let preprocessing: data::Preprocessing = info.preprocessing.parse().unwrap();
            assert!(preprocessing.output_shape(dataset.shape()).is_ok(), "{}", info.name);
        }
        // The content counts, not how it is compressed or spread over files.
        assert_eq!(hashes[0], hashes[1], "{}", info.name);
    }
}

#[test]
fn other_folder_names_are_found() {
    for info in tiny::file_datasets() {
        for folder in &info.folders[1..] {
            let directory = tempfile::tempdir().unwrap();
            for (path, bytes) in tiny::files(info, Split::Test) {
                let name = path.file_name().unwrap();
                tiny::write(&directory.path().join(folder).join(name), &bytes);
            }
            assert!(data::open(info.name, Some(directory.path()), Split::Test).is_ok(), "{folder}");
        }
    }
}

#[test]
fn svhn_as_scipy_writes_it() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/svhn");
    let bytes = fs::read(golden.join("test_32x32.mat")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    tiny::write(&directory.path().join("svhn/test_32x32.mat"), &bytes);
    let dataset = data::open("svhn", Some(directory.path()), Split::Test).unwrap();
    assert_eq!(dataset.labels(), [1, 0, 7]);
    check_pixels(&dataset);
}

#[test]
fn a_missing_file_says_what_to_put_where() {
    let directory = Path::new("no/such/directory");
    let message = |name, split| data::open(name, Some(directory), split).unwrap_err().to_string();
    assert_eq!(
        message("cifar10", Split::Test),
        "cifar10: no/such/directory/cifar-10-batches-bin/test_batch.bin not found; unpack \
         cifar-10-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html) into \
         no/such/directory, or set --data-dir / WEIGHTSPACE_DATA"
    );
    assert_eq!(
        message("mnist", Split::Train),
        "mnist: no/such/directory/mnist/train-images-idx3-ubyte.gz not found; put \
         train-images-idx3-ubyte.gz (https://ossci-datasets.s3.amazonaws.com/mnist/) into \
         no/such/directory/mnist, or set --data-dir / WEIGHTSPACE_DATA"
    );
    assert_eq!(
        message("usps", Split::Test),
        "usps: no/such/directory/usps/usps-test-images-idx3-float.gz not found; put \
         usps-test-images-idx3-float.gz (idx, with images as big-endian f32 in [0, 1], made from \
         https://hastie.su.domains/ElemStatLearn/data.html) into no/such/directory/usps, or set \
         --data-dir / WEIGHTSPACE_DATA"
    );
    assert_eq!(
        data::open("stl10", None, Split::Test).unwrap_err().to_string(),
        "stl10 is read from files: unpack stl10_binary.tar.gz \
         (https://cs.stanford.edu/~acoates/stl10/) into a directory, and name that directory with \
         --data-dir or WEIGHTSPACE_DATA"
    );
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    for name in ["imagenet", "", "folder", "folder:", "Digits"] {
        let message = data::open(name, None, Split::Test).unwrap_err().to_string();
        assert_eq!(
            message,
            format!(
                "unknown data set '{name}'; known are digits, mnist, fashion-mnist, usps, cifar10, \
                 cifar100, stl10, svhn, folder:PATH"
            )
        );
    }
}
