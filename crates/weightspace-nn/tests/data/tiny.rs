//! Data sets of five images, written in the formats of the published ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use weightspace_nn::data::{DATASETS, DatasetInfo, Split};

/// Labels of the five images.
pub const LABELS: [u8; 5] = [0, 7, 3, 9, 1];

/// Pixel of image `n`, channel `c`, row `y`, column `x`.
pub fn pixel(n: usize, c: usize, y: usize, x: usize) -> u8 {
    (7 * y + 3 * x + 50 * c + 11 * n) as u8
}

/// All pixels of the images `range`, row by row or column by column.
fn pixels(range: std::ops::Range<usize>, shape: [usize; 3], by_columns: bool) -> Vec<u8> {
    let [channels, height, width] = shape;
    let mut bytes = Vec::new();
    for n in range {
        for c in 0..channels {
            for i in 0..height * width {
                let (y, x) =
                    if by_columns { (i % height, i / height) } else { (i / width, i % width) };
                bytes.push(pixel(n, c, y, x));
            }
        }
    }
    bytes
}

/// The data sets that are read from files of their own.
pub fn file_datasets() -> impl Iterator<Item = &'static DatasetInfo> {
    DATASETS.iter().filter(|info| !info.folders.is_empty())
}

/// Every file of a split, with its path below the data directory. Where a format exists plain and
/// compressed, the training split is plain and the test split compressed.
pub fn files(info: &DatasetInfo, split: Split) -> Vec<(PathBuf, Vec<u8>)> {
    let names = match split {
        Split::Train => info.train_files,
        Split::Test => info.test_files,
    };
    let contents = contents(info, split);
    assert_eq!(names.len(), contents.len(), "{}", info.name);
    let path = |name: &str| {
        let plain = split == Split::Train;
        let name = if plain { name.trim_end_matches(".gz") } else { name };
        Path::new(info.folders[0]).join(name)
    };
    names.iter().map(|name| path(name)).zip(contents).collect()
}

fn contents(info: &DatasetInfo, split: Split) -> Vec<Vec<u8>> {
    let shape = info.shape.unwrap();
    let images = pixels(0..5, shape, false);
    let compress = |bytes: Vec<u8>| if split == Split::Test { gzip(&bytes) } else { bytes };
    match info.name {
        "mnist" | "fashion-mnist" => {
            let images = idx(0x08, &[5, 28, 28], &images);
            vec![compress(images), compress(idx(0x08, &[5], &LABELS))]
        }
        "usps" => {
            let values = images.iter().flat_map(|&p| (f32::from(p) / 255.0).to_be_bytes());
            let images = idx(0x0D, &[5, 16, 16], &values.collect::<Vec<_>>());
            vec![compress(images), compress(idx(0x08, &[5], &LABELS))]
        }
        "cifar10" | "cifar100" => {
            let records = LABELS.iter().enumerate().map(|(n, &label)| {
                let coarse: &[u8] = if info.name == "cifar100" { &[19] } else { &[] };
                [coarse, &[label], &pixels(n..n + 1, shape, false)].concat()
            });
            match (info.name, split) {
                ("cifar10", Split::Train) => records.collect(),
                _ => vec![records.collect::<Vec<_>>().concat()],
            }
        }
        "stl10" => {
            let labels = LABELS.iter().map(|label| label + 1).collect();
            vec![pixels(0..5, shape, true), labels]
        }
        "svhn" => {
            let deflate = split == Split::Test;
            let images = pixels(0..5, shape, true);
            let images = matlab_matrix("X", &[32, 32, 3, 5], &images, deflate);
            let labels = LABELS.map(|label| if label == 0 { 10 } else { label });
            let labels = matlab_matrix("y", &[5, 1], &labels, deflate);
            vec![[matlab_header(), images, labels].concat()]
        }
        other => panic!("write tiny files of {other}, too"),
    }
}

/// Writes all files of both splits of all data sets.
pub fn write_all(directory: &Path) {
    for info in file_datasets() {
        for (path, bytes) in [files(info, Split::Train), files(info, Split::Test)].concat() {
            write(&directory.join(path), &bytes);
        }
    }
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub fn idx(element: u8, dimensions: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, element, dimensions.len() as u8];
    bytes.extend(dimensions.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend_from_slice(data);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn matlab_header() -> Vec<u8> {
    let mut header = vec![b' '; 128];
    header[124..].copy_from_slice(b"\x00\x01IM");
    header
}

/// One byte matrix; MATLAB pads elements to multiples of eight bytes.
pub fn matlab_matrix(name: &str, dimensions: &[u32], data: &[u8], deflate: bool) -> Vec<u8> {
    let sizes: Vec<u8> = dimensions.iter().flat_map(|n| n.to_le_bytes()).collect();
    let content = [
        matlab_element(6, &[9, 0, 0, 0, 0, 0, 0, 0]),
        matlab_element(5, &sizes),
        matlab_element(1, name.as_bytes()),
        matlab_element(2, data),
    ]
    .concat();
    let matrix = matlab_element(14, &content);
    if !deflate {
        return matrix;
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&matrix).unwrap();
    let deflated = encoder.finish().unwrap();
    // Deflated elements alone are not padded.
    [15u32.to_le_bytes(), (deflated.len() as u32).to_le_bytes()]
        .concat()
        .into_iter()
        .chain(deflated)
        .collect()
}

fn matlab_element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}
