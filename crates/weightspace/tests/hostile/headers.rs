//! safetensors and npy files whose headers lie.

use super::{Case, OPENING, cases};

/// A safetensors file of this header and 16 bytes of data.
pub fn safetensors(header: &str) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&[0; 16]);
    bytes
}

/// One tensor of such a header.
pub fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

pub fn hostile() -> Vec<Case> {
    let mut inputs = entries();
    inputs.extend(structures());
    inputs.extend(lengths());
    inputs.extend(npy());
    cases(&OPENING, inputs)
}

/// Types, shapes and offsets that do not agree with each other or with the data.
fn entries() -> Vec<(String, Vec<u8>)> {
    let cases = [
        ("F32", "[2,2]", "[0,12]"),
        ("F32", "[2,2]", "[0,20]"),
        ("F32", "[2,2]", "[4,20]"),
        ("F32", "[2,2]", "[16,0]"),
        ("F32", "[2,2]", "[0,0]"),
        ("F32", "[2,3]", "[0,16]"),
        ("F64", "[2,2]", "[0,16]"),
        ("F32", "[]", "[0,16]"),
        ("F32", "[0]", "[0,16]"),
        ("F32", "[4611686018427387905,4]", "[0,16]"),
        ("F32", "[0,4611686018427387904,8]", "[0,16]"),
        ("F64", "[18446744073709551615]", "[0,16]"),
        ("F32", "[99999999999999999999]", "[0,16]"),
        ("F32", "[2,-2]", "[0,16]"),
        ("F32", "[2.5]", "[0,16]"),
        ("F32", "[1e99]", "[0,16]"),
        ("F32", "null", "[0,16]"),
        ("F32", "[2,2]", "[0]"),
        ("F32", "[2,2]", "[-1,15]"),
        ("F32", "[2,2]", "[0,18446744073709551615]"),
        ("F32", "[2,2]", "[18446744073709551615,16]"),
        ("F32", "[2,2]", "null"),
        ("F8_E4M3", "[16]", "[0,16]"),
        ("\\u0000\\u001b[31m", "[2,2]", "[0,16]"),
        ("", "[2,2]", "[0,16]"),
    ];
    let file = |(dtype, shape, offsets)| {
        (
            format!("{dtype} {shape} at {offsets}"),
            format!("{{{}}}", entry("a", dtype, shape, offsets)),
        )
    };
    cases.map(file).map(|(what, header)| (what, safetensors(&header))).into()
}

/// Headers that are not what JSON or the format demand, or name tensors that overlap.
fn structures() -> Vec<(String, Vec<u8>)> {
    let a = entry("a", "U8", "[8]", "[0,8]");
    let with = |b: String| format!("{{{a},{b}}}");
    let cases = [
        ("beyond the end", with(entry("b", "U8", "[8]", "[8,17]"))),
        ("overlapping by one", with(entry("b", "U8", "[9]", "[7,16]"))),
        ("the same place", with(entry("b", "U8", "[8]", "[0,8]"))),
        ("a hole", with(entry("b", "U8", "[7]", "[9,16]"))),
        ("one name twice", with(entry("a", "U8", "[8]", "[8,16]"))),
        ("a name of control characters", with(entry("b\\n\\u001b", "U8", "[9]", "[8,16]"))),
        ("data that no tensor has", format!("{{{a}}}")),
        ("an open end", format!("{{{a},")),
        ("a brace too many", format!("{{{a}}}}}")),
        ("one brace", "{".to_owned()),
        ("no tensors", "{}".to_owned()),
        ("a number", r#"{"a":1}"#.to_owned()),
        ("an empty entry", r#"{"a":{}}"#.to_owned()),
        ("metadata of numbers", r#"{"__metadata__":{"a":1}}"#.to_owned()),
        ("deep nesting", format!(r#"{{"a":{}{}}}"#, "[".repeat(1 << 18), "]".repeat(1 << 18))),
        ("deep objects", format!(r#"{{"a":{}"#, r#"{"x":"#.repeat(1 << 16))),
        ("a long name", format!(r#"{{"{}":0}}"#, "a".repeat(1 << 20))),
        ("a long type", format!(r#"{{"a":{{"dtype":"{}"}}}}"#, "b".repeat(1 << 20))),
        ("a long shape", format!(r#"{{"a":{{"shape":[{}0]}}}}"#, "0,".repeat(1 << 20))),
        ("many entries", format!("{{{a}{}}}", ",\"x\":[]".repeat(1 << 18))),
    ];
    cases.map(|(what, header)| (what.to_owned(), safetensors(&header))).into()
}

/// Lengths of the header that the file does not have, and the file cut everywhere that matters.
fn lengths() -> Vec<(String, Vec<u8>)> {
    let whole = safetensors(&format!("{{{}}}", entry("a", "F32", "[2,2]", "[0,16]")));
    let header = whole.len() - 24;
    let lengths = [0, 1, header - 1, header + 1, header + 16, header + 17, 1 << 40, usize::MAX];
    let lying = lengths.map(|length| {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&(length as u64).to_le_bytes());
        (format!("a header of {length} bytes"), bytes)
    });
    let cuts = [1, 7, 8, 9, 8 + header / 2, 8 + header - 1, 8 + header, whole.len() - 1];
    let cut = cuts.map(|end| (format!("cut to {end} bytes"), whole[..end].to_vec()));
    let mut invalid = whole.clone();
    invalid[10] = 0xff;
    let mut longer = whole.clone();
    longer.push(0);
    let others = [("a header that is not UTF-8", invalid), ("a byte too many", longer)];
    lying.into_iter().chain(cut).chain(others.map(|(what, b)| (what.to_owned(), b))).collect()
}

/// npy files of malformed headers.
fn npy() -> Vec<(String, Vec<u8>)> {
    let dict = |descr: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
    };
    let headers = [
        dict("'|O'", "(4,)"),
        dict("'<c8'", "(2,)"),
        dict("'<f4'", "(5,)"),
        dict("'<f4'", "(-4,)"),
        dict("'<f4'", "(18446744073709551616,)"),
        dict("'<f4'", "(4611686018427387904, 4611686018427387904)"),
        dict("__import__('os').system('touch owned')", "(4,)"),
        dict("[('a', '<f4')]", "(4,)"),
        format!("{}{}", "(".repeat(1000), ")".repeat(1000)),
        String::new(),
    ];
    let file = |header: String| {
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend([0; 16]);
        (format!("npy {header:.60}"), bytes)
    };
    headers.map(file).into()
}
