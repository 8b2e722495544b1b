//! Pickles that call functions, multiply, or break off; nothing of them may ever run.

use std::fs;

use super::{Case, OPENING, READING, cases, golden};

pub fn hostile() -> Vec<Case> {
    let mut opening = calls();
    opening.extend(bare());
    opening.extend(truncations("checkpoints/module-legacy.pth"));
    opening.extend(truncations("checkpoints/training-legacy.th"));
    let mut all = cases(&OPENING, opening);
    all.extend(cases(&READING, truncations("checkpoints/protocol4-legacy.pth")));
    all
}

/// A legacy checkpoint in which PyTorch's function that rebuilds tensors is another one.
fn calls() -> Vec<(String, Vec<u8>)> {
    let original = fs::read(golden("checkpoints/training-legacy.th")).unwrap();
    let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n";
    let at = original.windows(rebuild.len()).position(|window| window == rebuild).unwrap();
    let functions = [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("__builtin__", "apply"),
        ("runpy", "_run_code"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("", ""),
        ("os\u{1b}[31m", "system"),
    ];
    let replaced = |(module, name): (&str, &str)| {
        let global = format!("c{module}\n{name}\n");
        let bytes = [&original[..at], global.as_bytes(), &original[at + rebuild.len()..]].concat();
        (format!("{module}.{name} for a tensor"), bytes)
    };
    functions.map(replaced).into()
}

/// Pickles without anything around them.
fn bare() -> Vec<(String, Vec<u8>)> {
    let pickles: [(&str, Vec<u8>); 9] = [
        ("a call of os.system", b"cos\nsystem\n(S'touch owned'\ntR.".to_vec()),
        ("a call in protocol 2", b"\x80\x02cposix\nsystem\nX\x0b\0\0\0touch owned\x85R.".to_vec()),
        ("a call in protocol 4", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.".to_vec()),
        ("an object that is built", b"\x80\x02cos\n_Environ\n)\x81}b.".to_vec()),
        ("an empty stack", b"\x80\x02.".to_vec()),
        ("an endless memo", b"\x80\x02r\xff\xff\xff\xff.".to_vec()),
        ("a string of 4 GB", b"\x80\x02X\xff\xff\xff\xff.".to_vec()),
        ("a string of 2^64 bytes", b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.".to_vec()),
        ("a tower of lists", [&b"\x80\x02"[..], &b"]".repeat(1 << 20), b"."].concat()),
    ];
    pickles.map(|(what, bytes)| (what.to_owned(), bytes)).into()
}

/// A legacy file cut at eight places, from its magic number to its last byte.
fn truncations(name: &'static str) -> impl Iterator<Item = (String, Vec<u8>)> {
    let bytes = fs::read(golden(name)).unwrap();
    let end = bytes.len() - 1;
    (0..8).map(move |i| {
        let cut = 2 + (end - 2) * i / 7;
        (format!("{name} cut to {cut} bytes"), bytes[..cut].to_vec())
    })
}
