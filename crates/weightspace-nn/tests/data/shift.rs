//! Shifted data sets: corruptions of images, subsets of the classes, and other sizes.

use std::fs;

use weightspace_nn::arch;
use weightspace_nn::data::{self, CORRUPTIONS, Dataset, Pixels, Shift, ShiftError, Split};

fn shift(text: &str) -> Shift {
    text.parse().unwrap()
}

fn dataset(shape: [usize; 3], pixels: Pixels) -> Dataset {
    let count = pixels.len() / shape.iter().product::<usize>();
    let labels = (0..count).map(|index| index as u16 % 3).collect();
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    Dataset::new("mine", shape, pixels, labels, names).unwrap()
}

fn bytes(dataset: &Dataset) -> &[u8] {
    match dataset.pixels() {
        Pixels::U8(bytes) => bytes,
        Pixels::F32(_) => panic!("{} holds bytes", dataset.name()),
    }
}

/// What becomes of one image.
fn corrupted(text: &str, shape: [usize; 3], pixels: &[u8]) -> Vec<u8> {
    let shifted = dataset(shape, Pixels::U8(pixels.to_vec())).shifted(&shift(text)).unwrap();
    bytes(&shifted).to_vec()
}

/// Coloured images of 32 x 32 pixels with edges, a ramp and some texture, each moved further on.
fn pictures(count: usize) -> Dataset {
    let pixel = |index: usize| {
        let (channel, image) = (index / 1024 % 3, index / 3072);
        let (column, row) = (index % 32 + image, index / 32 % 32 + 4 * image);
        let edge = if (column / 6 + row / 9) % 2 == 0 { 70 } else { 0 };
        let ramp = 3 * (index / 32 % 32) + index % 32;
        (ramp + edge + (index * 37 + index / 5) % 23 + 20 * channel) as u8
    };
    dataset([3, 32, 32], Pixels::U8((0..count * 3072).map(pixel).collect()))
}

#[test]
fn corruptions_of_tiny_images_are_known() {
    let row = |text, pixels: &[u8]| corrupted(text, [1, 1, pixels.len()], pixels);
    assert_eq!(row("contrast:1", &[0, 200]), [25, 175]);
    assert_eq!(row("motion-blur:2", &[30, 100, 200, 40]), [30, 53, 110, 113]);
    assert_eq!(row("pixelate:5", &[0, 10, 20, 40]), [5, 5, 30, 30]);
    assert_eq!(row("solarize:5", &[0, 10, 255]), [255, 245, 0]);
    // From 0.8 x 255 = 204 on.
    assert_eq!(row("solarize:1", &[203, 204]), [203, 51]);
    // Of the filter 0.3989, 0.2420, 0.0540, 0.0044, 0.0001.
    assert_eq!(row("gaussian-blur:5", &[0, 0, 0, 255, 0, 0, 0]), [1, 14, 62, 102, 62, 14, 1]);
    // The edge is continued.
    assert_eq!(row("gaussian-blur:5", &[90, 90, 90]), [90, 90, 90]);
    let colour = |text, pixel: [u8; 3]| corrupted(text, [3, 1, 1], &pixel);
    assert_eq!(colour("brightness:1", [100, 50, 0]), [113, 56, 0]);
    assert_eq!(colour("brightness:2", [0, 0, 0]), [26, 26, 26]);
    assert_eq!(colour("brightness:5", [250, 125, 0]), [255, 128, 0]);
    // 0.299 x 200 + 0.587 x 100 + 0.114 x 50 = 124.2
    assert_eq!(colour("greyscale:5", [200, 100, 50]), [124, 124, 124]);
    assert_eq!(colour("greyscale:3", [200, 100, 50]), [155, 115, 95]);
}

#[test]
fn bytes_of_another_scale_are_rounded_to_it() {
    let image = dataset([1, 1, 2], Pixels::U8(vec![0, 16])).with_scale(16.0);
    let shifted = image.shifted(&shift("contrast:2")).unwrap();
    assert_eq!((bytes(&shifted), shifted.scale()), ([4, 12].as_slice(), 16.0));
}

