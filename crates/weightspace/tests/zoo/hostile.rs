//! Files that are damaged or made to harm.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use weightspace::zoo::{Import, Population};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{DType, Tensor};

use crate::fixtures::{NAMES, batch_normalised, copy, expected, silent};

/// Changes files of a model.
type Damage = fn(&Path);

/// What happens to one model of the published zoo, and what is said about it.
fn damages() -> Vec<(&'static str, Damage, &'static str)> {
    vec![
        ("no parameters", |m| fs::remove_file(m.join("params.json")).unwrap(), "params.json"),
        (
            "parameters cut",
            |m| fs::write(m.join("params.json"), "{\"seed\": 1").unwrap(),
            "params.json: parameters are no JSON",
        ),
        (
            "parameters too long",
            |m| fs::write(m.join("params.json"), " ".repeat(1 << 20)).unwrap(),
            "more than 65536",
        ),
        (
            "nested parameters",
            |m| fs::write(m.join("params.json"), "[".repeat(60_000)).unwrap(),
            "no JSON object",
        ),
        (
            "results of nothing",
            |m| fs::write(m.join("result.json"), "{}\n").unwrap(),
            "result.json: line 1 has no training_iteration",
        ),
        (
            "results no text",
            |m| fs::write(m.join("result.json"), [0xff; 100]).unwrap(),
            "result.json: line 1",
        ),
        (
            "a checkpoint gone",
            |m| fs::remove_dir_all(m.join("checkpoint_1")).unwrap(),
            "no checkpoint of epoch 1",
        ),
        (
            "a checkpoint empty",
            |m| fs::write(m.join("checkpoint_1/checkpoints"), "").unwrap(),
            "checkpoints: the file is empty",
        ),
        (
            "a checkpoint cut",
            |m| {
                let bytes = fs::read(m.join("checkpoint_1/checkpoints")).unwrap();
                fs::write(m.join("checkpoint_1/checkpoints"), &bytes[..bytes.len() / 2]).unwrap();
            },
            "checkpoint_1/checkpoints",
        ),
        (
            "two of one epoch",
            |m| {
                fs::create_dir(m.join("checkpoint_0001")).unwrap();
                fs::copy(m.join("checkpoint_1/checkpoints"), m.join("checkpoint_0001/checkpoints"))
                    .unwrap();
            },
            "two checkpoints of epoch 1",
        ),
        (
            "other tensors",
            |m| {
                let path = m.join("checkpoint_1/checkpoints");
                fs::remove_file(&path).unwrap();
                write_safetensors(&path, &batch_normalised(0), &BTreeMap::new()).unwrap();
            },
            "other tensors at epoch 1 than at 0",
        ),
    ]
}

#[test]
fn damaged_models_are_refused_or_skipped() {
    for (what, damage, message) in damages() {
        let folder = copy();
        damage(&folder.path().join(NAMES[1]));
        let zoo = Population::open(folder.path()).unwrap();
        let file = folder.path().join("packed");
        let error = Import::default().write(&zoo, &file, &silent).unwrap_err().to_string();
        assert!(error.contains(message) && error.contains(NAMES[1]), "{what}: {error}");
        assert!(!error.contains('\n'), "{what}: {error}");
        assert!(!file.exists(), "{what}");
        let skipping = Import { skip_damaged: true, ..Import::default() };
        let survey = skipping.write(&zoo, &file, &silent).unwrap();
        assert_eq!(survey.damaged.len(), 1, "{what}");
        assert_eq!(survey.damaged[0].name, NAMES[1]);
        assert!(survey.damaged[0].reason.contains(message), "{what}");
        let packed = Population::open(&file).unwrap();
        assert_eq!(packed.names().collect::<Vec<_>>(), [NAMES[0], NAMES[2]], "{what}");
        assert_eq!(packed.weights(1, 3).unwrap(), expected(2, 3), "{what}");
    }
}

