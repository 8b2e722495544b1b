//! The method subspace as its users run it, on the built-in digits.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use program::program;
use serde_json::Value;
use tempfile::TempDir;
use weightspace_core::Checkpoint;

/// A network of 2,410 weights that a few hundred coefficients train.
const RECIPE: &str = "--arch mlp:64-32-10 --data digits --holdout 100 --batch 32 --method subspace \
                      --epochs 8 --optimizer adam --learning-rate 0.003 --schedule cosine --threads 2";

fn weightspace(line: &str) -> Output {
    program().args(line.split_whitespace()).output().unwrap()
}

fn done(line: &str) -> Output {
    let found = weightspace(line);
    assert!(found.status.success(), "{line}: {}", String::from_utf8_lossy(&found.stderr));
    found
}

fn refused(line: &str, part: &str) {
    let found = weightspace(line);
    let text = String::from_utf8(found.stderr).unwrap();
    assert_eq!(found.status.code(), Some(2), "{line}: {text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("error: ") && last.contains(part), "{line}: {text}");
}

fn json(line: &str) -> Value {
    serde_json::from_slice(&done(&format!("{line} --json")).stdout).unwrap()
}

fn accuracy(line: &str) -> f64 {
    json(&format!("eval --data digits {line}"))["accuracy"].as_f64().unwrap()
}

/// A folder without spaces in its name.
fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

#[test]
fn a_few_hundred_coefficients_of_every_basis_learn_and_make_a_small_file() {
    let (_guard, at) = folder();
    for basis in ["dense", "uniform", "hadamard", "sketch", "hash"] {
        let report = json(&format!("train {RECIPE} --k 300 --basis {basis} -o {at}/{basis}"));
        let bytes = fs::metadata(format!("{at}/{basis}/model.wsp")).unwrap().len();
        assert_eq!(report["bytes"].as_u64(), Some(bytes), "{basis}");
        assert!(bytes < 500, "{basis}: {bytes} bytes for 300 coefficients of 8 bits");
        let trained = report["accuracy"].as_f64().unwrap();
        assert!(trained > 0.75, "{basis}: {trained}");
        // The file, and what it decodes to, are what was measured.
        assert_eq!(accuracy(&format!("{at}/{basis}/model.wsp")), trained, "{basis}");
        assert_eq!(accuracy(&format!("{at}/{basis}/model.safetensors")), trained, "{basis}");
        done(&format!("verify {at}/{basis}/model.wsp"));
        done(&format!("diff {at}/{basis}/model.wsp {at}/{basis}/model.safetensors"));
    }
}

#[test]
fn splits_and_bits() {
    let (_guard, at) = folder();
    for (name, options, bytes) in [
        ("per-layer", "--split per-layer", 500),
        ("given", "--split 240,60", 500),
        ("four", "--coefficient-bits 4", 340),
        ("sixteen", "--coefficient-bits 16", 820),
    ] {
        let report = json(&format!("train {RECIPE} --k 300 {options} -o {at}/{name}"));
        assert!(report["bytes"].as_u64().unwrap() < bytes, "{name}: {report}");
        assert!(report["accuracy"].as_f64().unwrap() > 0.75, "{name}: {report}");
    }
    let inspected = json(&format!("inspect {at}/given/model.wsp"));
    assert_eq!(inspected["projection"]["coefficients"], 300, "{inspected}");
    refused(&format!("train {RECIPE} --split 20,60,3 -o {at}/x"), "has 2 layers");
    // Without an optimiser: one that suits coefficients, with which training does not diverge.
    let plain =
        "--arch mlp:64-32-10 --data digits --holdout 100 --batch 32 --epochs 10 --threads 1";
    let report = json(&format!("train {plain} --method subspace --k 300 -o {at}/plain"));
    assert!(report["accuracy"].as_f64().unwrap() > 0.5, "{report}");
    let many = "--arch mlp:64-10 --data digits --method subspace --k 1000000";
    refused(&format!("train {many} -o {at}/x"), "1000000 coefficients for 650 weights");
    refused(&format!("train --preset digits --k 3 -o {at}/x"), "--k needs --method subspace");
}

/// What the key protects and what it does not: docs/security.md.
#[test]
fn another_key_gives_chance() {
    let (_guard, at) = folder();
    let key = |name: &str, byte: u8| fs::write(format!("{at}/{name}"), [byte; 32]).unwrap();
    key("right", 7);
    key("wrong", 8);
    done(&format!("train {RECIPE} --k 300 --key-file {at}/right -o {at}/run"));
    let file = format!("{at}/run/model.wsp");
    assert!(accuracy(&format!("{file} --key-file {at}/right")) > 0.75);
    let wrong = accuracy(&format!("{file} --key-file {at}/wrong"));
    assert!(wrong < 0.3, "{wrong} with the wrong key");
    refused(&format!("eval {file} --data digits"), "its key is not in the file");
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(8).any(|window| window == [7; 8]), "the key is in the file");
    fs::write(format!("{at}/short"), "12").unwrap();
    refused(
        &format!("eval {file} --data digits --key-file {at}/short"),
        "expected a key of 32 bytes or 64 hexadecimal digits",
    );
}

