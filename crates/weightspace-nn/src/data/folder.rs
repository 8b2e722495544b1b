//! A folder of images: one sub-folder per class, named after it, with the images in it and in its sub-folders, as
//! torchvision's `ImageFolder` reads them.
//!
//! `PATH/train`, `PATH/test` and `PATH/val` may separate the splits (`val` serves for testing where
//! there is no `test`); otherwise the whole folder is both the training and the test split, and
//! [`Dataset::split`] is `None`. Classes and images are in order of their names, hidden files and
//! files with other endings than those of [`ENDINGS`] are ignored. Images have one size, or, with a
//! [`Resize`], get one while they are read; they are grey if those of all splits are.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use rayon::prelude::*;

use super::info::Request;
use super::resize::resized_planes;
use super::{DataError, Dataset, DatasetInfo, Origin, Pixels, Resize, Split};

/// Endings of the names of images.
const ENDINGS: [&str; 10] =
    ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "pnm"];
/// Folders within each other in the folder of a class.
const DEEPEST: usize = 16;
/// Largest height and width of an image; of one that is made smaller when it is read, it is four times as much.
const LARGEST_SIDE: u32 = 2048;
/// Memory that the decoder of one image may use; of one that is made smaller, four times as much.
const DECODER_BYTES: u64 = 64 << 20;
/// Bytes that the file of an image may have.
const LARGEST_FILE: u64 = 256 << 20;
/// Bytes of pixels that a data set may have.
const LARGEST_SET: u64 = 8 << 30;
/// Decoded pixels that may wait to be appended to the data set.
const BATCH_BYTES: usize = 32 << 20;

pub(super) const FOLDER: DatasetInfo = DatasetInfo {
    name: "folder:PATH",
    title: "A folder with one sub-folder of images per class (PNG, JPEG, WebP, BMP, TIFF, PNM)",
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
    let reader = Reader { folder: &folder, files: &files, resize: request.resize };
    let mut shape = reader.common_shape()?;
    if shape[0] == 1 && split.is_some_and(|split| reader.is_coloured_elsewhere(root, split)) {
        shape[0] = 3;
    }
    let pixels = reader.pixels(shape)?;
    let labels = files.iter().map(|file| file.label).collect();
    let name = match request.resize {
        Some(resize) => format!("{}+{resize}", request.name),
        None => request.name.to_owned(),
    };
    let dataset = Dataset::new(name, shape, Pixels::U8(pixels), labels, class_names)?;
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
    let mut files = Vec::new();
    for (label, name) in class_names.iter().enumerate() {
        let class = folder.join(name);
        if class.is_dir() {
            list_class(&class, label as u16, DEEPEST, &mut files)?;
        }
    }
    if files.is_empty() {
        return Err(DataError::malformed(
            folder,
            format!(
                "has no images in its sub-folders, one for each class ({}; splits are called train, test or val, with \
                 nothing beside them)",
                ENDINGS.join(", ")
            ),
        ));
    }
    Ok(files)
}

/// The images in a folder, and then those in its sub-folders.
fn list_class(
    folder: &Path,
    label: u16,
    deepest: usize,
    files: &mut Vec<ImageFile>,
) -> Result<(), DataError> {
    let is_image = |path: &Path| {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        ENDINGS.iter().any(|&known| ending == known) && !path.is_dir()
    };
    for name in entries(folder, is_image)? {
        let path = folder.join(name);
        if !path.is_file() {
            return Err(DataError::malformed(&path, "is no file, nor a link to one"));
        }
        files.push(ImageFile { path, label });
    }
    for name in entries(folder, Path::is_dir)? {
        let path = folder.join(name);
        if deepest == 0 {
            let problem = format!("more than {DEEPEST} folders within each other");
            return Err(DataError::malformed(&path, problem));
        }
        list_class(&path, label, deepest - 1, files)?;
    }
    Ok(())
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

/// Reads images of one size, or makes them so.
struct Reader<'a> {
    folder: &'a Path,
    files: &'a [ImageFile],
    resize: Option<Resize>,
}

