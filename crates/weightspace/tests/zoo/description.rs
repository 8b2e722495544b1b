//! Descriptions: grids, samples, mistakes.

use std::collections::BTreeSet;
use std::fs;

use weightspace::zoo::{Import, ModelSpec, Population, ZooDescription};

use crate::fixtures::{NAMES, copy, silent};

const DESCRIPTION: &str = r#"
data = "mnist"
arch = "zoo-cnn"
epochs = 4
batch = 10
images = 1000
checkpoints = [0, 4]
activation = ["tanh", "relu"]
dropout = [0, 0.5]
optimizer = ["adam", "sgd"]
learning_rate = [1e-3, 1e-4]
seeds = "1-10"
"#;

#[test]
fn a_description_is_a_grid() {
    let description = ZooDescription::parse(DESCRIPTION).unwrap();
    let models = description.models().unwrap();
    assert_eq!(models.len(), 2 * 2 * 2 * 2 * 10);
    // Seeds vary first, then learning rates, then optimisers.
    assert_eq!((models[9].seed, models[10].seed), (10, 1));
    assert_eq!((models[9].learning_rate, models[10].learning_rate), (1e-3, 1e-4));
    assert_eq!((models[19].optimizer.name(), models[20].optimizer.name()), ("adam", "sgd"));
    assert_eq!((models[39].dropout, models[40].dropout), (0.0, 0.5));
    assert_eq!((models[79].activation.name(), models[80].activation.name()), ("tanh", "relu"));
    let names: BTreeSet<String> = (0..).zip(&models).map(|(i, spec)| spec.name(i)).collect();
    assert_eq!(names.len(), models.len());
    assert_eq!(description.checkpoint_epochs(), [0, 4]);
    let params = description.params(&models[0], 1, 10);
    assert_eq!(params["training::batchsize"], 10);
    assert_eq!(params["weightspace::data"], "mnist");
    assert_eq!(ZooDescription::parse(&description.to_toml()).unwrap(), description);
    // Every second seed of another zoo.
    let list = DESCRIPTION.replace("\"1-10\"", "[2, 4]");
    assert_eq!(ZooDescription::parse(&list).unwrap().models().unwrap()[1].seed, 4);
}

#[test]
fn samples_are_drawn_from_the_grid() {
    let sample = |count: usize, seed: u64| {
        let text = format!("{DESCRIPTION}sample = {count}\nsample_seed = {seed}\n");
        ZooDescription::parse(&text).unwrap().models().unwrap()
    };
    let grid = ZooDescription::parse(DESCRIPTION).unwrap().models().unwrap();
    let position = |spec: &ModelSpec| grid.iter().position(|other| other == spec).unwrap();
    let positions = |models: &[ModelSpec]| models.iter().map(position).collect::<Vec<usize>>();
    let (small, large) = (positions(&sample(10, 1)), positions(&sample(40, 1)));
    assert_eq!((small.len(), large.len()), (10, 40));
    assert!(large.is_sorted_by(|a, b| a < b), "each once, in the grid's order");
    assert!(small.iter().all(|position| large.contains(position)));
    assert_ne!(positions(&sample(10, 2)), small);
    // Drawn seeds belong to the position in the grid, so that samples agree with the whole.
    let random = DESCRIPTION.replace("\"1-10\"", "\"random:10\"");
    let all = ZooDescription::parse(&random).unwrap().models().unwrap();
    let seeds: BTreeSet<u64> = all.iter().map(|spec| spec.seed).collect();
    assert!(seeds.len() > 150 && seeds.iter().all(|&seed| seed < 1_000_000));
    let some = ZooDescription::parse(&format!("{random}sample = 5")).unwrap().models().unwrap();
    assert!(some.iter().all(|spec| all.contains(spec)));
}

#[test]
fn zoos_that_differ_in_nothing_but_seeds_have_one_description() {
    let folder = tempfile::tempdir().unwrap();
    // A zoo of one of the published models, with the description's text changed.
    let part = |model: usize, (from, to): (&str, &str)| {
        let tree = copy();
        let others = NAMES.iter().enumerate().filter(|(index, _)| *index != model);
        others.for_each(|(_, name)| fs::remove_dir_all(tree.path().join(name)).unwrap());
        let description = Some(DESCRIPTION.replace(from, to));
        let path = folder.path().join("part");
        let import = Import { description, ..Import::default() };
        import.write(&Population::open(tree.path()).unwrap(), &path, &silent).unwrap();
        Population::from_bytes("part", fs::read(&path).unwrap()).unwrap()
    };
    let seeds = |text| part(1, ("seeds = \"1-10\"", text));
    let first = part(0, ("", ""));
    let joined = |other: Population| {
        let zoo = Population::join(vec![first.clone(), other]).unwrap();
        let description = zoo.description()?;
        Some(ZooDescription::parse(&description).unwrap())
    };
    assert_eq!(joined(part(1, ("", ""))).unwrap(), ZooDescription::parse(DESCRIPTION).unwrap());
    let more = joined(seeds("seeds = \"9-12\"")).unwrap();
    let whole = ZooDescription::parse(&DESCRIPTION.replace("1-10", "1-12")).unwrap();
    assert_eq!(more.models().unwrap(), whole.models().unwrap());
    assert_eq!(joined(seeds("seeds = \"random:3\"")), None);
    assert_eq!(joined(seeds("seeds = 11\nsample = 5")), None);
    assert_eq!(joined(part(1, ("epochs = 4", "epochs = 5"))), None);
}

#[test]
fn descriptions_that_make_no_sense_are_refused() {
    for (change, part) in [
        (("epochs = 4", "epochs = 0"), "at least 1"),
        (("[0, 4]", "[0, 5]"), "ascending epochs from 0 to 4"),
        (("[0, 4]", "[4, 0]"), "ascending epochs from 0 to 4"),
        (("\"tanh\"", "\"tan\""), "unknown activation 'tan'; known are relu"),
        (("[0, 0.5]", "[1.5]"), "dropout is 1.5"),
        (("\"adam\"", "\"muon\""), "line 10"),
        (("1e-4", "-1.0"), "learning_rate is -1"),
        (("1-10", "10-1"), "expected \"1-1000\""),
        (("1-10", "1-100000000000"), "at most"),
        (("mnist", "mist"), "unknown data set"),
        (("zoo-cnn", "zoo"), "unknown architecture"),
        (("batch", "batches"), "unknown field `batches`"),
        (("[1e-3, 1e-4]", "[]"), "no model"),
        (("[1e-3, 1e-4]", "[1e-3, 0.001]"), "learning_rate has the value 0.001 twice"),
        (("images", "sample = 1000\nimages"), "the grid has 160 models"),
    ] {
        let text = DESCRIPTION.replacen(change.0, change.1, 1);
        let error = ZooDescription::parse(&text).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{change:?}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zoo.toml");
    fs::write(&path, "epochs = []").unwrap();
    let error = ZooDescription::read(&path).unwrap_err().to_string();
    assert!(error.contains("zoo.toml: line 1"), "{error}");
    assert!(ZooDescription::preset("mnits-seed").unwrap_err().to_string().contains("mnist-seed"));
}
