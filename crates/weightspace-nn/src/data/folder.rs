//! A folder of images: one sub-folder per class, named after it, with PNG or JPEG files.
//!
//! `PATH/train`, `PATH/test` and `PATH/val` may separate the splits (`val` serves for testing where
//! there is no `test`); otherwise the whole folder is both the training and the test split, and
//! [`Dataset::split`] is `None`. Classes and images are in order of their names, hidden files and
//! files with other endings than png, jpg and jpeg are ignored.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use rayon::prelude::*;

use super::info::Request;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels, Split};

/// Largest height and width of an image.
const LARGEST_SIDE: u32 = 2048;
/// Memory that the decoder of one image may use.
const DECODER_BYTES: u64 = 64 << 20;
/// Bytes of pixels that a data set may have.
const LARGEST_SET: u64 = 8 << 30;
/// Decoded pixels that may wait to be appended to the data set.
const BATCH_BYTES: usize = 32 << 20;

pub(super) const FOLDER: DatasetInfo = DatasetInfo {
    name: "folder:PATH",
    title: "A folder with one sub-folder of PNG or JPEG images per class",
    source: "your own",
    shape: None,
    classes: &[],
    images: [0, 0],
    preprocessing: "half",
    folders: &[],
    train_files: &[],
    test_files: &[],
    origin: Origin::None,
    load,
};

fn load(request: &Request<'_>) -> Result<Dataset, DataError> {
    let root = Path::new(request.name.strip_prefix("folder:").unwrap_or(request.name));
    let (folder, split) = split_folder(root, request.split)?;
    let class_names = class_names(root, &folder)?;
    let files = list_images(&folder, &class_names)?;
    let shape = common_shape(&folder, &files)?;
    let pixels = read_pixels(&folder, &files, shape)?;
    let labels = files.iter().map(|file| file.label).collect();
    let dataset = Dataset::new(request.name, shape, Pixels::U8(pixels), labels, class_names)?;
    Ok(match split {
        Some(split) => dataset.with_split(split),
        None => dataset,
    })
}

struct ImageFile {
    path: PathBuf,
    label: u16,
}

/// The folder that holds the classes, and the split that it is.
fn split_folder(root: &Path, split: Split) -> Result<(PathBuf, Option<Split>), DataError> {
    let folders = entries(root, Path::is_dir)?;
    if folders.is_empty() {
        return Err(DataError::malformed(root, "has no sub-folders, expected one for each class"));
    }
    // A class may be called "train": only if nothing else is there, the names mean splits.
    if !folders.iter().all(|name| name == "train" || name == "test" || name == "val") {
        return Ok((root.to_owned(), None));
    }
    let names: &[&str] = match split {
        Split::Train => &["train"],
        Split::Test => &["test", "val"],
    };
    match names.iter().find(|&&name| folders.iter().any(|folder| folder == name)) {
        Some(name) => Ok((root.join(name), Some(split))),
        None => {
            Err(DataError::malformed(root, format!("has no sub-folder {}", names.join(" or "))))
        }
    }
}

/// Names of the classes. Those of the training split count where there is one, so that labels mean
/// the same in both.
fn class_names(root: &Path, folder: &Path) -> Result<Vec<String>, DataError> {
    let train = root.join("train");
    let is_split = folder != root && train.is_dir();
    let classes = entries(if is_split { &train } else { folder }, Path::is_dir)?;
    if let Some(name) = entries(folder, Path::is_dir)?.iter().find(|name| !classes.contains(name)) {
        let problem = format!("is no class of {}", train.display());
        return Err(DataError::malformed(&folder.join(name), problem));
    }
    if classes.len() > usize::from(u16::MAX) {
        return Err(DataError::malformed(
            folder,
            format!("{} classes are too many", classes.len()),
        ));
    }
    let text = |name: OsString| {
        name.into_string().map_err(|name| {
            DataError::malformed(&folder.join(name), "the name of the class is not UTF-8")
        })
    };
    classes.into_iter().map(text).collect()
}

