//! Sound files that are not what the command line says they are.

use std::fs;

use super::headers::{entry, safetensors};
use super::{Case, Input, golden};

pub fn hostile() -> Vec<Case> {
    let mlp = || Input::Bytes(fs::read(golden("models/digits-mlp.pt")).unwrap());
    let cnn = || Input::Bytes(fs::read(golden("models/digits-cnn.pt")).unwrap());
    let mut all = Vec::new();
    for arch in ARCHS {
        let compress = format!("compress IN -o OUT --arch {arch}");
        all.push(Case::new("another network", mlp(), compress));
        let eval = format!("eval IN --data digits --arch {arch}");
        all.push(Case::new("another network", mlp(), eval));
    }
    for preprocessing in ["unit", "unit-pad20", "unit-pad32", "imagenet", "cifar10-pad28"] {
        let eval = format!("eval IN --data digits --preprocessing {preprocessing}");
        all.push(Case::new("images of another size", cnn(), eval));
    }
    let unknown = safetensors(&format!("{{{}}}", entry("a", "F32", "[2,2]", "[0,16]")));
    for command in [
        "eval IN --data digits",
        "compress IN -o OUT --data digits",
        "compress IN -o OUT --data digits --dry-run",
        "decompress IN -o OUT",
        "verify IN",
    ] {
        all.push(Case::new("no known network", Input::Bytes(unknown.clone()), command));
    }
    all
}

/// Architectures that an MLP of 64-32-10 does not have, or that nobody can have.
const ARCHS: [&str; 14] = [
    "resnet20",
    "resnet50",
    "zoo-cnn",
    "mlp:64-32-11",
    "mlp:64-32-32-10",
    "mlp:64-32-10,names=a+b",
    "mlp:18446744073709551616-10",
    "mlp:16777217-10",
    "mlp:0-10",
    "mlp:",
    "resnet20:classes=0",
    "resnet20:size=999999999",
    "nonsense",
    "\u{1b}[31m:x",
];
