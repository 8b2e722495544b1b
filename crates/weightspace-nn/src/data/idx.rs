//! idx, the format of MNIST: a magic number with element type and number of dimensions, the
//! dimensions as big-endian u32, then the elements in row-major order.

use super::DataError;
use super::files::Source;

/// Element type of an idx file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// Code 0x08.
    U8,
    /// Code 0x0D, big-endian.
    F32,
}

impl Element {
    fn code(self) -> u8 {
        match self {
            Element::U8 => 0x08,
            Element::F32 => 0x0D,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Element::U8 => 1,
            Element::F32 => 4,
        }
    }
}

/// Reads a whole file of 1 to `limit` images of `height` x `width`; the bytes are as in the file.
pub(super) fn read_images(
    source: &mut Source,
    element: Element,
    [height, width]: [usize; 2],
    limit: usize,
) -> Result<Vec<u8>, DataError> {
    let [count, rows, columns] = read_header::<3>(source, element)?;
    if [rows, columns] != [height, width] || !(1..=limit).contains(&count) {
        return Err(source.malformed(format!(
            "{count} images of {rows} x {columns}, expected 1 to {limit} of {height} x {width}"
        )));
    }
    let pixels = source.bytes(count * height * width * element.bytes(), "pixels")?;
    source.finish()?;
    Ok(pixels)
}

/// Reads a whole file of `count` labels below `classes`.
pub(super) fn read_labels(
    source: &mut Source,
    count: usize,
    classes: usize,
) -> Result<Vec<u16>, DataError> {
    let [found] = read_header::<1>(source, Element::U8)?;
    if found != count {
        return Err(source.malformed(format!("{found} labels for {count} images")));
    }
    let labels = source.bytes(count, "labels")?;
    source.finish()?;
    if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
        let label = labels[index];
        return Err(
            source.malformed(format!("label {label} of image {index}, expected below {classes}"))
        );
    }
    Ok(labels.into_iter().map(u16::from).collect())
}

fn read_header<const N: usize>(
    source: &mut Source,
    element: Element,
) -> Result<[usize; N], DataError> {
    let magic: [u8; 4] = source.array()?;
    let expected = [0, 0, element.code(), N as u8];
    if magic != expected {
        return Err(source.malformed(format!(
            "begins with {magic:02x?}, expected {expected:02x?} (idx, {N} dimensions)"
        )));
    }
    let mut dimensions = [0; N];
    for dimension in &mut dimensions {
        *dimension = u32::from_be_bytes(source.array()?) as usize;
    }
    Ok(dimensions)
}
