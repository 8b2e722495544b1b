//! RAW sections: bytes of raw tensors, as they are or deflated.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::error::{Reason, refuse};
use super::limits;

const STORED: u8 = 0;
const DEFLATED: u8 = 1;

/// Raw DEFLATE at the highest level.
pub(super) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

/// Inflates at most `limit` bytes; the stream must end where `bytes` do.
pub(super) fn inflate(bytes: &[u8], limit: usize, what: &str) -> Result<Vec<u8>, Reason> {
    let mut decoder = DeflateDecoder::new(bytes);
    let mut out = Vec::new();
    if let Err(error) = (&mut decoder).take(limit as u64 + 1).read_to_end(&mut out) {
        return refuse!("{what} cannot be inflated: {error}");
    }
    if out.len() > limit {
        return refuse!("{what} inflates to more than {limit} bytes");
    }
    match decoder.into_inner().len() {
        0 => Ok(out),
        extra => refuse!("{extra} bytes follow the deflated data of {what}"),
    }
}

/// The content of a section.
pub(super) fn encode(bytes: &[u8]) -> Vec<u8> {
    let deflated = deflate(bytes);
    let (kind, shorter) =
        if deflated.len() < bytes.len() { (DEFLATED, &deflated[..]) } else { (STORED, bytes) };
    [&[kind], shorter].concat()
}

/// The `count` bytes that a section holds.
pub(crate) fn decode(content: &[u8], count: usize) -> Result<Vec<u8>, Reason> {
    let bytes = match content.split_first() {
        Some((&STORED, bytes)) => bytes.to_vec(),
        Some((&DEFLATED, bytes)) => inflate(bytes, count, "a raw section")?,
        _ => return refuse!("a raw section is neither stored nor deflated"),
    };
    match bytes.len() == count {
        true => Ok(bytes),
        false => refuse!("a raw section holds {} bytes, expected {count}", bytes.len()),
    }
}

/// Refuses a section that cannot hold `count` bytes, before it is decoded.
pub(super) fn check(content: &[u8], count: usize) -> Result<(), Reason> {
    let possible = match content.first() {
        Some(&STORED) => content.len() == count + 1,
        _ => count <= limits::inflated_of(content.len()),
    };
    match possible {
        true => Ok(()),
        false => refuse!("a raw section of {} bytes cannot hold {count} bytes", content.len()),
    }
}
