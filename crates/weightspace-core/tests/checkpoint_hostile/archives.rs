//! Zip archives that lie: about sizes, checksums, places and what is in them.

use std::io::Write;

use super::pickles::checkpoint;
use super::{Hostile, all_are_refused, try_to_read};

/// A member as its headers describe it, truly or not.
#[derive(Clone)]
struct Member {
    name: Vec<u8>,
    data: Vec<u8>,
    method: u16,
    flags: u16,
    size: u32,
    stored_size: u32,
    crc: u32,
    /// Where the directory says the member is, if not where it is.
    offset: Option<u32>,
}

impl Member {
    fn stored(name: &str, data: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let size = data.len() as u32;
        let (name, data) = (name.as_bytes().to_vec(), data.to_vec());
        Member {
            name,
            data,
            method: 0,
            flags: 0,
            size,
            stored_size: size,
            crc: crc.sum(),
            offset: None,
        }
    }

    fn deflated(name: &str, data: &[u8]) -> Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Default::default());
        encoder.write_all(data).unwrap();
        let compressed = encoder.finish().unwrap();
        let stored_size = compressed.len() as u32;
        Member { data: compressed, method: 8, stored_size, ..Member::stored(name, data) }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The archive of these members.
fn zip(members: &[Member]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let start = bytes.len() as u32;
        let mut common = Vec::new();
        common.extend([20, 0]);
        common.extend(member.flags.to_le_bytes());
        common.extend(member.method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(member.crc.to_le_bytes());
        common.extend(member.stored_size.to_le_bytes());
        common.extend(member.size.to_le_bytes());
        common.extend((member.name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(&member.name);
        bytes.extend(&member.data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(member.offset.unwrap_or(start).to_le_bytes());
        directory.extend(&member.name);
    }
    let (start, count) = (bytes.len() as u32, members.len() as u16);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

fn npy(shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}");
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn array() -> Vec<u8> {
    npy("(8,)", &[1, 2, 3, 4, 5, 6, 7, 8])
}

#[test]
fn intact_archives_are_accepted() {
    let stored = zip(&[Member::stored("a.npy", &array()), Member::stored("b.npy", &array())]);
    let deflated = zip(&[Member::deflated("a.npy", &array()), Member::deflated("b.npy", &array())]);
    let stored = try_to_read("stored", &stored).unwrap();
    assert_eq!(stored, try_to_read("deflated", &deflated).unwrap());
    assert_eq!(stored.get("b").unwrap().bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn archives_that_lie() {
    let (stored, deflated) =
        (|| Member::stored("a.npy", &array()), || Member::deflated("a.npy", &array()));
    let other = || Member::stored("b.npy", &array());
    let mut table = Vec::new();
    for (what, member, message) in [
        ("wrong checksum", stored().with(|m| m.crc ^= 1), "checksum"),
        ("wrong checksum, deflated", deflated().with(|m| m.crc ^= 1), "checksum"),
        ("encrypted", stored().with(|m| m.flags = 1), "encrypted"),
        ("bzip2", stored().with(|m| m.method = 12), "BZIP2"),
        ("method 77", stored().with(|m| m.method = 77), "77"),
        ("larger than stored", stored().with(|m| m.size += 1), "claims"),
        ("smaller than stored", stored().with(|m| m.size -= 1), "claims"),
        ("size of everything", stored().with(|m| m.size = u32::MAX - 1), "claims"),
        ("stored beyond the end", stored().with(|m| m.stored_size = u32::MAX - 1), "zip member"),
        ("inflates to more", deflated().with(|m| m.size -= 1), "needs 8"),
        ("inflates to less", deflated().with(|m| m.size += 1), "expected 8"),
        ("inflates to 4 GB", deflated().with(|m| m.size = u32::MAX - 1), "claims to inflate"),
        ("broken deflate", deflated().with(|m| m.data.fill(0xff)), "zip member"),
        ("nowhere", stored().with(|m| m.offset = Some(u32::MAX - 1)), "zip member"),
        ("in the middle", stored().with(|m| m.offset = Some(3)), "zip member"),
        ("a name that is not UTF-8", stored().with(|m| m.name[0] = 0xff), "UTF-8"),
        ("a long name", stored().with(|m| m.name = vec![b'a'; 5000]), "name has 5000 bytes"),
        ("not an array", Member::stored("a.npy", b"hello"), "is not an npy array"),
        ("no bytes", Member::stored("a.npy", b""), "is not an npy array"),
        ("another kind of file", Member::stored("a.txt", b"hello"), "neither"),
        ("a control name", Member::stored("\x1b[2J\n.npy", b"hello"), r"\u{1b}[2J\n"),
        ("a huge shape", Member::stored("a.npy", &npy("(99999999999,)", &[0])), "needs"),
        ("a huge scalar", Member::stored("a.npy", &npy("(1,)", &[0; 9])), "expected 1"),
    ] {
        table.push(Hostile::new(what, zip(&[member, other()]), message));
    }
    table.push(Hostile::new("twice the same", zip(&[stored(), stored()]), "twice"));
    let elsewhere = zip(&[stored(), other().with(|m| m.offset = Some(0))]);
    table.push(Hostile::new("at the place of another", elsewhere, "another name"));
    let around = |m: &mut Member| {
        m.size += 30 + 5 + array().len() as u32;
        m.stored_size = m.size;
    };
    let overlapping = zip(&[stored().with(around), other()]);
    table.push(Hostile::new("around another", overlapping, "overlap"));
    let mut trailing = zip(&[stored()]);
    let at = trailing.len() - 6;
    trailing[at..at + 4].fill(0x77);
    table.push(Hostile::new("no directory", trailing, "zip"));
    table.push(Hostile::new("only a signature", b"PK\x03\x04".to_vec(), "zip"));
    table.push(Hostile::new("only an end", zip(&[])[..21].to_vec(), "zip"));
    all_are_refused(table);
}

#[test]
fn bombs() {
    // A megabyte that inflates a thousandfold, and a quine-like pile of members at one place.
    let zeros = npy("(1000000000,)", &vec![0; 1_000_000_000 / 8]);
    let bomb = Member::deflated("a.npy", &zeros).with(|m| m.size = 1_000_000_000 + 75);
    let first = Member::stored("0.npy", &array());
    let pile: Vec<_> = (0..60_000)
        .map(|i| {
            first.clone().with(|m| {
                m.name = format!("{i}.npy").into_bytes();
                m.data.clear();
                m.offset = Some(0);
            })
        })
        .collect();
    let many: Vec<_> = (0..1500)
        .map(|i| Member::deflated(&format!("{i}.npy"), &npy("(100000,)", &[0; 100_000])))
        .collect();
    all_are_refused(vec![
        Hostile::new("a bomb", zip(&[bomb]), "claims to inflate"),
        Hostile::new("a pile", zip(&[&[first][..], &pile].concat()), "zip"),
        Hostile::new("many small bombs", zip(&many), "plausible"),
    ]);
}

/// An archive of `torch.save` with this pickle.
fn torch(pickle: &[u8], more: &[Member]) -> Vec<u8> {
    let mut members = vec![Member::stored("x/data.pkl", pickle)];
    members.extend_from_slice(more);
    zip(&members)
}

#[test]
fn archives_of_pytorch_that_lie() {
    let storage = || Member::stored("x/data/0", &[0; 16]);
    let pickle = checkpoint();
    let intact = torch(&pickle, &[storage(), Member::stored("x/byteorder", b"little")]);
    assert_eq!(try_to_read("intact", &intact).unwrap().element_count(), 4);

    let compressed =
        zip(&[Member::deflated("x/data.pkl", &pickle), Member::stored("x/data/0", &[0; 16])]);
    let mut table = vec![Hostile::new("a compressed pickle", compressed, "is compressed")];
    for (what, members, message) in [
        ("no storage", vec![], "is in storage \"0\", which is missing"),
        ("a short storage", vec![Member::stored("x/data/0", &[0; 15])], "needs 16 bytes"),
        ("another storage", vec![Member::stored("x/data/1", &[0; 16])], "missing"),
        ("a storage elsewhere", vec![Member::stored("y/data/0", &[0; 16])], "missing"),
        ("a compressed storage", vec![Member::deflated("x/data/0", &[0; 16])], "is compressed"),
        ("a wrong checksum", vec![storage().with(|m| m.crc ^= 1)], "checksum"),
        ("big-endian", vec![storage(), Member::stored("x/byteorder", b"big")], "little-endian"),
        ("a program", vec![storage(), Member::stored("x/constants.pkl", b"")], "TorchScript"),
        ("a storage twice", vec![storage(), storage()], "twice"),
    ] {
        table.push(Hostile::new(what, torch(&pickle, &members), message));
    }
    table.push(Hostile::new("an empty pickle", torch(b"", &[storage()]), "ends early"));
    table.push(Hostile::new("no pickle", torch(b"\x80\x02.", &[storage()]), "stack"));
    all_are_refused(table);
}