/// A packed file by hand: tensors and metadata, each changed from what a zoo has.
fn by_hand(
    path: &Path,
    change: impl FnOnce(&mut Vec<(&str, Tensor)>, &mut BTreeMap<String, String>),
) {
    let epochs: Vec<u8> = [0i64, 5].iter().flat_map(|epoch| epoch.to_le_bytes()).collect();
    let mut tensors = vec![
        ("weights", Tensor::from_f32(vec![2, 2, 3], &[0.5; 12])),
        ("metrics", Tensor::from_f32(vec![2, 2, 6], &[0.5; 24])),
        ("epochs", Tensor::from_bytes(DType::I64, vec![2], epochs)),
    ];
    let entry = |key: &str, value: &str| (format!("weightspace.zoo{key}"), value.to_owned());
    let mut metadata = BTreeMap::from([
        entry("", "1"),
        entry(".layouts", r#"[[{"name": "w", "shape": [3]}]]"#),
        entry(".common", "{}"),
        entry(".models", r#"[{"name": "a", "params": {}}, {"name": "b", "params": {"seed": 2}}]"#),
    ]);
    change(&mut tensors, &mut metadata);
    let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    write_safetensors(path, &tensors, &metadata).unwrap();
}

#[test]
fn hostile_files_are_refused_in_one_line() {
    type Change = fn(&mut Vec<(&str, Tensor)>, &mut BTreeMap<String, String>);
    fn set(metadata: &mut BTreeMap<String, String>, key: &str, value: impl Into<String>) {
        metadata.insert(format!("weightspace.zoo{key}"), value.into());
    }
    let changes: Vec<(Change, &str)> = vec![
        (|_, m| drop(m.remove("weightspace.zoo")), "no packed zoo"),
        (|_, m| set(m, "", "2"), "version \"2\" of packed zoos, expected 1"),
        (|t, _| drop(t.remove(0)), "no tensor weights"),
        (|t, _| drop(t.remove(1)), "no tensor metrics"),
        (|t, _| drop(t.remove(2)), "no tensor epochs"),
        (|t, _| t.push(("extra", Tensor::from_f32(vec![], &[0.0]))), "\"extra\" belongs to no zoo"),
        (
            |t, _| t[0].1 = Tensor::from_f32(vec![12], &[0.0; 12]),
            "weights has shape [12], expected [models",
        ),
        (|t, _| t[0].1 = Tensor::from_f32(vec![0, 2, 3], &[]), "expected at least one of each"),
        (|t, _| t[0].1 = Tensor::from_f32(vec![3, 2, 3], &[0.0; 18]), "expected [3, 2, 6]"),
        (|t, _| t[0].1 = t[0].1.cast_float(DType::F16), "weights is of type f16, expected f32"),
        (
            |t, _| t[1].1 = Tensor::from_f32(vec![2, 2, 5], &[0.0; 20]),
            "metrics has shape [2, 2, 5]",
        ),
        (
            |t, _| t[2].1 = Tensor::from_bytes(DType::I64, vec![1], vec![0; 8]),
            "epochs has shape [1]",
        ),
        (
            |t, _| t[2].1 = Tensor::from_bytes(DType::I64, vec![2], vec![0; 16]),
            "expected ascending numbers",
        ),
        (
            |t, _| t[2].1 = Tensor::from_bytes(DType::I64, vec![2], vec![0xff; 16]),
            "expected ascending numbers",
        ),
        (|_, m| drop(m.remove("weightspace.zoo.layouts")), "no weightspace.zoo.layouts"),
        (|_, m| set(m, ".layouts", "[[{\"name\": \"w\", \"shape\": [4]}]]"), "not the 3 elements"),
        (
            |_, m| {
                set(m, ".layouts", "[[{\"name\": \"w\", \"shape\": [18446744073709551615, 3]}]]")
            },
            "not the 3 elements",
        ),
        (
            |_, m| {
                set(
                    m,
                    ".layouts",
                    "[[{\"name\": \"w\", \"shape\": [1]}, {\"name\": \"w\", \"shape\": [2]}]]",
                )
            },
            "two tensors are named \"w\"",
        ),
        (
            |_, m| set(m, ".layouts", "[[{\"name\": \"w\", \"shape\": [3], \"dtype\": \"f8\"}]]"),
            "unknown type \"f8\"",
        ),
        (|_, m| set(m, ".layouts", "[".repeat(1_000_000)), "weightspace.zoo.layouts: "),
        (|_, m| set(m, ".common", "[]"), "weightspace.zoo.common: parameters are no JSON object"),
        (|_, m| set(m, ".common", " ".repeat(100_000)), "more than 65536"),
        (|_, m| set(m, ".models", "[]"), "0 models, weights has 2"),
        (
            |_, m| {
                set(m, ".models", r#"[{"name": "b", "params": {}}, {"name": "a", "params": {}}]"#)
            },
            "\"a\" is not behind",
        ),
        (
            |_, m| {
                set(m, ".models", r#"[{"name": "a", "params": {}}, {"name": "a", "params": {}}]"#)
            },
            "\"a\" is not behind",
        ),
        (
            |_, m| {
                set(
                    m,
                    ".models",
                    r#"[{"name": "../a", "params": {}}, {"name": "b", "params": {}}]"#,
                )
            },
            "\"../a\" cannot be",
        ),
        (
            |_, m| {
                set(m, ".models", r#"[{"name": "a/b", "params": {}}, {"name": "b", "params": {}}]"#)
            },
            "\"a/b\" cannot be",
        ),
        (
            |_, m| {
                set(
                    m,
                    ".models",
                    "[{\"name\": \"a\\u001b\", \"params\": {}}, {\"name\": \"b\", \"params\": {}}]",
                )
            },
            "cannot be the name",
        ),
        (
            |_, m| {
                set(
                    m,
                    ".models",
                    r#"[{"name": "a", "params": {}, "layout": 1}, {"name": "b", "params": {}}]"#,
                )
            },
            "has layout 1 of 1",
        ),
        (|_, m| set(m, ".models", "[{\"name\": \"a\""), "weightspace.zoo.models: EOF"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.safetensors");
    by_hand(&path, |_, _| {});
    assert_eq!(Population::open(&path).unwrap().model(1).unwrap().params["seed"], 2);
    for (change, message) in changes {
        by_hand(&path, change);
        let error = Population::open(&path).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
        assert!(error.contains("hostile.safetensors") && error.len() < 600, "{error}");
        assert!(!error.contains(['\n', '\u{1b}']), "{error}");
    }
    // Damage in the parameters of one model is found when that model is asked for.
    by_hand(&path, |_, m| {
        set(m, ".models", r#"[{"name": "a", "params": [1]}, {"name": "b", "params": {}}]"#)
    });
    let zoo = Population::open(&path).unwrap();
    let error = zoo.model(0).unwrap_err().to_string();
    assert!(error.contains("model \"a\": parameters are no JSON object"), "{error}");
    assert!(zoo.model(1).is_ok());
    assert!(zoo.row(0, 3).unwrap_err().to_string().contains("no weights of epoch 3"));
    // Files that are no zoos at all.
    fs::write(&path, "").unwrap();
    assert!(Population::open(&path).is_err());
    assert!(Population::open(&folder.path().join("nowhere")).is_err());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(Population::open(&empty).unwrap_err().to_string().contains("no models"));
}
