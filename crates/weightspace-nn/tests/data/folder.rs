//! Folders of images.

use std::fs;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, RgbaImage};
use weightspace_nn::data::{self, Dataset, Image, Split};

use crate::readers::check_pixels;
use crate::tiny::pixel;

fn open(root: &Path, split: Split) -> Result<Dataset, String> {
    let result = data::open(&format!("folder:{}", root.display()), None, split);
    result.map_err(|error| error.to_string())
}

fn save(path: &Path, image: impl Into<DynamicImage>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

fn colour(n: usize, width: u32, height: u32) -> RgbImage {
    let value = |c, x: u32, y: u32| pixel(n, c, y as usize, x as usize);
    RgbImage::from_fn(width, height, |x, y| Rgb([0, 1, 2].map(|c| value(c, x, y))))
}

fn grey(n: usize, width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([pixel(n, 0, y as usize, x as usize)]))
}

#[test]
fn classes_and_images_are_in_order_of_their_names() {
    let root = tempfile::tempdir().unwrap();
    save(&root.path().join("cat/b.PNG"), colour(1, 5, 3));
    save(&root.path().join("cat/a.png"), colour(0, 5, 3));
    save(&root.path().join("dog/0.png"), colour(2, 5, 3));
    fs::create_dir(root.path().join("bird")).unwrap();
    fs::write(root.path().join("cat/notes.txt"), "no image").unwrap();
    fs::write(root.path().join("cat/.hidden.png"), "no image").unwrap();
    fs::create_dir(root.path().join(".git")).unwrap();
    let dataset = open(root.path(), Split::Train).unwrap();
    assert_eq!(dataset.shape(), [3, 3, 5]);
    assert_eq!(dataset.class_names(), ["bird", "cat", "dog"]);
    assert_eq!(dataset.labels(), [1, 1, 2]);
    assert_eq!(dataset.split(), None);
    check_pixels(&dataset);
    assert_eq!(open(root.path(), Split::Test).unwrap().sha256(), dataset.sha256());
}

#[test]
fn a_folder_is_grey_only_if_all_images_are() {
    let root = tempfile::tempdir().unwrap();
    save(&root.path().join("a/0.png"), grey(0, 4, 6));
    let deep = ImageBuffer::<Luma<u16>, _>::from_fn(4, 6, |x, y| {
        Luma([u16::from(pixel(1, 0, y as usize, x as usize)) * 257])
    });
    save(&root.path().join("a/1.png"), deep);
    let dataset = open(root.path(), Split::Test).unwrap();
    assert_eq!(dataset.shape(), [1, 6, 4]);
    check_pixels(&dataset);

    save(&root.path().join("a/2.png"), colour(2, 4, 6));
    let dataset = open(root.path(), Split::Test).unwrap();
    assert_eq!(dataset.shape(), [3, 6, 4]);
    let Image::U8(first) = dataset.image(0) else { panic!("folders are bytes") };
    assert_eq!(first[..24], first[24..48]);
    assert_eq!(first[23], pixel(0, 0, 5, 3));
}

#[test]
fn transparency_is_ignored_and_jpeg_is_read() {
    let root = tempfile::tempdir().unwrap();
    let transparent = RgbaImage::from_pixel(8, 8, image::Rgba([10, 200, 30, 0]));
    save(&root.path().join("a/0.png"), transparent);
    save(&root.path().join("a/1.jpeg"), RgbImage::from_pixel(8, 8, Rgb([120, 120, 120])));
    let dataset = open(root.path(), Split::Test).unwrap();
    let Image::U8(first) = dataset.image(0) else { panic!("folders are bytes") };
    assert_eq!([first[0], first[64], first[128]], [10, 200, 30]);
    let Image::U8(second) = dataset.image(1) else { panic!("folders are bytes") };
    assert!(second.iter().all(|value| value.abs_diff(120) <= 1));
}

