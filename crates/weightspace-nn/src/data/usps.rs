//! USPS: digits scanned from envelopes, as idx files of `f32` in [0, 1].
//!
//! The set is usually published with pixels in [-1, 1] and three decimals; idx files hold
//! (pixel + 1) / 2, that is 0 for the background and 1 for full ink in steps of 0.0005.

use super::class_names::DIGITS;
use super::files::{Source, owned};
use super::idx::{self, Element};
use super::info::Request;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels};

pub(super) const USPS: DatasetInfo = DatasetInfo {
    name: "usps",
    title: "USPS digits from envelopes",
    source: "J. J. Hull (1994); no licence stated",
    shape: Some([1, 16, 16]),
    classes: &DIGITS,
    images: [7291, 2007],
    preprocessing: "unit",
    folders: &["usps"],
    train_files: &["usps-train-images-idx3-float.gz", "usps-train-labels-idx1-ubyte.gz"],
    test_files: &["usps-test-images-idx3-float.gz", "usps-test-labels-idx1-ubyte.gz"],
    origin: Origin::Converted {
        format: "idx, with images as big-endian f32 in [0, 1]",
        url: "https://hastie.su.domains/ElemStatLearn/data.html",
    },
    load,
};

fn load(request: &Request<'_>) -> Result<Dataset, DataError> {
    let files = request.files()?;
    let (mut images, mut labels) = (Source::open(&files[0])?, Source::open(&files[1])?);
    let limit = request.published_images();
    let bytes = idx::read_images(&mut images, Element::F32, [16, 16], limit)?;
    let (values, _) = bytes.as_chunks::<4>();
    let pixels: Vec<f32> = values.iter().map(|&value| f32::from_be_bytes(value)).collect();
    if let Some(pixel) = pixels.iter().find(|pixel| !(0.0..=1.0).contains(*pixel)) {
        return Err(images.malformed(format!("pixel value {pixel}, expected 0 to 1")));
    }
    let classes = request.info.classes;
    let labels = idx::read_labels(&mut labels, pixels.len() / (16 * 16), classes.len())?;
    let dataset =
        Dataset::new(request.name, [1, 16, 16], Pixels::F32(pixels), labels, owned(classes))?;
    Ok(dataset.with_split(request.split))
}
