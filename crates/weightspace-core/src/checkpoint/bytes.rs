//! The bytes of a file of weights, mapped or in memory.

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::Path;

use super::CheckpointError;

/// The bytes of one file. With the feature `mmap` a file is mapped, so that only the pages of the
/// tensors that are read are ever loaded.
pub(crate) enum Bytes {
    #[cfg(feature = "mmap")]
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Opens a regular file: reading a pipe or a device could block or never end.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let at = |source| CheckpointError::io(path, source);
        if !fs::metadata(path).map_err(at)?.is_file() {
            return Err(at(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        Self::load(path).map_err(at)
    }

    #[cfg(feature = "mmap")]
    fn load(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        // SAFETY: the map is private to this value and only read. A file that another process
        // truncates meanwhile ends this process with a bus error, one that it rewrites gives
        // other bytes; every reader copies what it returns and checks all bounds against the
        // length of the map, so neither breaks memory safety beyond what mapping implies.
        Ok(Bytes::Mapped(unsafe { memmap2::Mmap::map(&file)? }))
    }

    #[cfg(not(feature = "mmap"))]
    fn load(path: &Path) -> io::Result<Self> {
        fs::read(path).map(Bytes::Owned)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(feature = "mmap")]
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