impl Reader<'_> {
    /// Shape of all images from their headers; one channel if all are grey.
    fn common_shape(&self) -> Result<[usize; 3], DataError> {
        let headers: Vec<_> =
            self.files.par_iter().map(|file| self.read_header(&file.path)).collect();
        let mut size = self.resize.map(|resize| [resize.side() as u32; 2]);
        let mut is_grey = true;
        for (file, header) in self.files.iter().zip(headers) {
            let ([width, height], grey) = header?;
            is_grey &= grey;
            let expected = *size.get_or_insert([width, height]);
            if self.resize.is_none() && [width, height] != expected {
                let problem = format!(
                    "{width} x {height} pixels, expected {} x {} as in {} (the data FOLDER+crop:N or \
                     FOLDER+size:N, before other shifts, is all images in N x N)",
                    expected[0],
                    expected[1],
                    self.files[0].path.display()
                );
                return Err(DataError::malformed(&file.path, problem));
            }
        }
        let [width, height] = size.unwrap_or_default();
        let shape = [if is_grey { 1 } else { 3 }, height as usize, width as usize];
        let count = self.files.len();
        let bytes = shape.iter().try_fold(count as u64, |total, &n| total.checked_mul(n as u64));
        match bytes {
            Some(1..=LARGEST_SET) => Ok(shape),
            _ => Err(DataError::malformed(
                self.folder,
                format!("{count} images of {width} x {height} are more than 8 GiB"),
            )),
        }
    }

    /// Whether another split has an image that is not grey: what the network reads is the same for all of them.
    fn is_coloured_elsewhere(&self, root: &Path, split: Split) -> bool {
        let others: &[&str] = match split {
            Split::Train => &["test", "val"],
            Split::Test => &["train"],
        };
        let folders = others.iter().map(|name| root.join(name)).filter(|folder| folder.is_dir());
        let files = folders.flat_map(|folder| {
            // What is wrong there is said when it is read.
            let classes = class_names(root, &folder).unwrap_or_default();
            list_images(&folder, &classes).unwrap_or_default()
        });
        let files: Vec<ImageFile> = files.collect();
        files.par_iter().any(|file| self.read_header(&file.path).is_ok_and(|(_, grey)| !grey))
    }

    /// Width and height, and whether the image is grey.
    fn read_header(&self, path: &Path) -> Result<([u32; 2], bool), DataError> {
        let opened = fs::File::open(path).map_err(DataError::io(path))?;
        let decoder = self.image_reader(path, BufReader::new(opened))?.into_decoder();
        let decoder = decoder.map_err(|error| self.undecodable(path, &error))?;
        let (width, height) = decoder.dimensions();
        Ok(([width, height], !decoder.color_type().has_color()))
    }

    /// Decodes all images, in parallel; planes of a colour image follow each other.
    fn pixels(&self, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
        let size = shape.iter().product::<usize>();
        let mut pixels = Vec::new();
        pixels
            .try_reserve_exact(self.files.len() * size)
            .map_err(|error| DataError::malformed(self.folder, error.to_string()))?;
        for batch in self.files.chunks((BATCH_BYTES / size).max(1)) {
            let images: Vec<_> =
                batch.par_iter().map(|file| self.decode(&file.path, shape)).collect();
            for image in images {
                pixels.extend(image?);
            }
        }
        Ok(pixels)
    }

    fn decode(&self, path: &Path, shape: [usize; 3]) -> Result<Vec<u8>, DataError> {
        let bytes = read_file(path)?;
        if is_cut_jpeg(&bytes) {
            return Err(DataError::malformed(path, "the image ends too early"));
        }
        let image = self.image_reader(path, Cursor::new(bytes))?.decode();
        let image = image.map_err(|error| self.undecodable(path, &error))?;
        let [channels, height, width] = shape;
        let found = [channels, image.height() as usize, image.width() as usize];
        let planes = match channels {
            1 => image.into_luma8().into_raw(),
            _ => planes(image),
        };
        match self.resize {
            Some(resize) => Ok(resized_planes(&planes, found, resize)),
            None if found == [channels, height, width] => Ok(planes),
            None => Err(DataError::malformed(path, "changed while it was read")),
        }
    }

    fn image_reader<R: BufRead + Seek>(
        &self,
        path: &Path,
        from: R,
    ) -> Result<ImageReader<R>, DataError> {
        let mut reader =
            ImageReader::new(from).with_guessed_format().map_err(DataError::io(path))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(self.largest_side());
        limits.max_image_height = Some(self.largest_side());
        limits.max_alloc =
            Some(if self.resize.is_some() { 4 * DECODER_BYTES } else { DECODER_BYTES });
        reader.limits(limits);
        Ok(reader)
    }

    fn largest_side(&self) -> u32 {
        if self.resize.is_some() { 4 * LARGEST_SIDE } else { LARGEST_SIDE }
    }

    fn undecodable(&self, path: &Path, error: &ImageError) -> DataError {
        let side = self.largest_side();
        let problem = match error {
            ImageError::Limits(_) => format!("{error} (images of up to {side} x {side} are read)"),
            _ => error.to_string(),
        };
        DataError::malformed(path, problem.replace('\n', " "))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let file = fs::File::open(path).map_err(DataError::io(path))?;
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(DataError::io(path))?;
    match bytes.len() as u64 > LARGEST_FILE {
        true => Err(DataError::malformed(path, "is larger than 256 MiB")),
        false => Ok(bytes),
    }
}

/// Whether the pixels of a JPEG file have no end, which decoders fill with grey without a word: after the last start
/// of a scan, the marker of the end cannot be anything else.
fn is_cut_jpeg(bytes: &[u8]) -> bool {
    let pair = |marker| move |pair: &[u8]| pair == [0xFF, marker];
    let is_jpeg = bytes.starts_with(&[0xFF, 0xD8]);
    let scan = bytes.windows(2).rposition(pair(0xDA));
    is_jpeg && scan.is_some_and(|scan| !bytes[scan..].windows(2).any(pair(0xD9)))
}

/// The red plane, then green, then blue. Transparency is ignored.
fn planes(image: DynamicImage) -> Vec<u8> {
    let interleaved = image.into_rgb8().into_raw();
    let (colours, _) = interleaved.as_chunks::<3>();
    (0..3).flat_map(|channel| colours.iter().map(move |colour| colour[channel])).collect()
}
