//! What users of methods that train for a target rely on: `compress --method auto --train-epochs`, `curve` with it,
//! and targets of `compress --method predictor`.

mod digits;
mod program;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use program::{IMAGES, cnn, interrupt, program, wait_until};
use serde_json::Value;
use weightspace_core::WspFile;
use weightspace_core::container::Method;

fn command(name: &str, options: &str, output: &Path) -> Command {
    let mut command = program();
    command.arg(name).arg(cnn()).arg("-o").arg(output).args(options.split_whitespace());
    command
}

fn json(mut command: Command) -> Value {
    let Output { status, stdout, stderr } = command.arg("--json").output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

/// The line on stderr of a command that must fail.
fn refused(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), text.lines().count()), (Some(2), 1), "{text}");
    text
}

#[test]
fn methods_that_train_take_part_if_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let (file, work) = (folder.path().join("m.wsp"), folder.path().join("m.wsp.work"));
    let options = format!("{IMAGES} --method auto --threads 1 --target-bytes 450");
    let found = json(command("compress", &format!("{options} --train-epochs 15"), &file));
    let tried = found["auto"]["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 5, "{found}");
    let of = |name: &str| tried.iter().find(|t| t["name"] == name).unwrap();
    let accuracy = |name: &str| of(name)["held_out_accuracy"].as_f64().unwrap();
    assert!(accuracy("quantize-trained") > accuracy("quantize"), "{found}");
    assert_eq!(found["auto"]["chosen"], "quantize-trained");
    let why = of("predictor")["out_of_reach"].as_str().unwrap();
    assert!(why.contains("450 bytes cannot be reached"), "{why}");
    assert!(found["bytes"].as_u64().unwrap() <= 450, "{found}");
    assert!(found["auto"].get("train_further").is_none() && !work.exists(), "{found}");
}

#[test]
fn interrupted_training_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (file, whole) = (folder.path().join("m.wsp"), folder.path().join("whole.wsp"));
    let options = |bytes: u32| {
        format!("{IMAGES} --method auto --train-epochs 25 --target-bytes {bytes} -f --threads 1")
    };
    let child = command("compress", &options(460), &file);
    let child = { child }.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = folder.path().join("m.wsp.work/quantize-trained-460-training/metrics.jsonl");
    wait_until("an evaluation", || fs::metadata(&metrics).is_ok_and(|metadata| metadata.len() > 0));
    interrupt(child);
    assert!(!file.exists());
    let other = options(461).replace(" -f", "");
    assert!(refused(command("compress", &other, &file)).contains("other settings"));
    json(command("compress", &options(460), &file));
    json(command("compress", &options(460), &whole));
    assert!(fs::read(&file).unwrap() == fs::read(&whole).unwrap());
}

#[test]
fn a_predictor_meets_its_target() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.wsp");
    let options = |target: &str| format!("--method predictor --steps 400 -f {target}");
    let plain = json(command("compress", &options("--target-bytes 3500"), &file));
    assert!((2500..=3500).contains(&plain["bytes"].as_u64().unwrap()), "{plain}");
    let stored = WspFile::open(&file).unwrap();
    assert_eq!(stored.header().method, Method::Predictor);

    let distilled = format!("--target-bytes 3500 --distill-epochs 1 --augment crop1 {IMAGES}");
    let distilled = json(command("compress", &options(&distilled), &file));
    assert!((2500..=3500).contains(&distilled["bytes"].as_u64().unwrap()), "{distilled}");

    let sizes = ["0.5", "0.95"].map(|accuracy| {
        let target = format!("--target-accuracy {accuracy} --distill-epochs 0 {IMAGES}");
        json(command("compress", &options(&target), &file))["bytes"].as_u64().unwrap()
    });
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    let too_small = refused(command("compress", &options("--target-bytes 900"), &file));
    assert!(too_small.contains("900 bytes cannot be reached"), "{too_small}");
    assert!(!folder.path().join("p.wsp.work").exists(), "work that leads nowhere");
    let both = options("--target-bytes 3500 --predictor-bits 4");
    let Output { status, .. } = command("compress", &both, &file).output().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn curves_have_points_of_methods_that_train() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("curve");
    let options = format!("{IMAGES} --sizes 700 --methods quantize,quantize-trained");
    let text = refused(command("curve", &options, &out));
    assert!(text.contains("quantize-trained needs --train-epochs"), "{text}");
    let options = format!("{options} --train-epochs 2 --augment crop1");
    let found = json(command("curve", &options, &out));
    let points = found["points"].as_array().unwrap();
    assert_eq!(points.len(), 2, "{found}");
    let settings = "train --method quantize --target-bytes 700 --train-epochs 2 --augment crop1";
    assert_eq!(points[1]["settings"], settings);
    assert!(out.join("files/quantize-trained-700.wsp").exists() && !out.join("work").exists());
}
