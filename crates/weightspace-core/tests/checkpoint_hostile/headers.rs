//! safetensors and npy files with malformed headers.

use super::{Hostile, all_are_refused, try_to_read};

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

#[test]
fn the_intact_header_is_accepted() {
    let header = format!("{{{}}}", entry("a", "F32", "[2,2]", "[0,16]"));
    assert_eq!(try_to_read("intact", &safetensors(&header, 16)).unwrap().element_count(), 4);
}

#[test]
fn malformed_safetensors_entries() {
    let absurd = u64::MAX.to_string();
    let rank = format!("[{}]", vec!["1"; 1000].join(","));
    let mut table = Vec::new();
    for (dtype, shape, offsets, message) in [
        ("F32", "[2,2]", "[0,12]", "cover 12 of 16"),
        ("F32", "[2,2]", "[0,20]", "lies at"),
        ("F32", "[2,2]", "[4,20]", "lies at"),
        ("F32", "[2,2]", "[4,16]", "lies at"),
        ("F32", "[2,2]", "[16,0]", "lies at"),
        ("F32", "[2,2]", "[0,0]", "cover 0 of 16"),
        ("F32", "[2,2]", "[0,8]", "cover 8 of 16"),
        ("F32", "[2,3]", "[0,16]", "16 bytes of data"),
        ("F64", "[2,2]", "[0,16]", "16 bytes of data"),
        ("F16", "[2,2]", "[0,16]", "16 bytes of data"),
        ("F32", "[]", "[0,16]", "16 bytes of data"),
        ("F32", "[0]", "[0,16]", "16 bytes of data"),
        ("F32", "[4611686018427387905,4]", "[0,16]", "16 bytes of data"),
        ("F32", "[0,4611686018427387904,8]", "[0,16]", "16 bytes of data"),
        ("F32", "[2,-2]", "[0,16]", "malformed"),
        ("F32", "[2.5]", "[0,16]", "malformed"),
        ("F32", "[1e99]", "[0,16]", "malformed"),
        ("F32", "\"2\"", "[0,16]", "malformed"),
        ("F32", "null", "[0,16]", "malformed"),
        ("F32", "[[2],2]", "[0,16]", "malformed"),
        ("F32", "[99999999999999999999]", "[0,16]", "malformed"),
        ("F32", rank.as_str(), "[0,16]", "dimensions"),
        ("F32", "[2,2]", "[0]", "malformed"),
        ("F32", "[2,2]", "[0,8,16]", "malformed"),
        ("F32", "[2,2]", "[-1,15]", "malformed"),
        ("F32", "[2,2]", "[0,18446744073709551615]", "lies at"),
        ("F32", "[2,2]", "[18446744073709551615,16]", "lies at"),
        ("F32", "[2,2]", "null", "malformed"),
        ("F8_E4M3", "[16]", "[0,16]", "F8_E4M3"),
        ("C64", "[2]", "[0,16]", "C64"),
        ("f32", "[2,2]", "[0,16]", "not supported"),
        ("\\u0000\\u001b[31m", "[2,2]", "[0,16]", "not supported"),
        ("", "[2,2]", "[0,16]", "not supported"),
    ] {
        let header = format!("{{{}}}", entry("a", dtype, shape, offsets));
        table.push(Hostile::new(header.clone(), safetensors(&header, 16), message));
    }
    for dimension in [absurd.as_str(), "4611686018427387904", "9223372036854775807"] {
        let header = format!("{{{}}}", entry("a", "F64", &format!("[{dimension}]"), "[0,16]"));
        table.push(Hostile::new(header.clone(), safetensors(&header, 16), "16 bytes of data"));
    }
    all_are_refused(table);
}

