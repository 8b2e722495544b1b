//! What users of `weightspace sane` rely on, on a small zoo of digits.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, StateDict, Tensor};

use crate::program::{interrupt, program, wait_until};

const ZOO: &str = r#"
data = "digits"
preprocessing = "unit-pad28"
arch = "zoo-cnn"
epochs = 4
batch = 10
images = 300
holdout = 100
checkpoints = [0, 2, 4]
activation = "tanh"
initialisation = "kaiming-uniform"
dropout = [0.0, 0.1]
optimizer = "adam"
learning_rate = 3e-3
weight_decay = 0.0
seeds = "random:8"
"#;

fn command(folder: &Path, line: &str) -> Command {
    let mut command = program();
    command.current_dir(folder).args(line.split_whitespace());
    command
}

fn done(folder: &Path, line: &str) -> Output {
    let found = command(folder, line).output().unwrap();
    assert!(found.status.success(), "{line}: {}", String::from_utf8_lossy(&found.stderr));
    found
}

fn json(folder: &Path, line: &str) -> Value {
    serde_json::from_slice(&done(folder, &format!("{line} --json")).stdout).unwrap()
}

/// What the program says of a mistake.
fn refused(folder: &Path, line: &str) -> String {
    let found = command(folder, line).output().unwrap();
    let said = String::from_utf8(found.stderr).unwrap();
    assert_eq!(found.status.code(), Some(2), "{line}: {said}");
    assert_eq!(said.lines().count(), 1, "{line}: {said}");
    said
}

/// A folder with a zoo `zoo`, which all tests read. Half of its models have dropouts, behind which layers have other
/// names.
fn at() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("zoo.toml"), ZOO).unwrap();
        done(folder.path(), "zoo train --config zoo.toml -o zoo --threads 1");
        done(folder.path(), &format!("{PRETRAIN} model"));
        folder
    });
    folder.path()
}

const PRETRAIN: &str = "sane pretrain zoo --width 32 --latent 16 --batch 8 --epochs 30 --threads 1 --learning-rate 2e-2 -o";

#[test]
fn an_interrupted_pretraining_ends_as_if_it_had_not_been() {
    let at = at();
    let mut child = command(at, &format!("{PRETRAIN} stopped --checkpoint-seconds 0"));
    let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines =
        || fs::read_to_string(at.join("stopped/metrics.jsonl")).map_or(0, |t| t.lines().count());
    wait_until("an evaluation", || lines() >= 3);
    interrupt(child);
    assert!(!at.join("stopped/model.safetensors").exists(), "stopped too late");
    let other = refused(at, &format!("{} stopped", PRETRAIN.replace("latent 16", "latent 8")));
    assert!(other.contains("model.latent 16, now 8; -f starts anew"), "{other}");
    done(at, &format!("{PRETRAIN} stopped"));
    let bytes = |folder: &str| fs::read(at.join(folder).join("model.safetensors")).unwrap();
    assert!(bytes("stopped") == bytes("model"));
    assert!(refused(at, &format!("{PRETRAIN} stopped")).contains("this training is finished"));
}