#[test]
fn real_numbers_are_corrupted_like_bytes() {
    let numbers: Vec<f32> = bytes(&pictures(2)).iter().map(|&b| f32::from(b) / 255.0).collect();
    let numbers = dataset([3, 32, 32], Pixels::F32(numbers));
    for corruption in &CORRUPTIONS {
        let shift = shift(corruption.name);
        let of_bytes = pictures(2).shifted(&shift).unwrap();
        let of_numbers = numbers.clone().shifted(&shift).unwrap();
        let Pixels::F32(found) = of_numbers.pixels() else { panic!("real numbers stay") };
        for (byte, number) in bytes(&of_bytes).iter().zip(found) {
            assert!((f32::from(*byte) - 255.0 * number).abs() < 0.501, "{}", corruption.name);
        }
    }
}

#[test]
fn rotation_turns_to_the_left_about_the_centre() {
    let mut pixels = vec![0; 81];
    (pixels[4 * 9 + 4], pixels[4 * 9 + 8]) = (255, 255);
    let turned = corrupted("rotate:5", [1, 9, 9], &pixels);
    assert_eq!(turned[4 * 9 + 4], 255);
    // 4 pixels to the right become 4 cos 30 = 3.5 to the right and 4 sin 30 = 2 up.
    assert!(turned[2 * 9 + 7] > 50 && turned[2 * 9 + 8] > 50, "{turned:?}");
    assert!(turned[4 * 9 + 8] == 0 && turned[6 * 9 + 7] == 0, "{turned:?}");
    let corners = corrupted("rotate:5", [1, 9, 9], &[255; 81]);
    assert_eq!([0, 8, 72, 80].map(|corner| corners[corner]), [0; 4]);
}

#[test]
fn noise_is_as_strong_as_stated() {
    let grey = |text| corrupted(text, [1, 200, 200], &[128; 40_000]);
    let deviation = |pixels: &[u8]| {
        let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / 4e4;
        (pixels.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / 4e4).sqrt() / 255.0
    };
    assert!((deviation(&grey("gaussian-noise:3")) - 0.08).abs() < 0.002);
    // Of a Poisson number of 128 / 255 x 100 = 50 events.
    assert!((deviation(&grey("shot-noise:3")) - 0.0709).abs() < 0.002);
    let impulses = grey("impulse-noise:5");
    let count = |value| impulses.iter().filter(|&&pixel| pixel == value).count();
    assert!((1250..1550).contains(&count(0)) && (1250..1550).contains(&count(255)));
    assert_eq!(count(0) + count(255) + count(128), 40_000);
}

#[test]
fn fog_is_smooth_and_brightens_nothing_beyond_the_brightest() {
    let foggy = corrupted("fog:3", [1, 64, 64], &[200; 4096]);
    // Noise from 0 to 0.75, times b / (b + 0.75) with b = 200 / 255.
    let (least, most) = (foggy.iter().min(), foggy.iter().max());
    assert_eq!((least, most), (Some(&102), Some(&200)));
    let steps: u32 = foggy.windows(2).map(|pair| u32::from(pair[0].abs_diff(pair[1]))).sum();
    assert!(steps < 8 * 4095, "{steps}");
    assert_eq!(corrupted("fog:3", [1, 2, 2], &[0; 4]), [0; 4]);
}

#[test]
fn severities_increase_the_distance_and_leave_the_rest() {
    let clean = pictures(18);
    for corruption in &CORRUPTIONS {
        let mut last = 0;
        for severity in 1..=5 {
            let text = format!("{}:{severity}", corruption.name);
            let shifted = clean.clone().with_split(Split::Test).shifted(&shift(&text)).unwrap();
            let pairs = bytes(&shifted).iter().zip(bytes(&clean));
            let distance: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            assert!(distance > last, "{text}: {distance} after {last}");
            last = distance;
            assert_eq!(shifted.name(), format!("mine+{text}"));
            assert_eq!((shifted.labels(), shifted.shape()), (clean.labels(), clean.shape()));
            assert_eq!(shifted.class_names(), clean.class_names());
            assert_eq!((shifted.split(), shifted.scale()), (Some(Split::Test), 255.0));
            assert_ne!(shifted.sha256(), clean.sha256());
        }
    }
}

