//! Damaged and hostile `.wsp` files are refused with one line that names the file; none panics,
//! takes long or needs much memory.

mod mutations;
mod wsp_bytes;

use std::time::{Duration, Instant};

use mutations::mutants;
use weightspace_core::container::{self, Coding, Header, Number, Quantized};
use weightspace_core::{DType, StateDict, Tensor, WspError, WspFile};
use wsp_bytes::{assert_one_line, assert_refused, body, deflate, sealed, section, varint};

/// A small file with every kind of coding and section.
fn small() -> Vec<u8> {
    let quantized = |shape: &[usize], exponents| {
        let count = shape.iter().product::<usize>() as i32;
        Coding::Quantized(Quantized {
            shape: shape.to_vec(),
            scale: 0.5,
            channel_exponents: exponents,
            values: (0..count).map(|i| i * 7 % 5 - 2).collect(),
        })
    };
    let one = Number::Float(1.0);
    let tensors = [
        ("conv.weight".to_string(), quantized(&[2, 2, 3, 3], Some(vec![3, 9]))),
        ("bn.weight".into(), Coding::Constant { dtype: DType::F32, shape: vec![2], value: one }),
        ("bn.bias".into(), quantized(&[2], None)),
        ("raw".into(), Coding::Raw(Tensor::from_f32(vec![3], &[1.5, -2.0, 0.1]))),
    ];
    let header = Header { arch: "tiny".into(), ..Header::default() };
    container::encode(&header, &tensors).unwrap()
}

fn decode(bytes: Vec<u8>) -> Result<StateDict, WspError> {
    WspFile::from_bytes("some.wsp", bytes)?.state_dict()
}

/// Refused at once, with one line that names the file and says `reason`.
#[track_caller]
fn refused(bytes: Vec<u8>, reason: &str) {
    assert_refused(|| decode(bytes), reason);
}

#[test]
fn every_truncation_is_refused() {
    let file = small();
    for length in 0..file.len() {
        refused(file[..length].to_vec(), "");
    }
}

