//! Reading the files of data sets: never more than their headers and the published sizes allow.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::DataError;

/// A stream of bytes that knows its file for messages.
pub(super) struct Source {
    pub path: PathBuf,
    pub reader: Box<dyn Read>,
}

impl Source {
    /// Opens a file, inflating it if it begins as gzip does (whatever its name: browsers inflate
    /// some downloads without renaming them).
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io(path))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let is_gzip = reader.fill_buf().map_err(DataError::io(path))?.starts_with(&[0x1F, 0x8B]);
        let reader: Box<dyn Read> =
            if is_gzip { Box::new(GzDecoder::new(reader)) } else { Box::new(reader) };
        Ok(Self { path: path.to_owned(), reader })
    }

    /// A gzip file that is part of the program.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Self { path: name.into(), reader: Box::new(GzDecoder::new(bytes)) }
    }

    pub fn malformed(&self, problem: impl Into<String>) -> DataError {
        DataError::malformed(&self.path, problem)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| self.malformed(error.to_string()))?;
        Ok(bytes)
    }

    /// The next `length` bytes. Memory grows with what the file holds, not with `length`.
    pub fn bytes(&mut self, length: usize, what: &str) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let result = self.reader.by_ref().take(length as u64).read_to_end(&mut bytes);
        let cause = match result {
            Ok(_) if bytes.len() == length => return Ok(bytes),
            Ok(_) => "the file ends".to_owned(),
            Err(error) => error.to_string(),
        };
        let found = bytes.len();
        Err(self.malformed(format!("{cause} after {found} of {length} bytes of {what}")))
    }

    /// Checks that nothing follows; this also checks the checksum of a gzip file.
    pub fn finish(&mut self) -> Result<(), DataError> {
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.malformed("the file is longer than its header says")),
            Err(error) => Err(self.malformed(error.to_string())),
        }
    }
}

/// Opens a file of fixed-size records and counts them: at least one, at most `limit`.
pub(super) fn open_records(
    path: &Path,
    record: usize,
    limit: usize,
) -> Result<(BufReader<File>, usize), DataError> {
    let file = File::open(path).map_err(DataError::io(path))?;
    let length = file.metadata().map_err(DataError::io(path))?.len();
    let count = length / record as u64;
    if length == 0 || length % record as u64 != 0 || count > limit as u64 {
        return Err(DataError::malformed(
            path,
            format!("{length} bytes, expected 1 to {limit} records of {record} bytes"),
        ));
    }
    Ok((BufReader::with_capacity(1 << 16, file), count as usize))
}

/// Turns square images stored column by column into images stored row by row, in place.
pub(super) fn transpose_planes(pixels: &mut [u8], size: usize) {
    for plane in pixels.chunks_exact_mut(size * size) {
        for row in 0..size {
            for column in row + 1..size {
                plane.swap(row * size + column, column * size + row);
            }
        }
    }
}

/// Class names of a table as a data set holds them.
pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
