//! `.wsp` files that are cut, damaged, or wrong under a right checksum.

use std::io::Write;
use std::process::Command;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use sha2::{Digest, Sha256};
use weightspace_core::container::{Coding, Header, WspFile, encode};
use weightspace_core::{DType, Tensor};

use super::{Case, Input, cases, golden};

/// Commands that decode a `.wsp` file.
pub const COMMANDS: [&str; 5] = [
    "decompress IN -o OUT",
    "verify IN",
    "diff IN IN",
    "eval IN --data digits",
    "verify IN --json",
];
/// Commands that only open it.
const OPENING: [&str; 3] = ["inspect IN", "decompress IN -o OUT", "verify IN"];
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 8;

/// A file that is well.
pub fn sound() -> Vec<u8> {
    static SOUND: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.wsp");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weightspace"));
        command.arg("compress").arg(golden("models/digits-mlp.pt")).arg("-q").arg("-o").arg(&path);
        assert!(command.output().unwrap().status.success());
        std::fs::read(path).unwrap()
    };
    SOUND.get_or_init(make).clone()
}

pub fn hostile() -> Vec<Case> {
    let mut all = cases(&OPENING, truncations());
    all.extend(cases(&OPENING, flips()));
    all.extend(cases(&OPENING, beginnings()));
    all.extend(cases(&OPENING, sections()));
    all.extend(cases(&COMMANDS, bombs()));
    all.extend(statements());
    all
}

/// Single bits flipped all over the file, with a checksum that is right: whatever they hit, the
/// program must not panic.
pub fn flipped() -> Vec<Case> {
    let body = body();
    let flip = |at: usize| {
        let mut bytes = body.clone();
        bytes[at] ^= 1 << (at % 8);
        (format!("bit {} of byte {at} flipped", at % 8), sealed(bytes))
    };
    let inputs: Vec<_> = (0..body.len()).step_by(body.len() / 150 + 1).map(flip).collect();
    cases(&COMMANDS, inputs)
}

/// The sound file without its checksum.
fn body() -> Vec<u8> {
    let mut bytes = sound();
    bytes.truncate(bytes.len() - CHECKSUM);
    bytes
}

/// The file of these bytes with the checksum that they should have.
fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let sum = Sha256::digest(&body);
    body.extend_from_slice(&sum[..CHECKSUM]);
    body
}

/// Ends of the header and of all sections.
fn borders() -> Vec<usize> {
    let file = WspFile::from_bytes("sound", sound()).unwrap();
    let ranges = file.sections().iter().map(|section| section.range.clone());
    ranges.flat_map(|range| [range.start - 1, range.start, range.end]).collect()
}

/// Cut at every border and beside it, with the checksum of the whole or one of its own.
fn truncations() -> Vec<(String, Vec<u8>)> {
    let (sound, body) = (sound(), body());
    let mut ends: Vec<usize> = borders().iter().flat_map(|&at| [at - 1, at, at + 1]).collect();
    ends.extend([4, 5, 6, 7, 8, 9, 12, 16, 20, body.len() - 1]);
    ends.retain(|&end| end < body.len());
    ends.sort_unstable();
    ends.dedup();
    let cut = ends.iter().map(|&end| (format!("cut to {end}"), sound[..end].to_vec()));
    let sealed = ends.iter().map(|&end| (format!("sealed at {end}"), sealed(body[..end].to_vec())));
    cut.chain(sealed).collect()
}

/// Single bits flipped, which the checksum betrays.
fn flips() -> Vec<(String, Vec<u8>)> {
    let sound = sound();
    let flip = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        (format!("byte {at} damaged"), bytes)
    };
    let inside = (4..sound.len()).step_by(sound.len() / 25);
    inside.chain(sound.len() - CHECKSUM..sound.len()).map(flip).collect()
}

/// Magic numbers, versions, methods and lengths of texts that do not exist.
fn beginnings() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut with = |at: usize, value: &[u8]| {
        let mut bytes = body();
        bytes[at..at + value.len()].copy_from_slice(value);
        all.push((format!("{value:02x?} at {at}"), sealed(bytes)));
    };
    for at in 0..4 {
        with(at, b"X");
    }
    for value in [0, 2, 3, 127, 255] {
        with(4, &[value]);
    }
    // Of the methods that there are, those that need sections of their own.
    for method in [1, 2, 4, 127, 255] {
        with(5, &[method]);
    }
    with(6, &[0xff; 10]);
    with(6, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    with(6, &[0x7f]);
    all
}

