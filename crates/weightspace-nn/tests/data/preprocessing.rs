//! Preprocessing: PyTorch's arithmetic, padding, and names.

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use weightspace_nn::data::{Dataset, PRESETS, Pixels, Preprocessing};

fn parse(text: &str) -> Preprocessing {
    text.parse().unwrap()
}

/// One image whose every channel holds the bytes 0 to 255.
fn all_bytes(channels: usize) -> Dataset {
    let pixels = (0..channels).flat_map(|_| 0..=255).collect();
    let names = vec!["only".to_owned()];
    Dataset::new("bytes", [channels, 16, 16], Pixels::U8(pixels), vec![0], names).unwrap()
}

/// The hashes are of PyTorch 2.15: `x.to(float32).div(255).sub_(mean).div_(std)` as little-endian
/// f32.
#[test]
fn results_are_bit_identical_to_pytorch() {
    let expected = [
        ("unit", "010413efe9fc4438fee48de66c4d09f377b28af6a9fe2522201e8c1dbb831fc8"),
        ("half", "d15e8ce72284446496a6de66e8a4795818530b44cd2c3dd415077364535c3c1a"),
        ("imagenet", "1d8b9af12b7b391827f7c801265239e21435c7e29b4d78c6189a35e437633897"),
        ("cifar10", "9e58fd8280aea6af5045cfdd44d0f3d8fe5f24a3eff94131f585cde21b6c2508"),
        ("cifar100", "b1add60c179501673583352ee44d3d1d43cccf0772ee91d6e53c78da533a4d33"),
        ("mnist", "0103dbab6b16bfcaea0aa75d7377b4b22bb6792081600921bee4a17ff9c4d33e"),
        ("fashion-mnist", "897c26057ea3a3d3b3806b3c7f76a0d02f6d9bde09d1b5335f3f9f91fde2728d"),
    ];
    assert!(PRESETS.iter().map(|preset| preset.name).eq(expected.map(|(name, _)| name)));
    for (name, expected) in expected {
        let preprocessing = parse(name);
        let channels = preprocessing.mean().len();
        let mut out = vec![0.0; channels * 256];
        all_bytes(channels).write_normalised(0, &preprocessing, &mut out).unwrap();
        let mut hasher = Sha256::new();
        out.iter().for_each(|value| hasher.update(value.to_le_bytes()));
        let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected, "{name}");
    }
}

#[test]
fn one_value_serves_all_channels() {
    let mut out = vec![0.0; 3 * 256];
    all_bytes(3).write_normalised(0, &parse("half"), &mut out).unwrap();
    assert_eq!(out[..256], out[512..]);
    assert_eq!((out[0], out[255]), (-1.0, 1.0));
}

