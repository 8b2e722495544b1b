//! Models of a zoo in one order of units.

use std::fs;

use serde_json::Value;
use weightspace::zoo::align::{Reference, align, sound};
use weightspace::zoo::packed::{PackedModel, PackedWriter};
use weightspace::zoo::{Params, Population};
use weightspace_core::align::AlignOptions;
use weightspace_core::permutation::{apply, inverse};
use weightspace_core::random::{Key, Stream};
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::ModelState;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::init::Initialisation;
use weightspace_nn::net::Net;

use crate::fixtures::{NAMES, published, silent};
use crate::program::program;

const MODELS: usize = 6;
const EPOCHS: [u32; 2] = [3, 7];

fn net() -> Net {
    arch::build("mlp:6-8-5-3", &ArchOptions::default()).unwrap()
}

/// The weights of every model at an epoch before they are permuted: the last ones are alike, the others not.
fn trained(epoch: u32, model: usize) -> StateDict {
    let seed = if epoch == EPOCHS[1] { 1 } else { 2 + model as u64 };
    ModelState::initial(&net(), Initialisation::default(), seed).to_state_dict(&net())
}

fn permutations(model: usize) -> Vec<Vec<usize>> {
    let mut random = Stream::new(Key::from_seed(11), model as u64);
    let draw = |size: usize| {
        let mut permutation: Vec<usize> = (0..size).collect();
        random.shuffle(&mut permutation);
        permutation
    };
    net().permutation_groups().iter().map(|group| group.size).map(draw).collect()
}

fn permuted(epoch: u32, model: usize) -> StateDict {
    let mut weights = trained(epoch, model);
    apply(&net().permutation_groups(), &permutations(model), &mut weights).unwrap();
    weights
}

/// A zoo of permuted copies; one model may have weights that are not finite.
fn zoo(folder: &std::path::Path, broken: Option<usize>) -> std::path::PathBuf {
    let path = folder.join("zoo");
    let model = |index: usize| PackedModel {
        name: format!("model{index}"),
        params: Params::new(),
        tensors: trained(3, 0).infos(),
        metrics: Vec::new(),
    };
    let models: Vec<_> = (0..MODELS).map(model).collect();
    let mut writer = PackedWriter::create(&path, None, &EPOCHS, &models).unwrap();
    for index in 0..MODELS {
        for epoch in EPOCHS {
            let mut weights = permuted(epoch, index);
            if broken == Some(index) {
                weights.insert("2.bias", Tensor::from_f32(vec![5], &[f32::NAN; 5]));
            }
            writer.write(&weights).unwrap();
        }
    }
    writer.finish().unwrap();
    path
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = program().args(["zoo", "align"]).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn permutations_of_the_last_epoch_hold_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let population = Population::open(&zoo(folder.path(), None)).unwrap();
    let reference = Reference::read(&population, 2).unwrap();
    assert_eq!((reference.name.as_str(), reference.epoch), ("model2", 7));
    let options = AlignOptions::default();
    let found = align(&population, &reference, &options, &silent).unwrap();
    let (all, alignments, damaged) = sound(&population, found);
    assert_eq!((all.len(), alignments.len(), damaged.len()), (MODELS, MODELS, 0));
    for (model, alignment) in alignments.iter().enumerate() {
        assert_eq!(alignment.after.total, 0.0);
        // From the order of the model back to that of training, and on to that of the reference.
        let [own, others] = [permutations(model), permutations(2)];
        for ((own, other), found) in own.iter().zip(&others).zip(&alignment.permutations) {
            let back = inverse(own);
            assert_eq!(found, &other.iter().map(|&unit| back[unit]).collect::<Vec<_>>());
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| align(&population, &reference, &options, &silent)).unwrap();
    assert_eq!(sound(&population, alone).1, alignments);
}

#[test]
fn a_zoo_is_written_in_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = zoo(folder.path(), None);
    let [zoo, out] = [zoo, folder.path().join("aligned")].map(|p| p.to_str().unwrap().to_owned());
    let (code, stdout, stderr) = run(&[&zoo, "-o", &out, "--json", "--reference", "model4"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&report["models"], &report["epochs"]), (&MODELS.into(), &EPOCHS.len().into()));
    assert_eq!((&report["reference"], &report["epoch"]), (&"model4".into(), &7.into()));
    assert_eq!(report["distance_after"], 0.0);
    assert!(report["distance_before"].as_f64().unwrap() > 0.1, "{report}");
    let aligned = Population::open(out.as_ref()).unwrap();
    let groups = net().permutation_groups();
    for model in 0..MODELS {
        for epoch in EPOCHS {
            let mut expected = trained(epoch, model);
            apply(&groups, &permutations(4), &mut expected).unwrap();
            assert_eq!(aligned.weights(model, epoch).unwrap(), expected, "{model} {epoch}");
        }
    }
    let (code, _, stderr) = run(&[&zoo, "-o", &out]);
    assert!(code == 2 && stderr.contains("-f replaces it"), "{stderr}");
    let (code, stdout, _) = run(&[&zoo, "-o", &out, "-f"]);
    assert!(code == 0 && stdout.contains("aligned to model0 after epoch 7"), "{stdout}");
}

