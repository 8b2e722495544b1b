//! `.wsp` files made by hand, byte by byte, and what is expected of those that are refused.
#![allow(dead_code, reason = "every test program uses its own part")]

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use sha2::{Digest, Sha256};
use weightspace_core::WspError;

/// LEB128, seven bits a byte.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind], &varint(content.len() as u64)[..], content].concat()
}

/// An empty header of this method and these sections, without a checksum.
pub fn body(method: u8, sections: &[Vec<u8>]) -> Vec<u8> {
    let header = [b"\x8bWSP\x01", &[method][..], &[0; 3], &[0; 16], &[0, 0]].concat();
    [header, sections.concat()].concat()
}

/// The file with the checksum that its other bytes need.
pub fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::digest(&body);
    body.extend_from_slice(&digest[..8]);
    body
}

/// A TABLE of tensors named a, b, ... of these codes and shapes, with what else their codings need.
pub fn table(tensors: &[(u8, &[u64])], rest: &[u8]) -> Vec<u8> {
    let mut content = varint(tensors.len() as u64);
    content.extend(tensors.iter().map(|(code, _)| code));
    content.extend(tensors.iter().map(|_| 0));
    content.extend(tensors.iter().map(|_| 1));
    content.extend((b'a'..).take(tensors.len()));
    for (_, shape) in tensors {
        content.push(shape.len() as u8 + 1);
        content.extend(shape.iter().flat_map(|&n| varint(n)));
    }
    content.extend(rest);
    section(1, &deflate(&content))
}

/// An error is one line that names the file.
#[track_caller]
pub fn assert_one_line(error: &WspError) -> String {
    let message = error.to_string();
    assert!(message.starts_with("some.wsp: ") && !message.contains('\n'), "{message}");
    message
}

/// Refused at once, with one line that names the file and says `reason`.
#[track_caller]
pub fn assert_refused<T>(decode: impl FnOnce() -> Result<T, WspError>, reason: &str) {
    let start = Instant::now();
    let error = decode().err().expect("it should be refused");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}: {error}", start.elapsed());
    let message = assert_one_line(&error);
    assert!(message.contains(reason), "expected {reason:?} in {message:?}");
}
