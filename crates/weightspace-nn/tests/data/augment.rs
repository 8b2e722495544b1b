//! Augmentation: what is drawn, where pixels go, and what it must not depend on.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::data::{Augmentation, Dataset, Pixels, Preprocessing, View};

const SHAPE: [usize; 3] = [2, 5, 4];

fn dataset(count: usize, integers: bool) -> Dataset {
    let values = (0..count * SHAPE.iter().product::<usize>()).map(|i| (i * 37 % 251 + 1) as u8);
    let pixels = match integers {
        true => Pixels::U8(values.collect()),
        false => Pixels::F32(values.map(|value| f32::from(value) / 255.0).collect()),
    };
    Dataset::new("test", SHAPE, pixels, vec![0; count], vec!["only".into()]).unwrap()
}

/// A batch of images after preprocessing to `size` values each.
fn augmented(
    dataset: &Dataset,
    indices: &[usize],
    preprocessing: &Preprocessing,
    augmentation: &str,
    seed: u64,
    epoch: u32,
) -> Vec<f32> {
    let shape = preprocessing.output_shape(dataset.shape()).unwrap();
    let mut out = vec![f32::NAN; indices.len() * shape.iter().product::<usize>()];
    let augmentation = augmentation.parse().unwrap();
    let view = View { preprocessing, augmentation, seed, epoch };
    dataset.fill_augmented(indices, &view, &mut out).unwrap();
    out
}

/// Pixel by pixel: the padded image, seen through the crop and mirrored, then normalised.
fn expected(
    dataset: &Dataset,
    index: usize,
    preprocessing: &Preprocessing,
    augmentation: Augmentation,
    seed: u64,
    epoch: u32,
) -> Vec<f32> {
    let [channels, height, width] = preprocessing.output_shape(dataset.shape()).unwrap();
    let mut plain = vec![0.0; channels * height * width];
    dataset.write_normalised(index, preprocessing, &mut plain).unwrap();
    let key = Key::for_purpose(seed, "augmentation");
    let mut stream = Stream::new(key, (u64::from(epoch) << 32) + index as u64);
    let mut offset = || i64::from(stream.below(2 * augmentation.crop + 1));
    let (row, column) = (offset(), offset());
    let flip = augmentation.flip && stream.next_u32() >= 1 << 31;
    let crop = i64::from(augmentation.crop);
    let mut out = Vec::new();
    for c in 0..channels {
        let mean = preprocessing.mean()[c.min(preprocessing.mean().len() - 1)];
        let std = preprocessing.std()[c.min(preprocessing.std().len() - 1)];
        for y in 0..height as i64 {
            for x in 0..width as i64 {
                let x = if flip { width as i64 - 1 - x } else { x };
                let (y, x) = (y + row - crop, x + column - crop);
                let inside = (0..height as i64).contains(&y) && (0..width as i64).contains(&x);
                let pixel = || plain[(c * height + y as usize) * width + x as usize];
                out.push(if inside { pixel() } else { (0.0 - mean) / std });
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn pixels_go_where_crop_and_flip_say(
        crop in 0u32..9,
        flip: bool,
        integers: bool,
        preprocessing in prop::sample::select(&["unit", "half", "half-pad5", "half-pad8", "mean=0.3,0.4,std=0.2,0.7"]),
        seed: u64,
        epoch: u32,
    ) {
        let dataset = dataset(6, integers);
        let preprocessing = preprocessing.parse().unwrap();
        let augmentation = Augmentation { crop, flip };
        let indices = [4, 0, 5, 4];
        let found =
            augmented(&dataset, &indices, &preprocessing, &augmentation.to_string(), seed, epoch);
        let expected = indices
            .map(|i| expected(&dataset, i, &preprocessing, augmentation, seed, epoch))
            .concat();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn without_augmentation_nothing_changes() {
    for (integers, preprocessing) in [(true, "half"), (true, "unit-pad9"), (false, "mnist-pad6")] {
        let (dataset, preprocessing) = (dataset(3, integers), preprocessing.parse().unwrap());
        let found = augmented(&dataset, &[2, 0], &preprocessing, "none", 1, 2);
        let mut plain = vec![0.0; found.len()];
        dataset.fill(&[2, 0], &preprocessing, &mut plain).unwrap();
        assert_eq!(found, plain);
    }
}

#[test]
fn batches_and_threads_change_nothing() {
    let (dataset, unit) = (dataset(100, true), Preprocessing::unit());
    let indices: Vec<usize> = (0..100).rev().collect();
    let whole = augmented(&dataset, &indices, &unit, "crop2-flip", 5, 1);
    let singles = indices.iter().map(|&i| augmented(&dataset, &[i], &unit, "crop2-flip", 5, 1));
    assert_eq!(whole, singles.collect::<Vec<_>>().concat());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| augmented(&dataset, &indices, &unit, "crop2-flip", 5, 1));
        assert_eq!(found, whole, "{threads} threads");
    }
    assert_ne!(augmented(&dataset, &indices, &unit, "crop2-flip", 5, 2), whole);
    assert_ne!(augmented(&dataset, &indices, &unit, "crop2-flip", 6, 1), whole);
}

#[test]
fn every_crop_and_flip_is_equally_likely() {
    let pixels = Pixels::U8((1..=20).collect());
    let dataset = Dataset::new("one", [1, 5, 4], pixels, vec![0], vec!["only".into()]).unwrap();
    let mut counts = BTreeMap::new();
    for epoch in 0..18_000 {
        let found = augmented(&dataset, &[0], &Preprocessing::unit(), "crop1-flip", 3, epoch);
        let image: Vec<u8> = found.iter().map(|value| (value * 255.0).round() as u8).collect();
        *counts.entry(image).or_insert(0.0) += 1.0;
    }
    let chi_squared: f64 = counts.values().map(|c: &f64| (c - 1e3).powi(2) / 1e3).sum();
    // The 99.9 % quantile for 17 degrees of freedom.
    assert!(counts.len() == 18 && chi_squared < 40.8, "{} kinds, {chi_squared}", counts.len());
}

#[test]
fn preprocessing_that_does_not_fit_is_refused() {
    let (dataset, cifar) = (dataset(1, true), "cifar10".parse().unwrap());
    let augmentation = Augmentation::NONE;
    let view = View { preprocessing: &cifar, augmentation, seed: 0, epoch: 0 };
    let error = dataset.fill_augmented(&[0], &view, &mut []);
    assert!(error.unwrap_err().to_string().contains("is for 3 channels, the images have 2"));
}

#[test]
fn text_and_serialised_form_are_the_same() {
    for (text, crop, flip) in
        [("none", 0, false), ("flip", 0, true), ("crop4", 4, false), ("crop4-flip", 4, true)]
    {
        let augmentation = Augmentation { crop, flip };
        assert_eq!(text.parse(), Ok(augmentation));
        assert_eq!(augmentation.to_string(), text);
        let json = format!("\"{text}\"");
        assert_eq!(serde_json::to_string(&augmentation).unwrap(), json);
        assert_eq!(serde_json::from_str::<Augmentation>(&json).unwrap(), augmentation);
    }
    let wrong = ["", "crop", "crop0", "crop-4", "crop5000", "crop4-flip-flip", "none-flip", "turn"];
    for text in wrong {
        let error = text.parse::<Augmentation>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("unknown augmentation '{text}', expected")), "{error}");
    }
}