#[test]
fn splits_have_folders_and_share_classes() {
    let root = tempfile::tempdir().unwrap();
    for (n, name) in ["train/a/0.png", "train/b/0.png", "train/c/0.png"].into_iter().enumerate() {
        save(&root.path().join(name), colour(n, 2, 2));
    }
    save(&root.path().join("val/c/0.png"), colour(0, 2, 2));
    let train = open(root.path(), Split::Train).unwrap();
    assert_eq!((train.labels(), train.split()), (&[0, 1, 2][..], Some(Split::Train)));
    let validation = open(root.path(), Split::Test).unwrap();
    assert_eq!((validation.labels(), validation.class_count()), (&[2][..], 3));
    save(&root.path().join("test/b/0.png"), colour(0, 2, 2));
    assert_eq!(open(root.path(), Split::Test).unwrap().labels(), [1]);
    save(&root.path().join("test/unknown/0.png"), colour(0, 2, 2));
    let message = open(root.path(), Split::Test).unwrap_err();
    let root = root.path().display();
    assert_eq!(message, format!("{root}/test/unknown: is no class of {root}/train"));
}

#[test]
fn a_class_may_be_called_train() {
    let root = tempfile::tempdir().unwrap();
    save(&root.path().join("train/0.png"), colour(0, 2, 2));
    save(&root.path().join("tram/0.png"), colour(1, 2, 2));
    assert_eq!(open(root.path(), Split::Train).unwrap().class_names(), ["train", "tram"]);
}

#[test]
fn broken_folders_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let shown = root.display();
    assert!(
        open(&root.join("none"), Split::Test).unwrap_err().starts_with(&format!("{shown}/none: "))
    );
    let message = open(root, Split::Test).unwrap_err();
    assert_eq!(message, format!("{shown}: has no sub-folders, expected one for each class"));
    fs::create_dir(root.join("train")).unwrap();
    let message = open(root, Split::Test).unwrap_err();
    assert_eq!(message, format!("{shown}: has no sub-folder test or val"));
    fs::create_dir(root.join("a")).unwrap();
    let message = open(root, Split::Test).unwrap_err();
    let expected = format!("{shown}: has no images in its sub-folders, one for each class (png, ");
    assert!(message.starts_with(&expected), "{message}");
    save(&root.join("a/0.png"), colour(0, 3, 4));
    save(&root.join("a/1.png"), colour(0, 4, 3));
    assert_eq!(
        open(root, Split::Test).unwrap_err(),
        format!(
            "{shown}/a/1.png: 4 x 3 pixels, expected 3 x 4 as in {shown}/a/0.png (the data FOLDER+crop:N or \
             FOLDER+size:N, before other shifts, is all images in N x N)"
        )
    );
}

#[test]
fn images_of_all_sizes_become_one_size() {
    let root = tempfile::tempdir().unwrap();
    let sizes = [(30, 20), (20, 30), (2100, 40), (16, 16)];
    for (n, (width, height)) in sizes.into_iter().enumerate() {
        save(&root.path().join(format!("a/{n}.png")), colour(n, width, height));
    }
    let name = format!("folder:{}", root.path().display());
    let whole = |n: usize, (width, height): (u32, u32)| {
        let alone = tempfile::tempdir().unwrap();
        save(&alone.path().join("a/0.png"), colour(n, width, height));
        open(alone.path(), Split::Test).unwrap()
    };
    for resize in ["crop:14", "size:12"] {
        let found = data::open(&format!("{name}+{resize}"), None, Split::Test).unwrap();
        assert_eq!(found.name(), format!("{name}+{resize}"));
        for (n, size) in sizes.into_iter().enumerate().filter(|(n, _)| *n != 2) {
            let expected = whole(n, size).shifted(&resize.parse().unwrap()).unwrap();
            assert_eq!(found.image(n), expected.image(0), "{n} {resize}");
        }
    }
    let first = data::open(&format!("{name}+classes:0+channels:1+size:12"), None, Split::Test);
    assert_eq!(first.unwrap().shape(), [1, 12, 12]);
    let message = data::open(&format!("{name}+fog+size:12"), None, Split::Test).unwrap_err();
    assert!(message.to_string().contains("20 x 30 pixels, expected 30 x 20"), "{message}");
    let grey = data::open(&format!("{name}+size:12+channels:1"), None, Split::Test).unwrap();
    assert_eq!(grey.shape(), [1, 12, 12]);
}

