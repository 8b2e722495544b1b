//! The published files, where `WEIGHTSPACE_DATA` has them.

use std::path::PathBuf;

use weightspace_nn::data::{self, DataError, Dataset, Image, Split};

/// The data set, or `None` where there is no data or no such folder.
fn open(name: &str, split: Split) -> Option<Dataset> {
    let directory = std::env::var_os("WEIGHTSPACE_DATA").filter(|folder| !folder.is_empty())?;
    let directory = PathBuf::from(directory);
    match data::open(name, Some(&directory), split) {
        Err(DataError::Missing { .. }) => None,
        result => Some(result.unwrap()),
    }
}

fn bytes(dataset: &Dataset, index: usize) -> &[u8] {
    match dataset.image(index) {
        Image::U8(pixels) => pixels,
        Image::F32(_) => panic!("{} holds bytes", dataset.name()),
    }
}

fn sum(dataset: &Dataset) -> u64 {
    (0..dataset.len()).flat_map(|n| bytes(dataset, n)).map(|&pixel| u64::from(pixel)).sum()
}

// The expected numbers of all these tests are NumPy's on the same files.

#[test]
fn cifar10() {
    let (Some(train), Some(test)) = (open("cifar10", Split::Train), open("cifar10", Split::Test))
    else {
        return;
    };
    assert_eq!(train.class_histogram(), [5000; 10]);
    assert_eq!(test.class_histogram(), [1000; 10]);
    assert_eq!(test.labels()[..8], [3, 8, 8, 0, 6, 6, 1, 6]);
    assert_eq!(test.class_names()[3], "cat");
    let (first, last) = (bytes(&test, 0), bytes(&test, 9999));
    let (green, blue) = (1024, 2048);
    assert_eq!(first[..3], [158, 159, 165]);
    assert_eq!(first[green..green + 3], [112, 111, 116]);
    assert_eq!(first[blue..blue + 3], [49, 47, 51]);
    assert_eq!(last[blue + 1021..], [94, 58, 26]);
    let pixel = 5 * 32 + 7;
    let second_file = bytes(&train, 10_000);
    assert_eq!([0, green, blue].map(|plane| second_file[plane + pixel]), [58, 48, 44]);
    assert_eq!((sum(&train), sum(&test)), (18_540_682_003, 3_733_375_634));
}

#[test]
fn mnist() {
    let (Some(train), Some(test)) = (open("mnist", Split::Train), open("mnist", Split::Test))
    else {
        return;
    };
    assert_eq!((train.len(), test.len()), (60_000, 10_000));
    let histogram = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949];
    assert_eq!(train.class_histogram(), histogram);
    let histogram = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009];
    assert_eq!(test.class_histogram(), histogram);
    assert_eq!(train.labels()[..8], [5, 0, 4, 1, 9, 2, 1, 3]);
    assert_eq!(bytes(&train, 0)[7 * 28 + 5..7 * 28 + 12], [0, 0, 49, 238, 253, 253, 253]);
    assert_eq!((sum(&train), sum(&test)), (1_567_298_545, 264_923_200));
}

#[test]
fn usps() {
    let (Some(train), Some(test)) = (open("usps", Split::Train), open("usps", Split::Test)) else {
        return;
    };
    let histogram = [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644];
    assert_eq!(train.class_histogram(), histogram);
    let histogram = [359, 264, 198, 166, 200, 160, 170, 147, 166, 177];
    assert_eq!(test.class_histogram(), histogram);
    let Image::F32(first) = train.image(0) else { panic!("USPS holds real numbers") };
    assert_eq!(first[7..10], [0.184_500_01, 0.931, 0.416_5]);
    let Image::F32(last) = train.image(7290) else { panic!("USPS holds real numbers") };
    assert_eq!(last[8 * 16 + 4..8 * 16 + 9], [0.0, 0.8095, 1.0, 1.0, 1.0]);
    let sum: f64 = (0..test.len())
        .flat_map(|n| match test.image(n) {
            Image::F32(pixels) => pixels.iter().map(|&pixel| f64::from(pixel)),
            Image::U8(_) => panic!("USPS holds real numbers"),
        })
        .sum();
    assert!((sum - 137_495.421_028).abs() < 1e-5);
}