fn list_images(folder: &Path, class_names: &[String]) -> Result<Vec<ImageFile>, DataError> {
    let is_image = |path: &Path| {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        ["png", "jpg", "jpeg"].iter().any(|&known| ending == known) && path.is_file()
    };
    let mut files = Vec::new();
    for (label, name) in class_names.iter().enumerate() {
        let class = folder.join(name);
        if !class.is_dir() {
            continue;
        }
        let names = entries(&class, is_image)?.into_iter();
        files.extend(names.map(|file| ImageFile { path: class.join(file), label: label as u16 }));
    }
    if files.is_empty() {
        return Err(DataError::malformed(
            folder,
            "has no png, jpg or jpeg files in its sub-folders",
        ));
    }
    Ok(files)
}

/// Names in a folder for whose paths `accept` holds, sorted, without hidden ones.
fn entries(folder: &Path, accept: impl Fn(&Path) -> bool) -> Result<Vec<OsString>, DataError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && accept(&entry.path()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Shape of all images from their headers; one channel if all are grey.
fn common_shape(folder: &Path, files: &[ImageFile]) -> Result<[usize; 3], DataError> {
    let headers: Vec<_> = files.par_iter().map(|file| read_header(&file.path)).collect();
    let mut size = None;
    let mut is_grey = true;
    for (file, header) in files.iter().zip(headers) {
        let ([width, height], grey) = header?;
        is_grey &= grey;
        let [expected_width, expected_height] = *size.get_or_insert([width, height]);
        if [width, height] != [expected_width, expected_height] {
            let problem = format!(
                "{width} x {height} pixels, expected {expected_width} x {expected_height} as in {}",
                files[0].path.display()
            );
            return Err(DataError::malformed(&file.path, problem));
        }
    }
    let [width, height] = size.unwrap_or_default();
    let shape = [if is_grey { 1 } else { 3 }, height as usize, width as usize];
    let bytes = shape.iter().try_fold(files.len() as u64, |total, &n| total.checked_mul(n as u64));
    match bytes {
        Some(1..=LARGEST_SET) => Ok(shape),
        _ => Err(DataError::malformed(
            folder,
            format!("{} images of {width} x {height} are more than 8 GiB", files.len()),
        )),
    }
}

/// Width and height, and whether the image is grey.
fn read_header(path: &Path) -> Result<([u32; 2], bool), DataError> {
    let decoder = open_image(path)?.into_decoder().map_err(|error| undecodable(path, &error))?;
    let (width, height) = decoder.dimensions();
    Ok(([width, height], !decoder.color_type().has_color()))
}

/// Decodes all images, in parallel; planes of a colour image follow each other.
fn read_pixels(
    folder: &Path,
    files: &[ImageFile],
    shape: [usize; 3],
) -> Result<Vec<u8>, DataError> {
    let size = shape.iter().product::<usize>();
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(files.len() * size)
        .map_err(|error| DataError::malformed(folder, error.to_string()))?;
    for batch in files.chunks((BATCH_BYTES / size).max(1)) {
        let images: Vec<_> = batch.par_iter().map(|file| decode(&file.path, shape)).collect();
        for image in images {
            pixels.extend(image?);
        }
    }
    Ok(pixels)
}

fn decode(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
    let image = open_image(path)?.decode().map_err(|error| undecodable(path, &error))?;
    let [channels, height, width] = shape;
    if [image.width() as usize, image.height() as usize] != [width, height] {
        return Err(DataError::malformed(path, "changed while it was read"));
    }
    if channels == 1 {
        return Ok(image.into_luma8().into_raw());
    }
    Ok(planes(image))
}

/// The red plane, then green, then blue. Transparency is ignored.
fn planes(image: DynamicImage) -> Vec<u8> {
    let interleaved = image.into_rgb8().into_raw();
    let (colours, _) = interleaved.as_chunks::<3>();
    (0..3).flat_map(|channel| colours.iter().map(move |colour| colour[channel])).collect()
}

fn open_image(path: &Path) -> Result<ImageReader<std::io::BufReader<fs::File>>, DataError> {
    let reader = ImageReader::open(path).map_err(DataError::io(path))?;
    let mut reader = reader.with_guessed_format().map_err(DataError::io(path))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(DECODER_BYTES);
    reader.limits(limits);
    Ok(reader)
}

fn undecodable(path: &Path, error: &ImageError) -> DataError {
    let problem = match error {
        ImageError::Limits(_) => {
            format!("{error} (images of up to {LARGEST_SIDE} x {LARGEST_SIDE} are read)")
        }
        _ => error.to_string(),
    };
    DataError::malformed(path, problem.replace('\n', " "))
}