#[test]
fn every_bit_flip_is_refused() {
    let file = small();
    for bit in 0..8 * file.len() {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(flipped, "");
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let mut file = small();
    file.push(0);
    refused(file, "checksum");
}

#[test]
fn mutations_with_a_fitting_checksum_do_no_harm() {
    let file = small();
    let body = &file[..file.len() - 8];
    let start = Instant::now();
    let mutants = mutants(body, 1_000);
    let count = mutants.len();
    for mutant in mutants {
        if let Err(error) = decode(sealed(mutant)) {
            assert_one_line(&error);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{count} files: {:?}", start.elapsed());
}

/// A file of an empty header and these sections.
fn file(sections: &[Vec<u8>]) -> Vec<u8> {
    sealed(body(0, sections))
}

/// A file whose only section is this table.
fn file_of_table(table: &[u8]) -> Vec<u8> {
    file(&[section(1, &deflate(table))])
}

/// The table of one tensor: code, name, shape and what else its coding needs.
fn one(code: u8, name: &[u8], shape: &[u64], rest: &[u8]) -> Vec<u8> {
    let dimensions: Vec<u8> = shape.iter().flat_map(|&n| varint(n)).collect();
    let length = varint(name.len() as u64);
    let rank = [shape.len() as u8 + 1];
    [&[1, code, 0], &length[..], name, &rank, &dimensions, rest].concat()
}

/// Origin 0 and the scale of a quantised tensor.
fn scale(scale: f32) -> Vec<u8> {
    [&[0], &scale.to_le_bytes()[..]].concat()
}

#[test]
fn the_hand_made_files_are_what_they_seem() {
    let table = one(0x20, b"a", &[2], &scale(1.0));
    let dict = decode(file(&[section(1, &deflate(&table)), section(2, &[])])).unwrap();
    assert_eq!(dict.get("a").unwrap().shape(), [2]);
    assert!(decode(file_of_table(&[0])).unwrap().is_empty());
}

#[test]
fn unknown_things_are_refused() {
    let with = |at: usize, byte| {
        let mut body = small();
        body.truncate(body.len() - 8);
        body[at] = byte;
        sealed(body)
    };
    refused(with(0, b'P'), "not a .wsp file");
    refused(with(4, 2), "version 2");
    refused(with(5, 200), "unknown method 200");
    refused(file(&[section(1, &deflate(&[0])), section(9, &[])]), "unknown kind 9");
    refused(file_of_table(&one(0xf0, b"a", &[1], &[])), "unknown coding 15");
    refused(file_of_table(&one(0x0d, b"a", &[1], &[])), "unknown element type 13");
}

#[test]
fn sections_that_do_not_fit_the_table_are_refused() {
    let none = section(1, &deflate(&[0]));
    let two = section(1, &deflate(&one(0x20, b"a", &[2], &scale(1.0))));
    let raw = section(1, &deflate(&one(0x00, b"a", &[2], &[])));
    refused(file(&[]), "not one table");
    refused(file(&[none.clone(), none.clone()]), "not one table");
    refused(file(&[section(2, &[]), two.clone()]), "not one table");
    refused(file(std::slice::from_ref(&two)), "0 sections of symbols, expected 1");
    refused(file(&[none.clone(), section(2, &[])]), "1 sections of symbols, expected 0");
    refused(file(&[none, section(3, &[0])]), "1 raw sections, expected 0");
    refused(file(std::slice::from_ref(&raw)), "0 raw sections, expected 1");
    refused(file(&[raw.clone(), section(3, &[])]), "neither stored nor deflated");
    refused(file(&[raw.clone(), section(3, &[0; 8])]), "cannot hold 8 bytes");
    refused(file(&[raw.clone(), section(3, &[2; 9])]), "neither stored nor deflated");
    let short = [&[1], &deflate(&[0; 7])[..]].concat();
    refused(file(&[raw.clone(), section(3, &short)]), "holds 7 bytes");
    let long = [&[1], &deflate(&[0; 9])[..]].concat();
    refused(file(&[raw.clone(), section(3, &long)]), "more than 8 bytes");
    let trailing = [&[1], &deflate(&[0; 8])[..], &[0]].concat();
    refused(file(&[raw, section(3, &trailing)]), "follow the deflated data");
    let longer = [&[1], &varint(1 << 60)[..]].concat();
    refused(file(&[longer]), "a section's length");
}

#[test]
fn impossible_tensors_are_refused() {
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(file_of_table(&one(0x20, b"a", &[0], &scale(bad))), "not positive and finite");
    }
    refused(file_of_table(&one(0x20, b"", &[0], &scale(1.0))), "empty name");
    refused(file_of_table(&one(0x20, b"\xff", &[0], &scale(1.0))), "not UTF-8");
    refused(file_of_table(&one(0x21, b"a", &[0], &scale(1.0))), "not f64");
    refused(file_of_table(&one(0x30, b"a", &[], &scale(1.0))), "scalar");
    refused(file_of_table(&one(0x20, b"a", &[0; 9], &scale(1.0))), "9 dimensions");
    refused(file_of_table(&one(0x20, b"a", &[0], &[25, 0, 0, 0x80, 0x3f])), "origin 25");
    refused(file_of_table(&one(0x20, b"a", &[1 << 41], &scale(1.0))), "a dimension");
    refused(file_of_table(&one(0x20, b"a", &[1 << 40; 4], &scale(1.0))), "too many elements");
    refused(file_of_table(&one(0x20, b"a", &[0], &[0, 0])), "the column of scales");
    refused(file_of_table(&one(0x00, b"a", &[0], &[7])), "follow the last column");
    refused(file_of_table(&[1, 0, 5, 1, b'a', 1]), "shares 5 bytes");
    refused(file_of_table(&[1, 0, 0, 1, b'a', 0]), "shape of a weight before it");
    refused(file_of_table(&[2, 0, 0, 0, 1, 1, 0, b'a', 1, 1]), "two tensors are named \"a\"");
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    refused(file_of_table(&vec![0; 64 << 20]), "the table inflates to more than");
    refused(file_of_table(&varint(1 << 40)), "the number of tensors");
    let huge = section(1, &deflate(&one(0x20, b"a", &[1 << 39], &scale(1.0))));
    refused(file(&[huge, section(2, &[])]), "expected 524288");
    let large = section(1, &deflate(&one(0x20, b"a", &[70_000], &scale(1.0))));
    refused(file(&[large, section(2, &[1])]), "cannot cover 70000 symbols");
    let raw = section(1, &deflate(&one(0x00, b"a", &[1 << 20], &[])));
    refused(file(&[raw, section(3, &[1; 100])]), "cannot hold 4194304 bytes");
    let constant = one(0x10, b"a", &[(1 << 16) + 1], &[0; 4]);
    refused(file_of_table(&constant), "a constant of 65537 elements");
    // Names that each share 4,095 bytes with the one before.
    let count = 1 << 14;
    let mut table = varint(count);
    table.extend(vec![0x20; count as usize]);
    table.push(0);
    (1..count).for_each(|_| table.extend(varint(4_094)));
    table.extend(varint(4_096));
    (1..count).for_each(|_| table.push(2));
    table.extend(vec![b'a'; 4_096]);
    (1..count as u16)
        .for_each(|i| table.extend([b'!' + (i & 63) as u8, b'!' + (i >> 6 & 63) as u8]));
    refused(file_of_table(&table), "too long");
}

#[test]
fn exponents_out_of_range_are_refused() {
    // Arbitrary bytes decode to something; exponents beyond 255 must not get through.
    let table = section(1, &deflate(&one(0x30, b"a", &[60, 1], &scale(1.0))));
    let refusals =
        (0..=255u8).filter(|&byte| match decode(file(&[table.clone(), section(2, &[byte; 40])])) {
            Ok(dict) => {
                assert_eq!(dict.get("a").unwrap().element_count(), 60);
                false
            }
            Err(error) => error.to_string().contains("a channel exponent is "),
        });
    assert!(refusals.count() > 20);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let refuse = |name: &str, coding: Coding, reason: &str| {
        let error = container::encode(&Header::default(), &[(name.into(), coding)]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(reason) && !message.contains('\n'), "{message}");
    };
    let good =
        Quantized { shape: vec![2], scale: 1.0, channel_exponents: None, values: vec![1; 2] };
    let quantized = |change: fn(&mut Quantized)| {
        let mut bad = good.clone();
        change(&mut bad);
        Coding::Quantized(bad)
    };
    refuse("", quantized(|_| ()), "empty");
    refuse("a", quantized(|q| q.scale = f32::NAN), "not positive");
    refuse("a", quantized(|q| q.values.push(1)), "3 values");
    refuse("a", quantized(|q| q.values[0] = 1 << 24), "2^24");
    refuse("a", quantized(|q| q.values[0] = i32::MIN), "2^24");
    refuse("a", quantized(|q| q.channel_exponents = Some(vec![1])), "1 channel exponents");
    let constant = |value| Coding::Constant { dtype: DType::U8, shape: vec![1 << 20], value };
    refuse("a", constant(Number::Integer(256)), "no value of type u8");
    refuse("a", constant(Number::Integer(1)), "too large");
    let twice = [("a".to_string(), quantized(|_| ())), ("a".to_string(), quantized(|_| ()))];
    assert!(container::encode(&Header::default(), &twice).is_err());
}
