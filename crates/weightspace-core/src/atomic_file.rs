//! A file that appears whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A file being written in the folder of its destination, which it replaces on [`commit`](Self::commit).
///
/// Whoever looks at the destination sees the old file or the complete new one, never a part,
/// even after a power cut. Dropping without a commit removes what was written; where the system has files without a name,
/// nothing is left of it however the process ends.
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<Unfinished>,
    path: PathBuf,
}

/// What is written before it has its name.
#[derive(Debug)]
enum Unfinished {
    /// A file that is in no folder: the system removes it when it is closed.
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// A hidden file, which stays behind if the process is killed.
    Hidden(NamedTempFile),
}

impl AtomicFile {
    /// Writes a file of these bytes, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = AtomicFile::create(path)?;
        file.write_all(bytes)?;
        file.commit()
    }

    /// Starts a new file that will be renamed to `path`, in the same folder.
    ///
    /// # Errors
    /// If the folder is missing or not writable, or if `path` exists and is no regular file:
    /// renaming would replace a folder, a device or a link by something else.
    pub fn create(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "exists and is not a regular file, so it cannot be replaced",
            ));
        }
        let file = Unfinished::create(path)?;
        Ok(AtomicFile { writer: BufWriter::with_capacity(1 << 18, file), path: path.to_owned() })
    }

    /// Where the file will appear.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes everything to the disk and puts the file in its place.
    ///
    /// # Errors
    /// Whatever the system reports; the destination is then unchanged.
    pub fn commit(self) -> io::Result<()> {
        let file = self.writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.hidden(&self.path)?.persist(&self.path).map_err(|error| error.error)?;
        // The rename itself is durable only once the folder is; not every system can sync one.
        #[cfg(unix)]
        File::open(folder_of(&self.path))?.sync_all()?;
        Ok(())
    }
}

impl Unfinished {
    fn create(path: &Path) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Ok(file) = unnamed::create(folder_of(path)) {
            return Ok(Unfinished::Unnamed(file));
        }
        hidden_beside(path, new_file).map(Unfinished::Hidden)
    }

    fn as_file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Unfinished::Unnamed(file) => file,
            Unfinished::Hidden(file) => file.as_file(),
        }
    }

    /// Under a hidden name beside `path`, as only files with a name can replace others.
    fn hidden(self, path: &Path) -> io::Result<NamedTempFile> {
        match self {
            #[cfg(target_os = "linux")]
            Unfinished::Unnamed(file) => unnamed::give_name(file, path),
            Unfinished::Hidden(file) => Ok(file),
        }
    }
}

/// A hidden file beside `path`, made by `make`.
fn hidden_beside(
    path: &Path,
    make: impl FnMut(&Path) -> io::Result<File>,
) -> io::Result<NamedTempFile> {
    let prefix = [OsStr::new("."), path.file_name().unwrap_or_default()].join(OsStr::new(""));
    Builder::new().prefix(&prefix).suffix(".tmp").make_in(folder_of(path), make)
}

/// Made as any new file: the umask takes away what the user does not grant.
fn new_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).open(path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Files without a name (`O_TMPFILE`).
#[cfg(target_os = "linux")]
mod unnamed {
    use std::fs::File;
    use std::io::{self, Seek};
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, CWD, OFlags, linkat};
    use tempfile::NamedTempFile;

    use super::{hidden_beside, new_file};

    /// Where the system shows an open file.
    fn shown(file: &File) -> PathBuf {
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    }

    /// A file of this folder's file system. Fails where there are none without a name, or none could get one.
    pub fn create(folder: &Path) -> io::Result<File> {
        let flags = OFlags::TMPFILE.bits() as i32;
        let file = File::options().read(true).write(true).custom_flags(flags).open(folder)?;
        shown(&file).symlink_metadata()?;
        Ok(file)
    }

    /// Gives a file, which is all written, a hidden name beside `path`; a copy of it where the system refuses.
    pub fn give_name(mut file: File, path: &Path) -> io::Result<NamedTempFile> {
        let link = |at: &Path| {
            linkat(CWD, shown(&file), CWD, at, AtFlags::SYMLINK_FOLLOW)?;
            file.try_clone()
        };
        if let Ok(named) = hidden_beside(path, link) {
            return Ok(named);
        }
        let mut named = hidden_beside(path, new_file)?;
        file.rewind()?;
        io::copy(&mut file, &mut named)?;
        named.as_file().sync_all()?;
        Ok(named)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.as_file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Unfinished {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.as_file().seek(position)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.writer.seek(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_old_file_stays_until_the_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["weights"]);
    }

    #[test]
    fn dropping_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AtomicFile::create(&folder.path().join("weights")).unwrap();
        file.write_all(&[7; 1 << 20]).unwrap();
        #[cfg(target_os = "linux")]
        if matches!(file.writer.get_ref(), Unfinished::Unnamed(_)) {
            assert!(
                names(folder.path()).is_empty(),
                "nothing is left if the process is killed now"
            );
        }
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    /// As where the system has no files without a name.
    #[test]
    fn hidden_files_take_the_place_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, "old").unwrap();
        let hidden = Unfinished::Hidden(hidden_beside(&path, new_file).unwrap());
        let mut file = AtomicFile { writer: BufWriter::new(hidden), path: path.clone() };
        file.write_all(b"new").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["weights"]);
    }

    #[test]
    fn folders_and_devices_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(AtomicFile::create(folder.path()).is_err());
        assert!(AtomicFile::create(&folder.path().join("missing/weights")).is_err());
        #[cfg(unix)]
        assert!(AtomicFile::create(Path::new("/dev/null")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_readable_as_any_other_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        AtomicFile::create(&path).unwrap().commit().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }
}
