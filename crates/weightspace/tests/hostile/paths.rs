//! Paths at which there is no model.

use std::path::Path;

use super::{Case, Input, OPENING, cases, golden};

const COMMANDS: [&str; 6] = [
    "inspect IN",
    "compress IN -o OUT",
    "decompress IN -o OUT",
    "verify IN",
    "eval IN --data digits",
    "diff GOOD IN",
];

pub fn hostile() -> Vec<Case> {
    let mut all = cases(&OPENING, files_of_other_kinds());
    for command in COMMANDS {
        all.push(Case::new("an empty file", Input::Bytes(Vec::new()), command));
        all.push(Case::new("an empty folder", Input::Folder(Vec::new()), command));
        all.push(Case::new("nothing", Input::Made(|_| {}), command));
        #[cfg(unix)]
        all.extend(unix(command));
    }
    all.extend(folders());
    all.push(Case::new("an output without a folder", golden_mlp(), "compress IN -o hostile/x/out"));
    all.push(Case::new(
        "an output that is a folder",
        golden_mlp(),
        "compress IN -f -o ../hostile/..",
    ));
    all
}

fn golden_mlp() -> Input {
    Input::Bytes(std::fs::read(golden("models/digits-mlp.pt")).unwrap())
}

#[cfg(unix)]
fn unix(command: &str) -> Vec<Case> {
    let pipe = |path: &Path| {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let circle = |path: &Path| std::os::unix::fs::symlink(path, path).unwrap();
    vec![
        Case::new("an endless device", Input::Path("/dev/zero".into()), command),
        Case::new("an empty device", Input::Path("/dev/null".into()), command),
        Case::new("a pipe that nobody writes to", Input::Made(pipe), command),
        Case::new("a link to itself", Input::Made(circle), command),
    ]
}

fn files_of_other_kinds() -> Vec<(String, Vec<u8>)> {
    let files: [(&str, &[u8]); 9] = [
        ("zeros", &[0; 4096]),
        ("ones", &[0xff; 4096]),
        ("a text", b"# weights\nconv: 3\n"),
        ("json", br#"{"weight_map": 3}"#),
        ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("a program", b"\x7fELF\x02\x01\x01\0\0\0\0\0"),
        ("a pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"),
        ("HDF5", b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"),
    ];
    files.map(|(what, bytes)| (what.to_owned(), bytes.to_vec())).into()
}

/// Model folders of which something is missing or which point elsewhere.
fn folders() -> Vec<Case> {
    const INDEX: &str = "model.safetensors.index.json";
    let indexes = [
        ("a missing shard", r#"{"weight_map":{"a":"model-1.safetensors"}}"#),
        ("a shard elsewhere", r#"{"weight_map":{"a":"../../etc/passwd"}}"#),
        ("an absolute shard", r#"{"weight_map":{"a":"/etc/passwd"}}"#),
        ("a shard that is the folder", r#"{"weight_map":{"a":"."}}"#),
        ("a shard that is the index", r#"{"weight_map":{"a":"model.safetensors.index.json"}}"#),
        ("a tensor that is not there", r#"{"weight_map":{"a":"other.safetensors"}}"#),
        ("a name with a line break", r#"{"weight_map":{"a":"x\ny"}}"#),
        ("no map", r#"{"metadata":{}}"#),
        ("a map of numbers", r#"{"weight_map":{"a":1}}"#),
        ("no JSON", "{"),
    ];
    let good = super::headers::safetensors(&format!(
        "{{{}}}",
        super::headers::entry("b", "F32", "[2,2]", "[0,16]")
    ));
    let case = |((what, index), command): ((&str, &str), &&str)| {
        let files = vec![(INDEX, index.into()), ("other.safetensors", good.clone())];
        Case::new(what, Input::Folder(files), *command)
    };
    indexes.into_iter().zip(OPENING.iter().cycle()).map(case).collect()
}
