//! The commands, as their users run them.

use std::fs;

use serde_json::{Value, json};
use weightspace_core::Checkpoint;

use crate::fixtures::{NAMES, copy, expected, published};
use crate::program::program;

/// Runs the program and gives back exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = program().arg("zoo").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// As [`run`], for what must succeed without a word on stderr.
fn done(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
    stdout
}

#[test]
fn the_commands_work_together() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (tree, packed) = (published(), at("zoo.safetensors"));
    let tree = tree.to_str().unwrap();
    let text = done(&["import", tree, "-o", &packed]);
    assert!(text.contains("3 models x 3 epochs x 23 weights"), "{text}");
    let (code, _, stderr) = run(&["import", tree, "-o", &packed]);
    assert!(code == 2 && stderr.contains("-f replaces it"), "{stderr}");
    let text = done(&["import", tree, "-o", &packed, "-f", "--epochs", "3,1", "--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["models"], &json["epochs"]), (&json!(3), &json!([1, 3])));
    done(&["import", tree, "-o", &packed, "-f"]);

    for zoo in [tree, &packed] {
        let text = done(&["show", zoo, "seed=2"]);
        for part in [NAMES[1], "mlp:4-3-2", "dataset::dump", "61.00 %", "0.weight", "3x4"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json: Value = serde_json::from_str(&done(&["show", zoo, "2", "--json"])).unwrap();
        assert_eq!((&json["name"], &json["params"]["seed"]), (&json!(NAMES[2]), &json!(3)));
        assert_eq!(json["epochs"][0]["train_loss"], Value::Null);
        assert_eq!(json["epochs"][2]["validation_accuracy"], 0.375);
    }
    let weights = at("model.safetensors");
    done(&["show", &packed, "1", "-o", &weights, "--epoch", "1"]);
    assert_eq!(Checkpoint::open(weights.as_ref()).unwrap().state_dict().unwrap(), expected(1, 1));
    let (code, _, stderr) = run(&["show", &packed, "NN_tune"]);
    assert!(code == 2 && stderr.contains("is a part of"), "{stderr}");

    let tables = ["a.csv", "b.csv"].map(at);
    done(&["index", tree, "-o", &tables[0]]);
    done(&["index", &packed, "-o", &tables[1]]);
    assert_eq!(fs::read(&tables[0]).unwrap(), fs::read(&tables[1]).unwrap());
    assert!(done(&["index", &packed, "-o", &at("a.parquet")]).contains("9 rows"));
    assert_eq!(run(&["index", &packed, "-o", &at("a.txt")]).0, 2);

    let text = done(&["stats", &packed, "-o", &at("pictures")]);
    for part in ["3 models, 3 with finite weights; epochs 0-1, 3", "test accuracy by activation"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    for file in ["accuracy.svg", "accuracy-distribution.png", "zoo.html"] {
        assert!(folder.path().join("pictures").join(file).is_file(), "{file}");
    }
    let json: Value = serde_json::from_str(&done(&["stats", tree, "--json"])).unwrap();
    assert_eq!(json["parameters"], 23);

    let again = at("tree");
    done(&["export", &packed, "-o", &again]);
    assert_eq!(done(&["stats", &again]), done(&["stats", tree]));
    assert_eq!(run(&["export", &packed, "-o", &again]).0, 2, "not empty");
}

#[test]
fn skipped_models_are_named_in_one_warning() {
    let folder = copy();
    for name in &NAMES[..2] {
        fs::write(folder.path().join(name).join("params.json"), "\u{1b}").unwrap();
    }
    let packed = folder.path().join("packed");
    let arguments = ["import", folder.path().to_str().unwrap(), "-o", packed.to_str().unwrap()];
    let (code, _, stderr) = run(&arguments);
    assert!(code == 2 && stderr.lines().count() == 1 && stderr.contains(NAMES[0]), "{stderr}");
    let (code, stdout, stderr) = run(&[&arguments[..], &["--skip-damaged"]].concat());
    assert_eq!((code, stderr.lines().count()), (0, 1), "{stderr}");
    assert!(stderr.starts_with("skipped 2 damaged: ") && stderr.contains(NAMES[1]), "{stderr}");
    assert!(stdout.contains("1 models"), "{stdout}");
}