#[test]
fn folders_in_the_folder_of_a_class_are_read_and_lost_files_are_missed() {
    let root = tempfile::tempdir().unwrap();
    let places = ["a/0.png", "a/deep/down/1.webp", "b/x.png/2.bmp", "b/3.tiff"];
    for (n, place) in places.into_iter().enumerate() {
        save(&root.path().join(place), colour(n, 3, 2));
    }
    let found = open(root.path(), Split::Train).unwrap();
    assert_eq!((found.len(), found.labels()), (4, &[0, 0, 1, 1][..]));
    #[cfg(unix)]
    {
        let lost = root.path().join("b/4.png");
        std::os::unix::fs::symlink(root.path().join("nowhere.png"), &lost).unwrap();
        let message = open(root.path(), Split::Train).unwrap_err();
        assert_eq!(message, format!("{}: is no file, nor a link to one", lost.display()));
        fs::remove_file(&lost).unwrap();
        std::os::unix::fs::symlink(root.path().join("b"), root.path().join("b/round")).unwrap();
        let message = open(root.path(), Split::Train).unwrap_err();
        assert!(message.ends_with("more than 16 folders within each other"), "{message}");
    }
}

/// What is trained on the one must read the other.
#[test]
fn a_grey_split_is_coloured_where_another_is() {
    let root = tempfile::tempdir().unwrap();
    save(&root.path().join("train/a/0.png"), grey(0, 3, 2));
    save(&root.path().join("test/a/0.png"), grey(0, 3, 2));
    let shape = |split| open(root.path(), split).unwrap().shape();
    assert_eq!((shape(Split::Train), shape(Split::Test)), ([1, 2, 3], [1, 2, 3]));
    save(&root.path().join("test/a/1.png"), colour(1, 3, 2));
    assert_eq!((shape(Split::Train), shape(Split::Test)), ([3, 2, 3], [3, 2, 3]));
}

#[test]
fn a_path_may_look_like_a_shift_and_a_mistyped_shift_is_none() {
    let root = tempfile::tempdir().unwrap();
    let images = root.path().join("x+fog");
    save(&images.join("a/0.png"), colour(0, 8, 8));
    let name = format!("folder:{}", images.display());
    let found = data::open(&name, None, Split::Test).unwrap();
    assert_eq!((found.name(), found.shape()), (name.as_str(), [3, 8, 8]));
    let shifted = data::open(&format!("{name}+fog+size:4"), None, Split::Test).unwrap();
    assert_eq!((shifted.name(), shifted.shape()), (&*format!("{name}+fog:3+size:4"), [3, 4, 4]));
    let message = data::open(&format!("{name}+corp:4"), None, Split::Test).unwrap_err().to_string();
    assert!(message.contains("unknown shift 'corp:4'"), "{message}");
}

/// Decoders fill with grey what is missing, without a word.
#[test]
fn a_jpeg_that_is_cut_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("a/0.jpg");
    save(&file, colour(0, 64, 64));
    let intact = fs::read(&file).unwrap();
    for cut in [intact.len() / 2, intact.len() - 2] {
        fs::write(&file, &intact[..cut]).unwrap();
        let message = open(root.path(), Split::Test).unwrap_err();
        assert_eq!(message, format!("{}: the image ends too early", file.display()));
    }
    fs::write(&file, [&intact[..], b"what cameras put behind"].concat()).unwrap();
    assert_eq!(open(root.path(), Split::Test).unwrap().len(), 1);
}

#[test]
fn broken_images_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a/1.png");
    save(&file.with_file_name("0.png"), colour(0, 16, 16));
    save(&file, colour(1, 16, 16));
    let intact = fs::read(&file).unwrap();
    let check = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let message = open(directory.path(), Split::Test).unwrap_err();
        assert!(message.starts_with(file.to_str().unwrap()), "{message}");
        assert!(!message.contains('\n'), "{message}");
        message
    };
    for cut in [0, 4, 8, 20, 33, 50, intact.len() / 2] {
        check(&intact[..cut]);
    }
    check(b"plain text");
    // A header of 2^31 - 1 x 2^31 - 1 pixels, with its checksum.
    let mut huge = intact.clone();
    huge[16..24].copy_from_slice(&[0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF]);
    let mut crc = flate2::Crc::new();
    crc.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let message = check(&huge);
    assert!(message.contains("images of up to 2048 x 2048 are read"), "{message}");
}