#[test]
fn corruptions_are_the_same_everywhere() {
    let expected = [
        "b0541843", "463d36be", "d4c40819", "34a55c8e", "eada7f7a", "29fdf125", "df0ad736",
        "89bcebb7", "9557d814", "0a4ec4c6", "b0efd6d5", "b0731d5a",
    ];
    let found = CORRUPTIONS.each_ref().map(|corruption| {
        let hash = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let shifted = pool.install(|| pictures(40).shifted(&shift(corruption.name)));
            shifted.unwrap().sha256()[..8].to_owned()
        };
        let found = hash(1);
        assert_eq!(hash(5), found, "{}", corruption.name);
        found
    });
    assert_eq!(found, expected);
}

#[test]
fn an_image_is_damaged_by_split_and_index_alone() {
    for corruption in &CORRUPTIONS {
        let shift = shift(corruption.name);
        let [few, many] = [3, 30].map(|count| pictures(count).shifted(&shift).unwrap());
        assert_eq!(few.image(2), many.image(2), "{}", corruption.name);
    }
    let same = dataset([1, 4, 4], Pixels::U8(vec![100; 32]));
    let noisy = same.clone().shifted(&shift("gaussian-noise")).unwrap();
    assert_ne!(noisy.image(0), noisy.image(1));
    let test = same.with_split(Split::Test).shifted(&shift("gaussian-noise")).unwrap();
    assert!(
        [0, 1].map(|n| test.image(n)).iter().all(|i| ![0, 1].map(|n| noisy.image(n)).contains(i))
    );
}

#[test]
fn names_round_trip() {
    for corruption in &CORRUPTIONS {
        for severity in 1..=5 {
            let text = format!("{}:{severity}", corruption.name);
            assert_eq!(shift(&text).to_string(), text);
        }
        assert_eq!(shift(corruption.name), shift(&format!("{}:3", corruption.name)));
    }
    assert_eq!(shift("classes:5,0,3"), Shift::Classes(vec![0, 3, 5]));
    assert_eq!(shift("classes:5,0,3").to_string(), "classes:0,3,5");
}

#[test]
fn shifted_sets_open_by_name() {
    let open = |name, split| data::open(name, None, split).unwrap();
    for split in [Split::Train, Split::Test] {
        let clean = open("digits", split);
        let shifted = open("digits+contrast", split);
        assert_eq!(shifted.name(), "digits+contrast:3");
        assert_eq!(shifted.sha256(), clean.shifted(&shift("contrast:3")).unwrap().sha256());
    }
    assert_eq!(data::info("digits+fog:1").unwrap().name, "digits");
    assert_eq!(data::base_name("cifar10+fog:1").unwrap(), "cifar10");
    let published = |data| arch::default_preprocessing("resnet20", data);
    assert!(published("cifar10").is_some());
    assert_eq!(published("cifar10+fog"), published("cifar10"));
}

#[test]
fn a_subset_of_the_classes_keeps_labels_and_their_number() {
    let clean = data::open("digits", None, Split::Test).unwrap();
    let shifted = data::open("digits+classes:0,5", None, Split::Test).unwrap();
    assert_eq!(shifted.class_histogram(), [35, 0, 0, 0, 0, 37, 0, 0, 0, 0]);
    let kept = (0..clean.len()).filter(|&n| [0, 5].contains(&clean.labels()[n]));
    for (index, original) in kept.enumerate() {
        assert_eq!(shifted.image(index), clean.image(original));
        assert_eq!(shifted.labels()[index], clean.labels()[original]);
    }
    assert_ne!(shifted.sha256(), clean.sha256());
}