#[test]
fn a_prefix_of_a_file_is_a_coarser_network() {
    let (_guard, at) = folder();
    done(&format!("train {RECIPE} --k 1500 --coefficient-bits 12 -o {at}/run"));
    let file = format!("{at}/run/model.wsp");
    let whole = accuracy(&file);
    let most = accuracy(&format!("{file} --fraction 0.75"));
    assert!(most > whole - 0.05 && whole > 0.85, "{most} of {whole}");
    // The same from a file that was cut there.
    let bytes = fs::read(&file).unwrap();
    fs::write(format!("{at}/cut.wsp"), &bytes[..bytes.len() * 3 / 4]).unwrap();
    assert_eq!(accuracy(&format!("{at}/cut.wsp --fraction 1")), most);
    let verified = |path: &str| {
        String::from_utf8(weightspace(&format!("verify {path} --fraction 1")).stdout).unwrap()
    };
    assert!(verified(&format!("{at}/cut.wsp")).starts_with("cut, but sound: subspace, "));
    assert!(verified(&file).starts_with("whole: subspace, "));
    done(&format!("decompress {file} --fraction 0.75 -o {at}/coarse.safetensors"));
    done(&format!("diff {at}/cut.wsp {at}/coarse.safetensors --fraction 1"));
    refused(&format!("eval {at}/cut.wsp --data digits"), "the checksum does not match");
    refused(&format!("eval {file} --data digits --fraction 0.01"), "a larger share is needed");
    assert!(!weightspace(&format!("eval {file} --data digits --fraction 1.5")).status.success());
}

#[test]
fn a_difference_needs_its_base_and_no_other() {
    let (_guard, at) = folder();
    let base = golden("models/digits-cnn.pt");
    let base = base.display();
    let delta = "--data digits --preprocessing unit-pad28 --holdout 100 --method subspace --k 100 --epochs 2 --optimizer adam \
                 --learning-rate 0.0005 --schedule cosine --threads 2";
    done(&format!("train {delta} --base {base} -o {at}/run"));
    let file = format!("{at}/run/model.wsp");
    let found = accuracy(&format!("{file} --base {base}"));
    assert!(found > 0.88, "{found}");
    assert!(fs::metadata(&file).unwrap().len() < 350);
    done(&format!("diff {file} {at}/run/model.safetensors --base {base}"));
    refused(&format!("eval {file} --data digits"), "needs the base model with content hash");
    let other = golden("models/digits-mlp.pt");
    let other = other.display();
    refused(&format!("eval {file} --data digits --base {other}"), "not the one given");
    // The base in another file is the base.
    done(&format!("decompress {file} --base {base} -o {at}/x.safetensors"));
}

/// A network with batch normalisations: they are in the file as two vectors each, or the base's.
#[test]
fn normalisations_are_folded_or_the_bases() {
    let (_guard, at) = folder();
    let recipe = "--arch resnet20 --data digits --preprocessing unit-pad28 --holdout 200 --batch 64 \
                  --method subspace --optimizer adam --schedule cosine --threads 2";
    done(&format!("train {recipe} --k 3000 --epochs 4 --learning-rate 0.002 -o {at}/base"));
    let base = format!("{at}/base/model.safetensors");
    let found = accuracy(&format!("{at}/base/model.wsp"));
    assert!(found > 0.8, "{found}");
    let checkpoint = Checkpoint::open(Path::new(&base)).unwrap();
    let mean = checkpoint.read_named("bn1.running_mean").unwrap();
    assert!(mean.iter_f64().all(|value| value == 0.0));
    let tune = "--k 200 --epochs 1 --learning-rate 0.0001";
    let trained = json(&format!("train {recipe} {tune} --base {base} -o {at}/trained"));
    let kept = json(&format!("train {recipe} {tune} --norms base --base {base} -o {at}/kept"));
    let bytes = |report: &Value| report["bytes"].as_u64().unwrap();
    assert!(bytes(&kept) < 700 && bytes(&kept) + 1000 < bytes(&trained), "{kept} {trained}");
    for name in ["trained", "kept"] {
        let found = accuracy(&format!("{at}/{name}/model.wsp --base {base}"));
        assert!(found > 0.8, "{name}: {found}");
    }
    refused(&format!("train {recipe} {tune} --norms base -o {at}/x"), "needs a --base");
}

/// The baseline that fails, and says so.
#[test]
fn regression_says_plainly_that_it_fails() {
    let (_guard, at) = folder();
    let model = golden("models/digits-cnn.pt");
    let line = format!("compress {} --method subspace --k 200 -o {at}/r.wsp", model.display());
    let found = String::from_utf8(done(&line).stdout).unwrap();
    assert!(found.contains("hardly more of what that does"), "{found}");
    assert!(accuracy(&format!("{at}/r.wsp --preprocessing unit-pad28")) < 0.6);
    let report = json(&format!("verify {at}/r.wsp --against {}", model.display()));
    assert_eq!(report["source_matches"], true);
    // As many coefficients as weights, of an orthogonal basis, hold everything.
    let line = format!("compress {} --method subspace --basis sketch", model.display());
    let count = json(&format!("inspect {}", model.display()))["parameters"].as_u64().unwrap();
    let all = json(&format!("{line} --k {count} --coefficient-bits 16 -o {at}/all.wsp"));
    assert!(all["kept_energy"].as_f64().unwrap() > 0.999_999, "{all}");
    let of_original = accuracy(&format!("{} --preprocessing unit-pad28", model.display()));
    assert_eq!(accuracy(&format!("{at}/all.wsp --preprocessing unit-pad28")), of_original);
    refused(&format!("{line} --bits 4 -o {at}/x.wsp"), "--bits is no option of --method subspace");
}

/// An interrupted training continues with the same result.
#[test]
fn the_same_seed_gives_the_same_file() {
    let (_guard, at) = folder();
    for name in ["a", "b"] {
        done(&format!("train {RECIPE} --k 300 --basis dense --coefficient-bits 5 -o {at}/{name}"));
    }
    done(&format!("train {RECIPE} --k 300 --basis dense --coefficient-bits 5 --seed 1 -o {at}/c"));
    let file = |name: &str| fs::read(format!("{at}/{name}/model.wsp")).unwrap();
    assert_eq!(file("a"), file("b"));
    assert_ne!(file("a"), file("c"));
}