#[test]
fn a_published_tree_is_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("aligned");
    let (tree, out) = (published(), out.to_str().unwrap().to_owned());
    let (code, stdout, stderr) = run(&[tree.to_str().unwrap(), "-o", &out]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains(&format!("3 models x 3 epochs aligned to {}", NAMES[0])), "{stdout}");
    let (before, after) =
        (Population::open(&tree).unwrap(), Population::open(out.as_ref()).unwrap());
    assert_eq!(before.model(1).unwrap(), after.model(1).unwrap());
    assert_eq!(before.weights(0, 3).unwrap(), after.weights(0, 3).unwrap());
}

#[test]
fn models_with_dropout_are_the_same_network_under_other_names() {
    let build = |dropout| {
        let options = ArchOptions { dropout: Some(dropout), ..ArchOptions::default() };
        arch::build("zoo-cnn", &options).unwrap()
    };
    let nets = [build(0.0), build(0.5)];
    let weights = [0, 1].map(|i| {
        ModelState::initial(&nets[i], Initialisation::default(), 1).to_state_dict(&nets[i])
    });
    assert_ne!(weights[0].infos(), weights[1].infos());
    let folder = tempfile::tempdir().unwrap();
    let [zoo, out] = ["zoo", "out"].map(|name| folder.path().join(name));
    let model = |index: usize| PackedModel {
        name: format!("model{index}"),
        params: Params::new(),
        tensors: weights[index].infos(),
        metrics: Vec::new(),
    };
    let mut writer = PackedWriter::create(&zoo, None, &[1], &[model(0), model(1)]).unwrap();
    writer.write(&weights[0]).unwrap();
    let mut moved = weights[1].clone();
    let groups = nets[1].permutation_groups();
    let reverse: Vec<_> = groups.iter().map(|group| (0..group.size).rev().collect()).collect();
    apply(&groups, &reverse, &mut moved).unwrap();
    writer.write(&moved).unwrap();
    writer.finish().unwrap();
    let (code, _, stderr) = run(&[zoo.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(Population::open(&out).unwrap().weights(1, 1).unwrap(), weights[1]);
}

#[test]
fn what_cannot_be_aligned_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = zoo(folder.path(), Some(1));
    let [zoo, out] = [zoo, folder.path().join("aligned")].map(|p| p.to_str().unwrap().to_owned());
    let refused = |arguments: &[&str], part: &str| {
        let (code, stdout, stderr) = run(&[&[zoo.as_str(), "-o", &out], arguments].concat());
        assert_eq!((code, stdout.as_str(), stderr.lines().count()), (2, "", 1), "{stderr}");
        assert!(stderr.contains(part), "{part} in {stderr}");
        assert!(!fs::exists(&out).unwrap());
    };
    refused(&[], "model1: the other model has values in tensor \"2.bias\" that are not finite");
    refused(&["--reference", "model1"], "the reference has values");
    refused(&["--reference", "model9"], "none of its 6 models is named \"model9\"");
    let (code, stdout, stderr) = run(&[&zoo, "-o", &out, "--skip-damaged"]);
    assert!(code == 0 && stdout.contains("5 models"), "{stdout} {stderr}");
    assert!(stderr.starts_with("skipped model1: ") && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(Population::open(out.as_ref()).unwrap().len(), MODELS - 1);
}