/// Pillow 13 gives these for `Image.resize((N, N), Image.BILINEAR)`; its sums are rounded differently.
#[test]
fn images_are_scaled_as_by_pillow() {
    let close = |side: usize, pixels: Vec<u8>, size: usize, expected: &[u8]| {
        let found = dataset([1, side, side], Pixels::U8(pixels));
        let found = found.shifted(&shift(&format!("size:{size}"))).unwrap();
        assert_eq!((found.shape(), found.name()), ([1, size, size], &*format!("mine+size:{size}")));
        let pairs = bytes(&found).iter().zip(expected);
        assert!(pairs.clone().all(|(a, b)| a.abs_diff(*b) <= 1), "{:?}", bytes(&found));
        assert_eq!(pairs.count(), size * size);
    };
    close(4, (0..16).map(|n| n * 16).collect(), 2, &[57, 83, 157, 183]);
    let larger = [0, 25, 75, 100, 50, 59, 76, 85, 150, 126, 79, 55, 200, 160, 80, 40];
    close(2, vec![0, 100, 200, 40], 4, &larger);
    // Real numbers are not cut off at 1 where full intensity is more, and not rounded.
    let pixels = Pixels::F32(vec![0.0, 0.5, 1.9, 1.0]);
    let real = dataset([1, 2, 2], pixels).with_scale(2.0).shifted(&shift("size:1")).unwrap();
    let Pixels::F32(mean) = real.pixels() else { panic!("integers") };
    assert!((mean[0] - 0.85).abs() < 1e-6, "{mean:?}");
    let digits = data::open("digits+size:16", None, Split::Test).unwrap();
    assert_eq!((digits.shape(), digits.len()), ([1, 16, 16], 360));
    for text in ["size:", "size:0", "size:x", "size:99999"] {
        let error = text.parse::<Shift>().unwrap_err().to_string();
        assert!(error.contains("expected a number from 1 to 1024"), "{error}");
    }
}

/// Pillow 13 and torchvision's sizes: `resize((9, 8))` of 9 x 8 pixels changes nothing, and `crop` begins at (1, 0): halves
/// of odd numbers go to the even one.
#[test]
fn the_middle_of_images_is_cut_out_as_by_torchvision() {
    let pixels: Vec<u8> = (0..72).collect();
    let wide = corrupted("crop:7", [1, 8, 9], &pixels);
    let expected: Vec<u8> =
        (0..7).flat_map(|row| (1..8).map(move |column| 9 * row + column)).collect();
    assert_eq!(wide, expected);
    // Of 20 x 40 pixels to crop:7 the shorter side is 8, the longer 16; a step between columns 19 and 20 stays in the middle.
    let halves: Vec<u8> = (0..800).map(|n| if n % 40 < 20 { 0 } else { 200 }).collect();
    let cut = corrupted("crop:7", [1, 20, 40], &halves);
    assert_eq!(cut.len(), 49);
    assert!(cut.chunks(7).all(|row| row[..3] == [0; 3] && row[5..] == [200; 2]), "{cut:?}");
    // A strip that nothing could hold when scaled.
    assert_eq!(corrupted("crop:1024", [1, 1, 8192], &[9; 8192]), [9; 1024 * 1024]);
}

#[test]
fn channels_are_repeated_or_become_their_luminance() {
    assert_eq!(corrupted("channels:3", [1, 1, 2], &[5, 9]), [5, 9, 5, 9, 5, 9]);
    assert_eq!(corrupted("channels:3", [3, 1, 1], &[5, 9, 7]), [5, 9, 7]);
    // 0.299 x 200 + 0.587 x 100 + 0.114 x 50 = 124.2
    assert_eq!(corrupted("channels:1", [3, 1, 2], &[200, 7, 100, 7, 50, 7]), [124, 7]);
    let real = dataset([3, 1, 1], Pixels::F32(vec![1.0, 0.5, 0.0])).shifted(&shift("channels:1"));
    let real = real.unwrap();
    let Pixels::F32(grey) = real.pixels() else { panic!("integers") };
    assert!((grey[0] - 0.5925).abs() < 1e-6);
    let error = dataset([2, 1, 1], Pixels::U8(vec![1, 2])).shifted(&shift("channels:3"));
    assert!(error.unwrap_err().to_string().ends_with("images of 2 channels"));
    for text in ["channels", "channels:", "channels:2"] {
        let error = text.parse::<Shift>().unwrap_err().to_string();
        assert!(error.ends_with("expected 1 or 3"), "{error}");
    }
}

