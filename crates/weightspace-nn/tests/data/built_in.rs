//! The digits that need no files.

use sha2::{Digest, Sha256};
use weightspace_nn::data::{self, DataError, Dataset, Image, Pixels, Preprocessing, Split};

fn digits(split: Split) -> Dataset {
    data::open("digits", None, split).unwrap()
}

#[test]
fn all_digits_are_there() {
    let (train, test) = (digits(Split::Train), digits(Split::Test));
    assert_eq!((train.len(), test.len()), (1437, 360));
    assert_eq!(test.class_histogram(), [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]);
    let total: Vec<_> =
        train.class_histogram().iter().zip(test.class_histogram()).map(|(a, b)| a + b).collect();
    // As scikit-learn's load_digits counts them.
    assert_eq!(total, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    assert_eq!(train.labels()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    assert_eq!(train.shape(), [1, 8, 8]);
}

#[test]
fn the_first_digit_is_a_zero() {
    let train = digits(Split::Train);
    let Image::U8(zero) = train.image(0) else { panic!("digits are bytes") };
    assert_eq!(zero[..16], [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]);
    let mut image = [0.0; 64];
    train.write_normalised(0, &Preprocessing::unit(), &mut image).unwrap();
    assert_eq!(image[2..5], [0.3125, 0.8125, 0.5625]);
    let Pixels::U8(pixels) = train.pixels() else { panic!("digits are bytes") };
    assert_eq!(pixels.iter().max(), Some(&16));
}

#[test]
fn the_content_hash_is_what_the_documentation_says() {
    let dataset = Dataset::new(
        "two",
        [1, 1, 2],
        Pixels::F32(vec![0.5, 0.25, 1.0, 0.0]),
        vec![1, 0],
        vec!["a".into(), "b".into(), "c".into()],
    );
    let mut bytes = Vec::new();
    bytes.extend([2u64, 1, 1, 2, 3].iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(1f32.to_le_bytes());
    bytes.extend([1, 0, 0, 0]);
    bytes.extend([0.5f32, 0.25, 1.0, 0.0].iter().flat_map(|x| x.to_le_bytes()));
    let expected: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(dataset.unwrap().sha256(), expected);
}

#[test]
fn the_hash_depends_on_everything() {
    let make = |shape, label, pixel, classes: usize, scale| {
        let names = vec![String::new(); classes];
        let dataset = Dataset::new("", shape, Pixels::U8(vec![1, pixel]), vec![label], names);
        dataset.unwrap().with_scale(scale).sha256().to_owned()
    };
    let hashes = [
        make([1, 1, 2], 0, 2, 2, 255.0),
        make([1, 2, 1], 0, 2, 2, 255.0),
        make([1, 1, 2], 1, 2, 2, 255.0),
        make([1, 1, 2], 0, 3, 2, 255.0),
        make([1, 1, 2], 0, 2, 3, 255.0),
        make([1, 1, 2], 0, 2, 2, 16.0),
    ];
    let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let make = |shape, pixels: usize, label| {
        let names = vec!["only".to_owned()];
        let result = Dataset::new("mine", shape, Pixels::U8(vec![0; pixels]), vec![label], names);
        result.map_err(|error: DataError| error.to_string())
    };
    assert!(make([1, 2, 3], 6, 0).is_ok());
    let message = make([1, 2, 3], 5, 0).unwrap_err();
    assert_eq!(message, "data set mine: 5 pixel values are not 1 images of 1 x 2 x 3");
    assert_eq!(make([1, 2, 3], 6, 1).unwrap_err(), "data set mine: label 1 of 1 classes");
    assert!(make([0, 2, 3], 0, 0).is_err());
    assert!(make([usize::MAX, 2, 3], 6, 0).is_err());
}
