//! The demo as its users run it, on a machine that has nothing.

mod data_folder;
mod program;

use std::fs;
use std::path::Path;
use std::process::Output;

use data_folder::data_folder;
use program::program;
use serde_json::Value;
use weightspace_core::{Checkpoint, WspFile};

fn demo(folder: &Path, arguments: &[&str]) -> Output {
    program().args(["demo", "-o"]).arg(folder).args(arguments).output().unwrap()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn the_demo_trains_compresses_verifies_and_tells() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("new/demo");
    // A population takes a minute or two, which only those who test with data wait for.
    let full: &[&str] = if data_folder().is_some() { &["--full"] } else { &[] };
    let output = demo(&folder, &[&["--json", "--threads", "2", "--seed", "7"], full].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    let results: Value = serde_json::from_slice(&output.stdout).unwrap();
    let file = fs::read(folder.join("demo.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&file).unwrap(), results);
    assert_eq!(
        (&results["ok"], &results["seed"], &results["threads"]),
        (&true.into(), &7.into(), &2.into())
    );

    // The network has learnt, and its file is a checkpoint.
    let original = &results["original"];
    assert!(number(original, "accuracy") > 0.93, "{original}");
    let model = folder.join("model.safetensors");
    assert_eq!(number(original, "bytes"), fs::metadata(&model).unwrap().len() as f64);
    let weights = Checkpoint::open(&model).unwrap().state_dict().unwrap();

    let page = fs::read_to_string(folder.join("demo.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("--seed 7 --threads 2"), "{page}");
    assert_eq!(results.get("population").is_some(), !full.is_empty());
    if let Some(population) = results.get("population") {
        check_population(population, &folder.join("population"));
        assert!(page.contains("subsample") && page.contains("R²"), "{page}");
    }
    let points = results["points"].as_array().unwrap();
    assert!(points.len() >= 10, "{results}");
    for point in points {
        let path = folder.join(point["file"].as_str().unwrap());
        let bytes = fs::metadata(&path).unwrap().len() as f64;
        assert_eq!((number(point, "bytes"), &point["verified"]), (bytes, &true.into()), "{point}");
        assert!(
            (number(point, "ratio") - number(original, "bytes") / bytes).abs() < 1e-9,
            "{point}"
        );
        let decoded = WspFile::open(&path).unwrap().state_dict().unwrap();
        let names = |s: &weightspace_core::StateDict| {
            s.infos().into_iter().map(|i| (i.name, i.shape)).collect::<Vec<_>>()
        };
        assert_eq!(names(&decoded), names(&weights));
        assert!(page.contains(point["file"].as_str().unwrap()));
    }
    // Little is lost where little is taken away; and smaller files are made than that.
    assert!(number(&points[0], "accuracy") > number(original, "accuracy") - 0.02, "{points:?}");
    assert!(points.iter().any(|point| number(point, "ratio") > 20.0), "{points:?}");

    // What is there is not overwritten by mistake.
    let again = demo(&folder, &[]);
    let stderr = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("not empty") && stderr.lines().count() == 1, "{stderr}");
}

/// Networks that were never trained know digits.
fn check_population(population: &Value, folder: &Path) {
    assert!(number(population, "reconstruction_error") < 0.5, "{population}");
    let samplings = population["samplings"].as_array().unwrap();
    let subsample = samplings.iter().find(|s| s["folder"] == "subsample").unwrap();
    assert!(number(subsample, "mean") > 0.3 && number(subsample, "prompts") > 0.85, "{population}");
    for sampling in samplings {
        let samples = folder.join(sampling["folder"].as_str().unwrap());
        assert_eq!(sampling["count"].as_u64(), Some(10));
        Checkpoint::open(&samples.join("sample-009.safetensors")).unwrap();
    }
}

#[test]
fn a_folder_that_cannot_be_is_one_line() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("file");
    fs::write(&file, "mine").unwrap();
    for arguments in [&[][..], &["-f"]] {
        let output = demo(&file, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("file") && stderr.lines().count() == 1, "{stderr}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