#[test]
fn malformed_safetensors_headers() {
    let a = entry("a", "U8", "[8]", "[0,8]");
    let mut table = Vec::new();
    for (header, message) in [
        (format!("{{{a},{}}}", entry("b", "U8", "[8]", "[8,17]")), "lies at"),
        (format!("{{{a},{}}}", entry("b", "U8", "[9]", "[7,16]")), "lies at"),
        (format!("{{{a},{}}}", entry("b", "U8", "[8]", "[0,8]")), "lies at"),
        (format!("{{{a},{}}}", entry("b", "U8", "[7]", "[9,16]")), "lies at"),
        (format!("{{{a},{}}}", entry("a", "U8", "[8]", "[8,16]")), "two tensors are named"),
        (format!("{{{a},{}}}", entry("b\\n\\u001b", "U8", "[9]", "[8,16]")), r"b\n\u{1b}"),
        (format!("{{{a}}}"), "cover 8 of 16"),
        (format!("{{{a},"), "malformed"),
        (format!("{{{a}}}}}"), "malformed"),
        (format!("{{{a}}} x"), "malformed"),
        ("{".to_owned(), "malformed"),
        ("{}".to_owned(), "cover 0 of 16"),
        ("{]".to_owned(), "malformed"),
        (r#"{"a":1}"#.to_owned(), "malformed"),
        (r#"{"a":null}"#.to_owned(), "malformed"),
        (r#"{"a":{}}"#.to_owned(), "malformed"),
        (r#"{"a":{"dtype":"U8"}}"#.to_owned(), "malformed"),
        (
            r#"{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}"#.to_owned(),
            "malformed",
        ),
        (r#"{"__metadata__":{"a":1}}"#.to_owned(), "malformed"),
        (r#"{"__metadata__":[]}"#.to_owned(), "malformed"),
        (format!(r#"{{"a":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20)), "malformed"),
        (format!(r#"{{"a":{}"#, r#"{"x":"#.repeat(1 << 18)), "malformed"),
        (format!(r#"{{"{}":0}}"#, "a".repeat(1 << 20)), "malformed"),
        (format!(r#"{{"a":"{}"}}"#, "b".repeat(1 << 20)), "malformed"),
        (format!(r#"{{"a":{{"dtype":"{}"}}}}"#, "b".repeat(1 << 20)), "malformed"),
        (format!(r#"{{"a":{{"dtype":"U8","shape":[{}0]}}}}"#, "0,".repeat(1 << 21)), "malformed"),
        (format!("{{{a}{}}}", ",\"x\":[]".repeat(1 << 20)), "malformed"),
    ] {
        let what: String = header.chars().take(100).collect();
        table.push(Hostile::new(what, safetensors(&header, 16), message));
    }
    let many: Vec<_> = (0..140_000).map(|i| entry(&i.to_string(), "U8", "[0]", "[0,0]")).collect();
    let many = safetensors(&format!("{{{}}}", many.join(",")), 0);
    table.push(Hostile::new("very many tensors", many, "more than 131072 tensors"));

    let mut invalid = safetensors(&format!("{{{a}}}"), 8);
    invalid[10] = 0xff;
    table.push(Hostile::new("a header that is not UTF-8", invalid, "malformed"));
    for length in [17, 1 << 24, (1 << 24) + 1, 1 << 32, 1 << 63, u64::MAX] {
        let mut bytes = safetensors("{}", 6);
        bytes[..8].copy_from_slice(&u64::to_le_bytes(length));
        table.push(Hostile::new(format!("length {length}"), bytes, "header"));
    }
    all_are_refused(table);
}

#[test]
fn truth_values_other_than_0_and_1() {
    let mut bytes = safetensors(&format!("{{{}}}", entry("a", "BOOL", "[2]", "[0,2]")), 2);
    *bytes.last_mut().unwrap() = 2;
    all_are_refused(vec![Hostile::new("a boolean 2", bytes, "neither 0 nor 1")]);
}

fn npy(version: u8, header: &str, data: usize) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn malformed_npy_headers() {
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")
    };
    assert!(try_to_read("intact", &npy(1, &header("'<f4'", "(2, 2)"), 16)).is_ok());
    assert!(try_to_read("intact", &npy(3, &header("'<f4'", "(2, 2)"), 16)).is_ok());
    let mut table = Vec::new();
    for (descr, shape, message) in [
        ("'|O'", "(2,)", "not numbers"),
        ("'<c8'", "(2,)", "not numbers"),
        ("'<U4'", "(1,)", "not numbers"),
        ("'<f3'", "(2,)", "not numbers"),
        ("''", "(2,)", "not numbers"),
        ("'é4'", "(2,)", "not numbers"),
        ("[('x', '<f4')]", "(4,)", "structured"),
        ("'<f4'", "(3,)", "expected 12"),
        ("'<f4'", "(5,)", "needs 20 bytes"),
        ("'<f4'", "(4611686018427387905, 4)", "impossible"),
        ("'<f4'", "(0, 4611686018427387905, 4)", "impossible"),
        ("'<f4'", "(18446744073709551616,)", "no size"),
        ("'<f4'", "(-4,)", "no size"),
        ("'<f4'", "(4.0,)", "without ')'"),
        ("'<f4'", "((4,),)", "no size"),
        ("'<f4'", "4", "without '('"),
        ("'<f4'", "(4", "without ')'"),
        ("'<f4'", "__import__('os').system('true')", "without '('"),
        (
            "'<f4'",
            "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4)",
            "dimensions",
        ),
    ] {
        let header = header(descr, shape);
        table.push(Hostile::new(header.clone(), npy(1, &header, 16), message));
    }
    for version in [0, 4, 255] {
        table.push(Hostile::new(
            "a version",
            npy(version, &header("'<f4'", "(4,)"), 16),
            "version",
        ));
    }
    let long = " ".repeat(1 << 20) + &header("'<f4'", "(4,)");
    table.push(Hostile::new("a long header", npy(2, &long, 16), "npy header"));
    let mut endless = npy(2, &header("'<f4'", "(4,)"), 16);
    endless[8..12].fill(0xff);
    table.push(Hostile::new("an endless header", endless, "npy header"));
    let brackets = npy(1, &"{".repeat(900), 0);
    table.push(Hostile::new("nested brackets", brackets, "npy header"));
    all_are_refused(table);
}