#[test]
fn pretraining_learns() {
    let text = fs::read_to_string(at().join("model/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let error = |line: &Value| line["train_loss"].as_f64().unwrap();
    assert_eq!(lines.len(), 30);
    assert!(error(&lines[29]) < 0.9 * error(&lines[0]), "{text}");
    // Tokens are filled up with zeros, which are easy to learn.
    let [masked, unmasked] = ["loss", "unmasked_loss"].map(|key| lines[29][key].as_f64().unwrap());
    assert!(masked > 0.0 && unmasked < masked, "{text}");
    assert!(lines[29]["accuracy"].is_null() && lines[29]["correct"].is_null(), "{text}");
}

#[test]
fn embeddings_are_the_same_in_every_format() {
    let at = at();
    for name in ["e.csv", "e.parquet", "e.npz"] {
        let more = if name.ends_with("npz") { "--full" } else { "" };
        let found = json(at, &format!("sane embed model zoo -o {name} {more}"));
        assert_eq!((found["networks"].as_u64(), found["latent"].as_u64()), (Some(48), Some(16)));
    }
    let text = fs::read_to_string(at.join("e.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 49);
    assert_eq!(rows[0][..5], ["model", "epoch", "test_accuracy", "generalisation_gap", "z0"]);
    assert_eq!(rows[0].len(), 4 + 16 + 5);
    assert_eq!(&fs::read(at.join("e.parquet")).unwrap()[..4], b"PAR1");
    let npz = fs::read(at.join("e.npz")).unwrap();
    for array in ["model", "epoch", "test_accuracy", "mean", "spread", "embedding"] {
        let name = format!("{array}.npy");
        assert!(npz.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
    }
    let names: Vec<&str> = rows[1..].iter().map(|row| row[0]).collect();
    assert!(names.is_sorted());
    assert!(refused(at, "sane embed model zoo -o e.csv").contains("exists; -f replaces it"));
    assert!(refused(at, "sane embed model zoo -o e.txt").contains("should end in .csv"));
    assert!(refused(at, "sane embed model zoo -o f.csv --full").contains("ends in .npz"));
}

#[test]
fn a_model_is_its_own_nearest_neighbour() {
    let found = json(at(), "sane neighbours model zoo 3 --epoch 4 -n 4");
    let all = found["neighbours"].as_array().unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(all[0]["distance"].as_f64(), Some(0.0));
    assert_eq!(all[0]["epoch"].as_u64(), Some(4));
    let distances: Vec<f64> = all.iter().map(|row| row["distance"].as_f64().unwrap()).collect();
    assert!(distances.is_sorted());
    // At every epoch, whichever others are looked at: a model is aligned by its last.
    for (model, epoch) in (0..16).flat_map(|model| [0, 2].map(|epoch| (model, epoch))) {
        let line = format!("sane neighbours model zoo {model} --epoch {epoch} -n 1");
        for others in ["", "--epochs 0,2"] {
            let found = json(at(), &format!("{line} {others}"));
            let nearest = &found["neighbours"][0];
            assert_eq!(nearest["distance"].as_f64(), Some(0.0), "{line} {others}: {found}");
        }
    }
}

/// What is known of a zoo's model goes with its weights.
#[test]
fn models_of_an_exported_zoo_say_what_they_are() {
    let at = at();
    done(at, "zoo export zoo -o exported");
    let name = json(at, "zoo show zoo 3")["name"].as_str().unwrap().to_owned();
    let path = format!("exported/{name}/checkpoint_000004/checkpoints.safetensors");
    let shown = Checkpoint::open(&at.join(&path)).unwrap();
    done(at, "zoo show zoo 3 -o three.safetensors");
    let three = Checkpoint::open(&at.join("three.safetensors")).unwrap();
    assert_eq!(shown.metadata(), three.metadata());
    let found = json(at, &format!("eval {path} --data digits"));
    assert!(found["accuracy"].as_f64().unwrap() > 0.5, "{found}");
    // A folder of a training is the network, not a zoo.
    done(at, "train --init three.safetensors --data digits --epochs 1 -o tuned --threads 1");
    done(at, "sane embed model tuned three.safetensors -o tuned.csv");
}

/// Programs that write tensors in the order of their names are many.
#[test]
fn the_order_of_tensors_in_a_file_is_of_no_account() {
    let at = at();
    for model in [0, 15] {
        done(at, &format!("zoo show zoo {model} -o ordered-{model}.safetensors"));
        let file = Checkpoint::open(&at.join(format!("ordered-{model}.safetensors"))).unwrap();
        let mut tensors: Vec<_> = file.state_dict().unwrap().into_iter().collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let sorted: StateDict = tensors.into_iter().collect();
        write_safetensors(&at.join("sorted.safetensors"), &sorted, file.metadata()).unwrap();
        let found = json(at, "sane neighbours model zoo sorted.safetensors -n 1");
        assert_eq!(found["neighbours"][0]["distance"].as_f64(), Some(0.0), "{found}");
        let line = format!("ordered-{model}.safetensors sorted.safetensors -o both-{model}.csv");
        done(at, &format!("sane embed model {line}"));
        let text = fs::read_to_string(at.join(format!("both-{model}.csv"))).unwrap();
        let rows: Vec<_> = text.lines().skip(1).map(|row| row.split_once(',').unwrap().1).collect();
        assert_eq!(rows[0], rows[1]);
    }
    let line = "sane audit model ordered-15.safetensors sorted.safetensors --prompts zoo";
    let rows = json(at, line);
    assert_eq!(rows["samples"][0]["distance"], rows["samples"][1]["distance"]);
    done(
        at,
        "sane sample model sorted.safetensors ordered-15.safetensors --data digits -n 2 --candidates 2 -o mixed",
    );
}

/// Checkpoints that state what they are need no more than a folder.
#[test]
fn a_folder_of_checkpoints_is_enough_for_prompts() {
    let at = at();
    fs::create_dir_all(at.join("plain")).unwrap();
    for model in [1, 2, 14] {
        done(at, &format!("zoo show zoo {model} -o plain/{model}.safetensors"));
    }
    let line = "sane sample model plain --data digits -n 1 --candidates 2 -o from-plain";
    assert!(refused(at, line).contains("--best 1 takes all"));
    done(at, &format!("{line} --best 1"));
    let said = json(at, "eval from-plain/sample-000.safetensors --data digits");
    assert_eq!((&said["arch"], &said["preprocessing"]), (&"zoo-cnn".into(), &"unit-pad28".into()));
}

/// Networks that are no known architecture can be learnt as they are.
#[test]
fn unknown_networks_are_learnt_where_nothing_is_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for model in 0..12u8 {
        let values = |count: usize, kind: usize| -> Vec<f32> {
            (0..count)
                .map(|i| ((i * (3 + kind) + 7 * usize::from(model)) % 11) as f32 / 11.0)
                .collect()
        };
        let tensors: StateDict = [
            ("depthwise.weight", Tensor::from_f32(vec![6, 1, 5, 5], &values(150, 1))),
            ("depthwise.bias", Tensor::from_f32(vec![6], &values(6, 2))),
            ("mix.weight", Tensor::from_f32(vec![9, 6, 3], &values(162, 3))),
        ]
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .into_iter()
        .collect();
        let folder = at.join(format!("zoo/model-{model:02}/checkpoint_000001"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("../params.json"), "{}").unwrap();
        write_safetensors(&folder.join("checkpoints.safetensors"), &tensors, &Default::default())
            .unwrap();
    }
    let line = "sane pretrain zoo --width 32 --latent 8 --token-size 32 --window 8 --batch 4 --epochs 2 --threads 1 -o model";
    let said = refused(at, line);
    assert!(said.contains("no known architecture") && said.contains("--no-align"), "{said}");
    done(at, &format!("{line} --no-align"));
    let found = json(at, "sane neighbours model zoo 4 --epoch 1 -n 2");
    assert_eq!(found["neighbours"][0]["distance"].as_f64(), Some(0.0));
}

#[test]
fn probes_compare_embeddings_with_weights_and_statistics() {
    let found = json(at(), "sane probe model zoo --epochs 0,2,4");
    let rows = found["probes"].as_array().unwrap();
    let targets: Vec<&str> = rows.iter().map(|row| row["target"].as_str().unwrap()).collect();
    assert_eq!(targets.len(), 20, "{targets:?}");
    assert!(targets.contains(&"dropout"));
    let of = |target: &str, features: &str| {
        let found = rows.iter().find(|row| row["target"] == target && row["features"] == features);
        found.unwrap()["test"].as_f64().unwrap()
    };
    // Untrained, half trained and trained networks are easily told apart by simple numbers.
    assert!(of("epoch", "statistics") > 0.5);
    assert_eq!(rows[0]["dimension"].as_u64(), Some(2464));
}

#[test]
fn samples_are_checkpoints_that_are_as_good_as_is_said() {
    let at = at();
    let line = "sane sample model zoo -n 3 --candidates 6 --rounds 2 -o";
    for method in ["kde", "subsample", "bootstrap", "gaussian"] {
        let found = json(at, &format!("{line} {method} --method {method} --noise joint"));
        let samples = found["samples"].as_array().unwrap();
        assert_eq!(samples.len(), 3);
        let scores = samples.iter().map(|s| s["validation_accuracy"].as_f64().unwrap());
        let scores: Vec<f64> = scores.collect();
        assert!(method == "kde" || scores.is_sorted_by(|a, b| a >= b), "{method}: {scores:?}");
        let file = format!("{method}/{}", samples[0]["name"].as_str().unwrap());
        let measured = json(at, &format!("eval {file} --data digits"));
        assert_eq!(measured["accuracy"], samples[0]["test_accuracy"], "{method}");
    }
    let again = refused(at, &format!("{line} kde"));
    assert!(again.contains("is not empty; -f"), "{again}");
    // The same seed gives the same networks.
    done(at, &format!("{line} again --method subsample --noise joint"));
    let bytes = |name: &str| fs::read(at.join(name).join("sample-001.safetensors")).unwrap();
    assert!(bytes("again") == bytes("subsample"));
    // Fewer replace all.
    done(at, "sane sample model zoo -n 1 --candidates 2 --method subsample -o again -f");
    assert!(!at.join("again/sample-001.safetensors").exists());
    let others = refused(
        at,
        "sane sample model kde/sample-000.safetensors model/model.safetensors -o others --data digits",
    );
    assert!(
        others.contains("model/model.safetensors: its tensors are not those of kde/"),
        "{others}"
    );
    let mixed =
        refused(at, "sane sample model zoo kde/sample-000.safetensors -o others --data digits");
    assert!(mixed.contains("is a zoo and kde/"), "{mixed}");
}

#[test]
fn evaluation_says_what_is_lost() {
    let found = json(at(), "sane evaluate model zoo --windows 12,48,96");
    let rows = found["rows"].as_array().unwrap();
    let lengths: Vec<_> = rows.iter().map(|row| row["content"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [16, 12, 48]);
    assert_eq!(
        (found["layers"].as_array().unwrap().len(), rows[0]["networks"].as_u64()),
        (5, Some(9))
    );
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap();
    for row in rows {
        // Something has been learnt, and three quarters of what is counted besides are zeros that are easily learnt.
        assert!((0.01..1.0).contains(&number(row, "error")), "{row}");
        assert!(number(row, "error_with_padding") < number(row, "error"), "{row}");
        let counts = [8.0 * 26.0, 6.0 * 201.0, 4.0 * 25.0, 20.0 * 37.0, 10.0 * 21.0];
        let layers = row["layers"].as_array().unwrap().iter().map(|error| error.as_f64().unwrap());
        let sum: f64 = layers.zip(counts).map(|(error, count)| error * count).sum();
        assert!((sum / 2464.0 - number(row, "error")).abs() < 1e-6, "{row}");
    }
    // Training models are known better than others.
    let train = json(at(), "sane evaluate model zoo --part train");
    assert!(number(&train["rows"][0], "error") < number(&rows[0], "error"));
    for command in ["evaluate model zoo", "embed model zoo -o of-3.csv", "probe model zoo"] {
        let message = refused(at(), &format!("sane {command} --epochs 2,3"));
        let expected = "zoo: no model has weights of epoch 3; there are 0, 2, 4";
        assert!(message.contains(expected), "{message}");
    }
}

/// A prompt itself is a copy, whatever else is.
#[test]
fn audits_know_copies() {
    let at = at();
    let found = json(at, "sane sample model zoo -n 1 --method kde -o audited");
    let prompt = found["prompts"][0]["name"].as_str().unwrap();
    let (name, epoch) = prompt.rsplit_once(':').unwrap();
    done(at, &format!("zoo show zoo {name} --epoch {epoch} -o prompt.safetensors"));
    let line = "sane audit model prompt.safetensors audited/sample-000.safetensors --prompts zoo";
    let found = json(at, &format!("{line} --zoo zoo"));
    let rows = found["samples"].as_array().unwrap();
    assert_eq!(rows[0]["nearest_prompt"], prompt);
    assert!(rows[0]["distance"].as_f64().unwrap() < 1e-3);
    assert_eq!(rows[0]["own"]["agreement"]["errors"].as_f64(), Some(1.0));
    assert_eq!(rows[0]["verdict"], "a copy of its prompt");
    assert!(rows[1]["relative_distance"].as_f64().unwrap() > 0.01);
    assert_eq!(found["training_models"].as_u64(), Some(11));
    let text = String::from_utf8(done(at, line).stdout).unwrap();
    assert!(text.contains("prompt.safetensors: a copy of its prompt"), "{text}");
    // A network that is no better than chance is no copy, though it is all there is to compare.
    done(at, "zoo show zoo 0 --epoch 0 -o untrained.safetensors");
    let far = "sane audit model untrained.safetensors --prompts prompt.safetensors --data digits";
    let far = json(at, far);
    assert_ne!(far["samples"][0]["verdict"], "a copy of its prompt", "{far}");
    // Also of a single prompt, and of a model that was learnt and is none.
    let alone = "sane audit model prompt.safetensors --prompts prompt.safetensors --data digits";
    assert_eq!(json(at, alone)["samples"][0]["verdict"], "a copy of its prompt");
    let copied = (0..16).filter(|model| {
        done(at, &format!("zoo show zoo {model} -o any.safetensors -f"));
        let found = json(at, "sane audit model any.safetensors --prompts zoo --zoo zoo");
        found["samples"][0]["verdict"] == "a copy of a model that the autoencoder learnt"
    });
    assert!(copied.count() >= 4, "most of the 11 that it learnt are no prompts");
    let earlier = (0..16).filter(|model| {
        done(at, &format!("zoo show zoo {model} --epoch 2 -o any.safetensors -f"));
        let found = json(at, "sane audit model any.safetensors --prompts zoo --zoo zoo");
        found["samples"][0]["training_distance"].as_f64().unwrap() < 1e-3
    });
    assert_eq!(earlier.count(), 11, "all epochs that it learnt are known");
}

#[test]
fn what_does_not_fit_is_said_in_one_line() {
    let at = at();
    let long = refused(at, "sane pretrain zoo --window 64 -o long");
    assert!(long.contains("window is 64, expected at most the 48 tokens"), "{long}");
    assert!(!at.join("long").exists());
    let narrow = refused(at, "sane pretrain zoo --width 30 -o narrow");
    assert!(narrow.contains("width is 30, expected a multiple of 8"), "{narrow}");
    let epochs = refused(at, "sane pretrain zoo --model-epochs 3 -o epochs");
    assert!(epochs.contains("zoo: no model has weights of epoch 3; there are 0, 2, 4"), "{epochs}");
    assert!(refused(at, "sane probe zoo zoo").contains("zoo/config.json"));
    fs::create_dir_all(at.join("broken")).unwrap();
    fs::copy(at.join("model/model.safetensors"), at.join("broken/model.safetensors")).unwrap();
    let text = fs::read_to_string(at.join("model/config.json")).unwrap();
    for (from, to) in [("\"latent\": 16", "\"latent\": 24"), ("\"version\": 1", "\"version\": 9")] {
        assert!(text.contains(from), "{text}");
        fs::write(at.join("broken/config.json"), text.replace(from, to)).unwrap();
        let said = refused(at, "sane probe broken zoo");
        assert!(said.contains("broken/"), "{said}");
    }
}
