//! `weightspace align` as its users run it, and what it measures between two networks.

mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use program::{Ending, IMAGES, cnn, done, golden, run};
use serde_json::Value;
use tempfile::TempDir;
use weightspace::align::{Images, Line, estimate_statistics};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::permutation::apply;
use weightspace_core::{Checkpoint, StateDict, Tensor};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{Dataset, Pixels, Preprocessing};
use weightspace_nn::init::Initialisation;
use weightspace_nn::{ModelState, NetBuilder};

fn read(path: &Path) -> StateDict {
    Checkpoint::open(path).unwrap().state_dict().unwrap()
}

fn save(folder: &TempDir, name: &str, weights: &StateDict) -> PathBuf {
    let path = folder.path().join(name);
    write_safetensors(&path, weights, &BTreeMap::new()).unwrap();
    path
}

/// The CNN with the units of every group in reverse.
fn reversed(folder: &TempDir) -> PathBuf {
    let mut weights = read(&cnn());
    let groups = arch::recognise(&weights.infos()).unwrap().permutation_groups();
    let reverse: Vec<_> = groups.iter().map(|group| (0..group.size).rev().collect()).collect();
    apply(&groups, &reverse, &mut weights).unwrap();
    save(folder, "reversed.safetensors", &weights)
}

#[test]
fn a_permuted_copy_comes_back_and_the_barrier_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, out) = (reversed(&folder), folder.path().join("aligned.safetensors"));
    let line = format!("align {{}} {{}} -o {{}} {IMAGES} --points 5 --json");
    let found = done(&line, &[&cnn(), &copy, &out]).json();
    assert_eq!(found["units"], found["moved"]);
    assert_eq!(found["distance_after"]["total"], 0.0);
    assert!(found["distance_before"]["touched"].as_f64().unwrap() > 1.0, "{found}");
    assert_eq!((&found["converged"], &found["folded"]), (&true.into(), &false.into()));
    let (before, after) = (&found["line"]["before"], &found["line"]["after"]);
    assert!(before["barrier"].as_f64().unwrap() > 0.1, "{found}");
    assert_eq!(after["barrier"], 0.0);
    let places = |line: &Value| -> Vec<f64> {
        let samples = line["samples"].as_array().unwrap().iter();
        samples.map(|sample| sample["position"].as_f64().unwrap()).collect()
    };
    assert_eq!(places(before), [0.0, 0.25, 0.5, 0.75, 1.0]);
    // PyTorch gets 338 of 360 images right.
    for sample in [&after["samples"][2], &before["samples"][4]] {
        assert!((sample["accuracy"].as_f64().unwrap() - 338.0 / 360.0).abs() < 1e-12, "{sample}");
    }
    assert_eq!(read(&out), read(&cnn()));

    let Ending { code, stderr, .. } = run("align {} {} -o {}", &[&cnn(), &copy, &out]);
    assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
    assert!(stderr.contains("-f replaces it"), "{stderr}");
    let text = done("align {} {} -o {} -f", &[&cnn(), &cnn(), &out]).stdout;
    assert!(text.contains(": 0 of") && text.contains("0.000000 after"), "{text}");
}

#[test]
fn threads_change_nothing_and_files_may_be_wsp() {
    let folder = tempfile::tempdir().unwrap();
    let (copy, wsp) = (reversed(&folder), folder.path().join("reversed.wsp"));
    done("compress {} -o {} --quiet", &[&copy, &wsp]);
    let out = |name: &str| folder.path().join(name);
    let line = "align {} {} -o {} --seed 3 --threads";
    let reports = ["1", "2", "3"].map(|threads| {
        let mut found =
            done(&format!("{line} {threads} --json"), &[&cnn(), &wsp, &out(threads)]).json();
        for key in ["seconds", "output"] {
            found[key] = Value::Null;
        }
        (found, std::fs::read(out(threads)).unwrap())
    });
    assert!(reports[0] == reports[1] && reports[1] == reports[2]);
    let found = &reports[0].0;
    assert_eq!(found["units"], found["moved"]);
    let distance = found["distance_after"]["total"].as_f64().unwrap();
    assert!(distance > 0.0 && distance < 1.0, "{found}");
}