#[test]
fn padding_is_black_around_the_image() {
    let pixels = Pixels::U8(vec![255, 51, 102, 153, 204, 255]);
    let dataset = Dataset::new("one", [1, 2, 3], pixels, vec![0], vec!["only".into()]).unwrap();
    let mut out = [9.0; 36];
    dataset.fill(&[0], &parse("unit-pad6"), &mut out).unwrap();
    let mut expected = [0.0; 36];
    expected[2 * 6 + 1..2 * 6 + 4].copy_from_slice(&[1.0, 0.2, 0.4]);
    expected[3 * 6 + 1..3 * 6 + 4].copy_from_slice(&[0.6, 0.8, 1.0]);
    assert_eq!(out, expected);
    // Black is a pixel like any other: it is normalised.
    dataset.fill(&[0], &parse("half-pad6"), &mut out).unwrap();
    assert_eq!((out[0], out[13]), (-1.0, 1.0));
    // Padding to the width alone.
    let mut out = [9.0; 9];
    dataset.fill(&[0], &parse("unit-pad3"), &mut out).unwrap();
    assert_eq!(out, [1.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn batches_follow_their_indices() {
    let pixels = Pixels::U8(vec![0, 51, 102, 153, 204, 255]);
    let names = vec!["only".to_owned()];
    let dataset = Dataset::new("three", [2, 1, 1], pixels, vec![0; 3], names).unwrap();
    let mut out = [9.0; 8];
    dataset.fill(&[2, 0, 1, 2], &Preprocessing::unit(), &mut out).unwrap();
    assert_eq!(out, [0.8, 1.0, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
}

#[test]
fn what_does_not_fit_the_images_is_refused() {
    let message = |text: &str, shape| parse(text).output_shape(shape).unwrap_err().to_string();
    assert_eq!(
        message("imagenet", [1, 28, 28]),
        "preprocessing 'imagenet' is for 3 channels, the images have 1; the data NAME+channels:3 is \
         the same in three equal channels"
    );
    assert_eq!(
        message("unit-pad27", [1, 20, 28]),
        "preprocessing 'unit-pad27' pads to a smaller size than the images' 20 x 28"
    );
    assert_eq!(parse("mnist-pad32").output_shape([1, 28, 28]), Ok([1, 32, 32]));
    let mut untouched = [9.0; 256];
    assert!(all_bytes(1).fill(&[0], &parse("cifar10"), &mut untouched).is_err());
    assert_eq!(untouched, [9.0; 256]);
}

#[test]
fn texts_that_mean_nothing_are_refused() {
    let message = |text: &str| text.parse::<Preprocessing>().unwrap_err().to_string();
    assert_eq!(
        message("cifar"),
        "unknown preprocessing 'cifar'; known are unit, half, imagenet, cifar10, cifar100, mnist, \
         fashion-mnist, each also with -padN, and mean=..,std=..[,pad=N]"
    );
    let problems = [
        ("unit-pad0", "'0' is not a size to pad to, a number from 1 to 4096"),
        ("unit-pad4097", "'4097' is not a size to pad to, a number from 1 to 4096"),
        ("unit-pad-1", "'-1' is not a size to pad to, a number from 1 to 4096"),
        ("mean=0.5", "std=.. is missing"),
        ("std=0.5", "mean=.. is missing"),
        ("mean=0,mean=0,std=1", "mean is given twice"),
        ("mean=0,std=1,pad=3,pad=3", "pad is given twice"),
        ("mean=0,std=1,pad=3,4", "'4' follows no mean= or std="),
        ("0.5,mean=0,std=1", "'0.5' follows no mean= or std="),
        ("mean=0,x,std=1", "'x' is not a number"),
        ("mean=0,std=", "'' is not a number"),
        ("mean=0,0,std=1", "2 means and 1 standard deviations, expected as many of both"),
        ("mean=0,std=0", "standard deviation 0 is not positive"),
        ("mean=0,std=-1", "standard deviation -1 is not positive"),
        ("mean=0,std=NaN", "standard deviation NaN is not positive"),
        ("mean=inf,std=1", "mean inf is not finite"),
        ("mean=0,std=1,size=3", "'size' is none of mean, std and pad"),
    ];
    for (text, problem) in problems {
        assert_eq!(message(text), format!("preprocessing '{text}': {problem}"));
    }
}

#[test]
fn names_come_back() {
    for preset in PRESETS {
        assert_eq!(parse(preset.name).to_string(), preset.name);
        let padded = format!("{}-pad32", preset.name);
        assert_eq!(parse(&padded).to_string(), padded);
        assert_eq!(parse(&padded).pad(), Some(32));
    }
    assert_eq!(parse("none").to_string(), "unit");
    assert_eq!(parse("none-pad40").to_string(), "unit-pad40");
    let cifar10 = "mean=0.4914, 0.4822, 0.4465,std=0.247,0.2435,0.2616,pad=40";
    assert_eq!(parse(cifar10).to_string(), "cifar10-pad40");
}

proptest! {
    #[test]
    fn every_value_comes_back_from_its_text(
        channels in prop::collection::vec((-1e9f32..1e9, 1e-30f32..1e30), 1..5),
        pad in prop::option::of(1usize..=4096),
    ) {
        let (mean, std) = channels.into_iter().unzip();
        let preprocessing = Preprocessing::new(mean, std).unwrap();
        let preprocessing = pad.map_or(preprocessing.clone(), |size| preprocessing.with_pad(size));
        prop_assert_eq!(parse(&preprocessing.to_string()), preprocessing);
    }

    #[test]
    fn no_text_panics(text in "[a-z0-9=.,-]{0,40}|mean=[0-9,.e-]{0,9},std=[0-9,.e-]{0,9}") {
        if let Ok(preprocessing) = text.parse::<Preprocessing>() {
            prop_assert_eq!(parse(&preprocessing.to_string()), preprocessing);
        }
    }
}