#[test]
fn shifts_follow_each_other() {
    let name = "digits+size:16+channels:3+contrast:3";
    let found = data::open(name, None, Split::Test).unwrap();
    assert_eq!((found.name(), found.shape()), (name, [3, 16, 16]));
    let expected = data::open("digits", None, Split::Test).unwrap();
    let expected = ["size:16", "channels:3", "contrast:3"]
        .iter()
        .fold(expected, |dataset, text| dataset.shifted(&shift(text)).unwrap());
    assert_eq!(found.sha256(), expected.sha256());
    assert_eq!(data::base_name(name).unwrap(), "digits");
}

#[test]
fn what_is_no_shift_is_refused_in_one_line() {
    let refused = |name| data::open(name, None, Split::Test).unwrap_err().to_string();
    for name in ["digits+", "digits+nonsense", "digits+fog+mist", "digits++fog", "digits+Fog"] {
        let message = refused(name);
        assert!(message.starts_with(&format!("data set '{name}': unknown shift '")), "{message}");
        assert!(message.contains("known are gaussian-noise, "), "{message}");
        assert!(
            message.contains("rotate (each with :1 to :5), classes:N,..., size:N, "),
            "{message}"
        );
        assert_eq!(data::info(name).unwrap_err().to_string(), message);
    }
    for severity in ["", "0", "6", "-1", "x", "256", "3:3", " 3"] {
        let error = format!("fog:{severity}").parse::<Shift>().unwrap_err();
        assert!(matches!(&error, ShiftError::Severity { text, .. } if text == severity), "{error}");
        assert_eq!(error.to_string(), format!("severity '{severity}' of fog, expected 1 to 5"));
    }
    for list in ["classes", "classes:", "classes:1,1", "classes:,", "classes:x", "classes:70000"] {
        let error = list.parse::<Shift>().unwrap_err();
        assert!(matches!(error, ShiftError::Classes(_)), "{list}: {error}");
    }
    let message = refused("digits+classes:3,10");
    assert_eq!(message, "data set digits+classes:3,10: label 10 of 10 classes");
    let message = refused("digits+greyscale");
    let expected = "data set digits+greyscale:3: greyscale needs 3 channels, images have 1";
    assert_eq!(message, expected);
    assert!(refused("nonsense+fog").starts_with("unknown data set 'nonsense'"));
    let empty = dataset([1, 1, 1], Pixels::U8(vec![0])).shifted(&shift("classes:2"));
    let message = empty.unwrap_err().to_string();
    assert_eq!(message, "data set mine+classes:2: no image has one of these labels");
}

#[test]
fn a_path_may_contain_a_plus() {
    let root = tempfile::tempdir().unwrap();
    let class = root.path().join("c++/grey");
    fs::create_dir_all(&class).unwrap();
    image::GrayImage::from_pixel(2, 2, image::Luma([200])).save(class.join("a.png")).unwrap();
    let name = format!("folder:{}", root.path().join("c++").display());
    let open = |name: &str| data::open(name, None, Split::Train);
    assert_eq!(bytes(&open(&name).unwrap()), [200; 4]);
    assert_eq!(bytes(&open(&format!("{name}+solarize:5")).unwrap()), [55; 4]);
    assert!(open(&format!("{name}+solarize:6")).unwrap_err().to_string().contains("severity '6'"));
    assert!(open(&format!("{name}+nonsense")).is_err());
}