#[test]
fn what_does_not_fit_is_said_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = read(&cnn());
    let first = whole.iter().next().unwrap().0.to_owned();
    let without: StateDict = whole.clone().into_iter().filter(|(name, _)| *name != first).collect();
    let without = save(&folder, "without", &without);
    let mut broken = whole.clone();
    let shape = whole.get(&first).unwrap().shape().to_vec();
    broken
        .insert(&*first, Tensor::from_f32(shape.clone(), &vec![f32::NAN; shape.iter().product()]));
    let broken = save(&folder, "broken", &broken);
    let other = golden("models/digits-mlp.pt");
    let linear = [
        ("0.weight".to_owned(), Tensor::from_f32(vec![10, 64], &[0.0; 640])),
        ("0.bias".to_owned(), Tensor::from_f32(vec![10], &[0.0; 10])),
    ];
    let linear = save(&folder, "linear", &linear.into_iter().collect());
    let good = cnn();
    let cases: [(&str, [&Path; 2], &str); 12] = [
        ("align {} {}", [&good, &other], "only in the first"),
        ("align {} {}", [&good, &without], "only in the first"),
        ("align {} {}", [&without, &good], "without"),
        ("align {} {}", [&good, &broken], "not finite"),
        ("align {} {}", [&broken, &good], "not finite"),
        ("align {} {}", [&linear, &linear], "no units that may be permuted"),
        ("align {} {} --points 5", [&good, &good], "--data"),
        ("align {} {} --images 5", [&good, &good], "--data"),
        ("align {} {} --split train", [&good, &good], "--data"),
        ("align {} {} --preprocessing unit", [&good, &good], "--data"),
        ("align {} {} --arch resnet20", [&good, &good], "resnet20"),
        (
            "align {} {} --data digits --preprocessing unit-pad28 --reset-batch-norm",
            [&good, &good],
            "no statistics of batch normalisations",
        ),
    ];
    for (line, paths, part) in cases {
        let Ending { code, stdout, stderr } = run(line, &paths);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains(part), "{line}: {stderr}");
        assert!(stderr.lines().count() == 1 || stderr.contains("Usage"), "{line}: {stderr}");
    }
}

/// Images of one channel and 2 x 2 pixels.
fn images(count: usize) -> Dataset {
    let pixels: Vec<f32> = (0..4 * count).map(|i| (i * i % 31) as f32 / 31.0).collect();
    let labels = (0..count).map(|i| (i % 2) as u16).collect();
    let classes = vec!["a".into(), "b".into()];
    Dataset::new("test", [1, 2, 2], Pixels::F32(pixels), labels, classes).unwrap()
}

#[test]
fn statistics_are_those_of_the_images() {
    let (mut net, input) = NetBuilder::maps(1, 2, 2);
    let x = net.batch_norm("bn", input);
    let x = net.flatten(x);
    net.linear("fc", x, 2);
    let net = net.finish("test");
    let weights = ModelState::initial(&net, Initialisation::default(), 1).to_state_dict(&net);
    let dataset = images(256 + 17);
    let preprocessing = Preprocessing::unit();
    let in_order: Vec<usize> = (0..dataset.len()).collect();
    let indices = Some(&in_order[..]);
    let images = Images { dataset: &dataset, indices, preprocessing: &preprocessing };
    let found = estimate_statistics(&net, &weights, images).unwrap();
    let value = |name: &str| f64::from(found.get(name).unwrap().to_f32()[0]);
    // Two batches of 136 images; one is left out.
    let Pixels::F32(pixels) = dataset.pixels() else { panic!() };
    let batches = pixels.chunks_exact(544).take(2).map(|batch| {
        let mean = batch.iter().map(|&v| f64::from(v)).sum::<f64>() / 544.0;
        let spread = batch.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
        (mean, spread / 543.0)
    });
    let batches: Vec<_> = batches.collect();
    assert!((value("bn.running_mean") - (batches[0].0 + batches[1].0) / 2.0).abs() < 1e-6);
    assert!((value("bn.running_var") - (batches[0].1 + batches[1].1) / 2.0).abs() < 1e-6);
    for name in ["bn.weight", "fc.weight", "fc.bias"] {
        assert_eq!(found.get(name), weights.get(name));
    }
    // Images of one class after those of another: batches that are drawn have both.
    let pixels = (0..4 * 256).map(|i| if i < 512 { 0.0 } else { 1.0 }).collect();
    let names = vec!["a".into(), "b".into()];
    let sorted =
        Dataset::new("sorted", [1, 2, 2], Pixels::F32(pixels), vec![0; 256], names).unwrap();
    let drawn = Images { dataset: &sorted, indices: None, preprocessing: &preprocessing };
    let drawn = estimate_statistics(&net, &weights, drawn).unwrap();
    assert!((drawn.get("bn.running_var").unwrap().to_f32()[0] - 0.25).abs() < 0.02);
    let one = Images { indices: Some(&[0]), ..images };
    assert!(estimate_statistics(&net, &weights, one).is_err());
}

#[test]
fn statistics_of_every_place_repair_the_line() {
    let options =
        ArchOptions { size: Some(8), in_channels: Some(1), classes: Some(2), ..Default::default() };
    let net = arch::build("resnet20", &options).unwrap();
    let state =
        |seed| ModelState::initial(&net, Initialisation::default(), seed).to_state_dict(&net);
    let (a, b) = (state(1), state(2));
    let pixels = (0..64 * 300).map(|i| (i * i % 31) as f32 / 31.0).collect();
    let labels = (0..300).map(|i| (i % 2) as u16).collect();
    let classes = vec!["a".into(), "b".into()];
    let dataset = Dataset::new("test", [1, 8, 8], Pixels::F32(pixels), labels, classes).unwrap();
    let preprocessing = Preprocessing::unit();
    let images = Images { dataset: &dataset, indices: None, preprocessing: &preprocessing };
    let line = |training| Line::new(&net, [&a, &b], 3, images, training, &|_| ()).unwrap();
    let (plain, repaired) = (line(None), line(Some(images)));
    assert_ne!(plain.samples[1].loss, repaired.samples[1].loss);
    assert!(repaired.samples.iter().all(|sample| sample.loss.is_finite()));
    assert_eq!(line(Some(images)), repaired);
}
