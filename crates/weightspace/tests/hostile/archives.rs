//! Zip archives, of PyTorch and NumPy, that are cut, damaged, or much larger than they look.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::{Case, Input, OPENING, READING, cases, golden};

/// Archives of which every storage is read.
const ARCHIVES: [&str; 4] = ["dtypes.pt", "views.pt", "arrays.npz", "compressed.npz"];

pub fn hostile() -> Vec<Case> {
    let mut all = Vec::new();
    for name in ARCHIVES {
        let bytes = fs::read(golden("checkpoints").join(name)).unwrap();
        all.extend(cases(&OPENING, truncations(name, &bytes)));
        all.extend(cases(&READING, damages(name, &bytes)));
    }
    all.extend(bombs());
    all
}

/// Where the parts of an archive begin: members, the directory's entries, and its end.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let signatures = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"];
    let is_border = |&at: &usize| signatures.iter().any(|s| bytes[at..].starts_with(*s));
    (0..bytes.len()).filter(is_border).collect()
}

/// The archive cut at and just behind every border, and before its last byte.
fn truncations(name: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let borders = borders(bytes);
    let behind = borders.iter().map(|border| border + 11);
    let cuts = borders.iter().copied().filter(|&at| at > 0).chain(behind).chain([bytes.len() - 1]);
    cuts.map(|end| (format!("{name} cut to {end} bytes"), bytes[..end].to_vec())).collect()
}

/// The content of every member with one bit flipped, which its checksum betrays.
fn damages(name: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte))
    };
    let entries = borders(bytes).into_iter().filter(|&at| bytes[at..].starts_with(b"PK\x01\x02"));
    let damaged = entries.filter_map(|at| {
        let (size, member, local) = (number(at + 24, 4), number(at + 28, 2), number(at + 42, 4));
        let member = String::from_utf8_lossy(&bytes[at + 46..][..member]);
        // What PyTorch adds beside the pickle and the storages is never read.
        let matters =
            member.ends_with(".npy") || member.ends_with(".pkl") || member.contains("/data/");
        let start = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let mut flipped = bytes.to_vec();
        flipped[start] ^= 0x10;
        let what = format!("{name} with a flipped bit in {member}");
        (matters && size > 0).then_some((what, flipped))
    });
    damaged.collect()
}

/// An archive of one deflated member, which says that it inflates to `size` bytes.
fn archive(member: &str, compressed: &[u8], crc: u32, size: u32) -> Vec<u8> {
    let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
    common.extend(crc.to_le_bytes());
    common.extend((compressed.len() as u32).to_le_bytes());
    common.extend(size.to_le_bytes());
    common.extend((member.len() as u16).to_le_bytes());
    common.extend([0; 2]);
    let file = [b"PK\x03\x04", common.as_slice(), member.as_bytes(), compressed].concat();
    let directory = [b"PK\x01\x02\x14\0", common.as_slice(), &[0; 14], member.as_bytes()].concat();
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    end.extend((directory.len() as u32).to_le_bytes());
    end.extend((file.len() as u32).to_le_bytes());
    end.extend([0; 2]);
    [file, directory, end].concat()
}

/// Members that inflate to far more than the file, honestly declared or not.
fn bombs() -> Vec<Case> {
    const SIZE: usize = 300 << 20;
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    let mut crc = flate2::Crc::new();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (314572672,), }";
    let mut start = [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes()].concat();
    start.extend(header.as_bytes());
    start.resize(128, b' ');
    start[8] = 118;
    let zeros = vec![0; 1 << 20];
    let chunks = std::iter::once(&start).chain(std::iter::repeat_n(&zeros, SIZE >> 20));
    for chunk in chunks {
        encoder.write_all(chunk).unwrap();
        crc.update(chunk);
    }
    let compressed = encoder.finish().unwrap();
    let size = (SIZE + start.len()) as u32;
    let sizes = [("an honest bomb", size), ("a bomb that denies it", 1000), ("a lie", u32::MAX)];
    let members = ["a.npy", "archive/data.pkl"];
    let mut all = Vec::new();
    for member in members {
        for (what, size) in sizes {
            let bytes = archive(member, &compressed, crc.sum(), size);
            all.push(Case::new(
                format!("{what} in {member}"),
                Input::Bytes(bytes),
                "compress IN -o OUT",
            ));
        }
    }
    all
}