/// Sections that are missing, repeated, in another order, of unknown kinds, or of other lengths.
fn sections() -> Vec<(String, Vec<u8>)> {
    let file = WspFile::from_bytes("sound", sound()).unwrap();
    let body = body();
    // Kind and length stand before the content, behind the section before.
    let mut start = file.sections()[0].range.start;
    start -= 1 + varint_length(file.sections()[0].range.len());
    let header = &body[..start];
    let mut parts = Vec::new();
    for section in file.sections() {
        parts.push(&body[start..section.range.end]);
        start = section.range.end;
    }
    let file_of = |parts: &[&[u8]]| sealed([header, &parts.concat()].concat());
    let mut all = vec![("no sections".to_owned(), file_of(&[]))];
    for i in 0..parts.len() {
        let mut without = parts.clone();
        without.remove(i);
        all.push((format!("without section {i}"), file_of(&without)));
        let mut twice = parts.clone();
        twice.insert(i, parts[i]);
        all.push((format!("section {i} twice"), file_of(&twice)));
        for kind in [0, 4, 0xff] {
            let mut other = parts[i].to_vec();
            other[0] = kind;
            let mut changed = parts.clone();
            changed[i] = &other;
            all.push((format!("section {i} of kind {kind}"), file_of(&changed)));
        }
        let content = parts[i].len() - file.sections()[i].range.len();
        let lengths: [&[u8]; 3] = [&[0], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0x0f]];
        for length in lengths {
            let other = [&parts[i][..1], length, &parts[i][content..]].concat();
            let mut changed = parts.clone();
            changed[i] = &other;
            all.push((format!("section {i} of length {length:02x?}"), file_of(&changed)));
        }
    }
    let mut reversed = parts.clone();
    reversed.reverse();
    all.push(("sections in reverse".to_owned(), file_of(&reversed)));
    all
}

fn varint_length(value: usize) -> usize {
    let bits = usize::BITS - value.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

/// A table that inflates without end, and whatever else compression can hide.
fn bombs() -> Vec<(String, Vec<u8>)> {
    let file = WspFile::from_bytes("sound", sound()).unwrap();
    let table = file.sections()[0].range.clone();
    let body = body();
    let header = &body[..table.start - 1 - varint_length(table.len())];
    let with_table = |content: &[u8]| {
        let mut bytes = header.to_vec();
        bytes.push(1);
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(&body[table.end..]);
        sealed(bytes)
    };
    let deflated = |byte: u8, size: usize| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![byte; size]).unwrap();
        encoder.finish().unwrap()
    };
    let mut all = Vec::new();
    for byte in [0, 1, 0x7f, 0x80, 0xff] {
        for size in [0, 1, 100, 100 << 20] {
            let what = format!("a table that inflates to {size} bytes of {byte}");
            all.push((what, with_table(&deflated(byte, size))));
        }
    }
    all.push(("an empty table".to_owned(), with_table(&[])));
    all.push(("a table that is not deflated".to_owned(), with_table(b"\x07\x07\x07\x07\x07")));
    all
}

/// Sound files that say of their network what is not true.
fn statements() -> Vec<Case> {
    let weight = Tensor::from_f32(vec![10, 64], &[0.5; 640]);
    let bias = Tensor::from_f32(vec![10], &[0.0; 10]);
    let tensors =
        [("0.weight".to_owned(), Coding::Raw(weight)), ("0.bias".to_owned(), Coding::Raw(bias))];
    let evaluate = |header: Header| {
        let bytes = encode(&header, &tensors).unwrap();
        Case::new(format!("{header:?}"), Input::Bytes(bytes), "eval IN --data digits")
    };
    let archs = ["resnet20", "mlp:64-10-10", "nonsense", "mlp:64", "a\nb\u{1b}[31m", ":::"];
    let preprocessings = ["nonsense", "unit-pad", "unit-pad99999", "unit-pad4", "mean=1", "\n\n"];
    let arch = archs.map(|arch| evaluate(Header { arch: arch.into(), ..Header::default() }));
    let images = preprocessings
        .map(|text| evaluate(Header { preprocessing: text.into(), ..Header::default() }));
    let constants = encode(
        &Header::default(),
        &[(
            "x".to_owned(),
            Coding::Constant { dtype: DType::F32, shape: vec![1 << 16], value: 0.0.into() },
        )],
    );
    let constants =
        Case::new("a constant", Input::Bytes(constants.unwrap()), "eval IN --data digits");
    arch.into_iter().chain(images).chain([constants]).collect()
}
