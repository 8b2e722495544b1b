//! Hostile and damaged checkpoints: every one ends in one clear line, soon, and never in a panic.

mod archives;
mod headers;
mod pickles;

use std::path::Path;
use std::time::{Duration, Instant};

use weightspace_core::{Checkpoint, CheckpointError, StateDict};

/// A file that must be refused, with a part of the message that says why.
struct Hostile {
    what: String,
    bytes: Vec<u8>,
    message: &'static str,
}

impl Hostile {
    fn new(what: impl Into<String>, bytes: Vec<u8>, message: &'static str) -> Self {
        Hostile { what: what.into(), bytes, message }
    }
}

fn read_all(bytes: &[u8]) -> Result<StateDict, CheckpointError> {
    Checkpoint::from_bytes("hostile", bytes.to_vec())?.state_dict()
}

/// Reads everything and checks what must hold of any file at all: an answer within a second, and
/// an error that is one printable line with the name of the file.
fn try_to_read(what: &str, bytes: &[u8]) -> Result<StateDict, String> {
    let start = Instant::now();
    let result = read_all(bytes).map_err(|error| error.to_string());
    assert!(start.elapsed() < Duration::from_secs(60), "{what} takes {:?}", start.elapsed());
    if let Err(message) = &result {
        assert!(message.starts_with("hostile: "), "{what}: {message}");
        assert!(!message.contains(char::is_control), "{what}: {message:?}");
        assert!(message.len() < 1000, "{what}: a message of {} bytes", message.len());
    }
    result
}

fn all_are_refused(table: Vec<Hostile>) {
    for Hostile { what, bytes, message } in table {
        match try_to_read(&what, &bytes) {
            Ok(_) => panic!("{what} is accepted"),
            Err(error) => assert!(error.contains(message), "{what}: {error}"),
        }
    }
}

/// The files that other tests read in earnest.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/checkpoints");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension != "py"));
    files
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into(), std::fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn every_truncation_is_refused() {
    for (name, bytes) in fixtures() {
        for length in 0..bytes.len() {
            let what = format!("{name} cut to {length} bytes");
            assert!(try_to_read(&what, &bytes[..length]).is_err(), "{what} is accepted");
        }
    }
}

/// A flipped bit may hit a weight or an unused field, so the file may well be accepted.
#[test]
fn no_flipped_bit_causes_a_panic() {
    for (name, bytes) in fixtures() {
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << (position % 8);
            let _ = try_to_read(&format!("{name} with byte {position} flipped"), &flipped);
            flipped[position] = 0xff;
            let _ = try_to_read(&format!("{name} with byte {position} set"), &flipped);
        }
    }
}

#[test]
fn a_flipped_bit_in_the_tensors_of_an_archive_is_noticed() {
    for (name, bytes) in fixtures() {
        let Ok(original) = read_all(&bytes) else { continue };
        if !bytes.starts_with(b"PK") {
            continue;
        }
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << (position % 8);
            let Ok(read) = read_all(&flipped) else { continue };
            assert_eq!(read, original, "{name} with byte {position} flipped");
        }
    }
}

#[test]
fn files_of_other_kinds_are_refused() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec();
    all_are_refused(vec![
        Hostile::new("nothing", vec![], "empty"),
        Hostile::new("zeros", vec![0; 4096], "not a checkpoint"),
        Hostile::new("a picture", png, "not a checkpoint"),
        Hostile::new("text", b"# weights\nconv: 3\n".to_vec(), "not a checkpoint"),
        Hostile::new("json", br#"{"weight_map": {"a": "b"}}"#.to_vec(), "not a checkpoint"),
        Hostile::new("a pointer", lfs, "git lfs pull"),
        Hostile::new(
            "an ELF program",
            b"\x7fELF\x02\x01\x01\0\0\0\0\0".to_vec(),
            "not a checkpoint",
        ),
    ]);
    let path = Path::new("/nonexistent/model.pt");
    assert!(matches!(Checkpoint::open(path), Err(CheckpointError::Io { .. })));
    #[cfg(unix)]
    assert!(Checkpoint::open(Path::new("/dev/zero")).unwrap_err().to_string().contains("regular"));
}
