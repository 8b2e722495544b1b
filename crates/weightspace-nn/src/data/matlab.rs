//! Byte matrices of MATLAB 5 files: a header of 128 bytes, then elements with a tag (type and
//! number of bytes); a matrix is an element that holds flags, dimensions, name and data as
//! elements, and may be deflated as a whole.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::ZlibDecoder;

use super::DataError;
use super::files::Source;

const MI_INT8: u32 = 1;
const MI_UINT8: u32 = 2;
const MI_INT32: u32 = 5;
const MI_UINT32: u32 = 6;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;

const HEADER: u64 = 128;
const TAG: u64 = 8;

/// Files with more matrices than this are not searched to their end.
const MOST_ELEMENTS: usize = 64;

/// Names and lists of dimensions beyond this many bytes are refused.
const LONGEST_FIELD: u32 = 256;

/// A matrix whose data come next in the stream.
pub(super) struct Matrix {
    /// Size in every dimension; the first index varies fastest in the data.
    pub dimensions: Vec<usize>,
    source: Source,
}

impl Matrix {
    /// Finds the matrix `name` in a file, reading no other matrix's data.
    pub fn open(path: &Path, name: &str) -> Result<Self, DataError> {
        let mut file = File::open(path).map_err(DataError::io(path))?;
        let length = file.metadata().map_err(DataError::io(path))?.len();
        let mut header = [0; HEADER as usize];
        if file.read_exact(&mut header).is_err() || !header.ends_with(b"\x00\x01IM") {
            return Err(DataError::malformed(path, "not a little-endian MATLAB 5 file"));
        }
        let mut position = HEADER;
        for _ in 0..MOST_ELEMENTS {
            if position >= length {
                break;
            }
            let (size, matrix) = open_element(path, position)?;
            let end = position + TAG + u64::from(size);
            if end > length {
                let problem = format!("ends after {length} of at least {end} bytes");
                return Err(DataError::malformed(path, problem));
            }
            if let Some(mut source) = matrix {
                let (found, dimensions) = read_description(&mut source)?;
                if found == name.as_bytes() {
                    return Ok(Self { dimensions, source });
                }
            }
            position = end;
        }
        Err(DataError::malformed(path, format!("holds no matrix {name}")))
    }

    /// The data, which must be bytes and as many as the dimensions say. The caller has checked the
    /// dimensions; memory grows with what the file holds.
    pub fn bytes(&mut self) -> Result<Vec<u8>, DataError> {
        let count =
            self.dimensions.iter().try_fold(1, |total: u32, &n| total.checked_mul(n as u32));
        let (kind, size, small) = read_tag(&mut self.source)?;
        if kind != MI_UINT8 || Some(size) != count {
            return Err(self.source.malformed(format!(
                "{size} bytes of type {kind} in a matrix of {:?}, expected bytes (type {MI_UINT8})",
                self.dimensions
            )));
        }
        if let Some(bytes) = small {
            return Ok(bytes[..size as usize].to_vec());
        }
        let bytes = self.source.bytes(size as usize, "matrix")?;
        self.source.bytes((size.next_multiple_of(8) - size) as usize, "padding")?;
        self.source.finish()?;
        Ok(bytes)
    }
}

/// Size of the element at `position` without its tag and, if it is a matrix, its content.
fn open_element(path: &Path, position: u64) -> Result<(u32, Option<Source>), DataError> {
    let mut file = File::open(path).map_err(DataError::io(path))?;
    file.seek(SeekFrom::Start(position)).map_err(DataError::io(path))?;
    let mut source = Source { path: path.to_owned(), reader: Box::new(BufReader::new(file)) };
    let (mut kind, size) = halves(source.array()?);
    source.reader = Box::new(source.reader.take(u64::from(size)));
    if kind == MI_COMPRESSED {
        source.reader = Box::new(ZlibDecoder::new(BufReader::new(source.reader)));
        kind = halves(source.array()?).0;
    }
    Ok((size, (kind == MI_MATRIX).then_some(source)))
}

fn halves(tag: [u8; 8]) -> (u32, u32) {
    let value = u64::from_le_bytes(tag);
    (value as u32, (value >> 32) as u32)
}

/// Type and number of bytes of the next element, and its data if they lie within the tag, as up to
/// four bytes may.
fn read_tag(source: &mut Source) -> Result<(u32, u32, Option<[u8; 4]>), DataError> {
    let tag: [u8; 8] = source.array()?;
    let (kind, size) = halves(tag);
    match kind >> 16 {
        0 => Ok((kind, size, None)),
        small @ 1..=4 => Ok((kind & 0xFFFF, small, Some(size.to_le_bytes()))),
        large => Err(source.malformed(format!("{large} bytes in an element for up to 4"))),
    }
}

/// Data of the next element, which must be short and of type `expected`.
fn read_field(source: &mut Source, expected: u32) -> Result<Vec<u8>, DataError> {
    let (kind, size, small) = read_tag(source)?;
    if kind != expected || size > LONGEST_FIELD {
        return Err(source.malformed(format!(
            "element of type {kind} and {size} bytes, expected type {expected} and up to {LONGEST_FIELD} bytes"
        )));
    }
    if let Some(bytes) = small {
        return Ok(bytes[..size as usize].to_vec());
    }
    let mut bytes = source.bytes(size.next_multiple_of(8) as usize, "element")?;
    bytes.truncate(size as usize);
    Ok(bytes)
}

/// Name and dimensions of a matrix.
fn read_description(source: &mut Source) -> Result<(Vec<u8>, Vec<usize>), DataError> {
    read_field(source, MI_UINT32)?;
    let dimensions = read_field(source, MI_INT32)?;
    let dimensions = dimensions.as_chunks::<4>().0.iter().map(|&n| u32::from_le_bytes(n) as usize);
    let dimensions = dimensions.collect();
    Ok((read_field(source, MI_INT8)?, dimensions))
}
