//! Zoos: what PyTorch wrote, both layouts, tables and statistics, the commands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use weightspace::zoo::import::write_tree;
use weightspace::zoo::index::{write_csv, write_parquet};
use weightspace::zoo::packed::{PackedModel, PackedWriter};
use weightspace::zoo::stats::Stats;
use weightspace::zoo::tree::ModelWriter;
use weightspace::zoo::{EpochMetrics, Import, Model, ModelSpec, Population, Shard, ZooDescription};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, DType, StateDict, Tensor, TensorInfo};

const NAMES: [&str; 3] = [
    "NN_tune_trainable_abcde_00000_0_seed=1_2021-07-12_12-44-40",
    "NN_tune_trainable_abcde_00001_1_seed=2_2021-07-12_12-44-41",
    "NN_tune_trainable_abcde_00002_2_seed=3_2021-07-12_12-44-42",
];

/// The zoo that tests/golden/zoo/make.py made.
fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/zoo/published")
}

/// A copy of it, to damage.
fn copy() -> TempDir {
    fn all(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => all(&entry.path(), &target),
                false => drop(fs::copy(entry.path(), target).unwrap()),
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    all(&published(), folder.path());
    folder
}

fn silent(_: &str, _: usize, _: usize) {}

/// The weights that make.py says.
fn expected(model: usize, epoch: usize) -> StateDict {
    let shapes: [(&str, &[usize]); 4] =
        [("0.weight", &[3, 4]), ("0.bias", &[3]), ("2.weight", &[2, 3]), ("2.bias", &[2])];
    let tensor = |(t, (name, shape)): (usize, (&str, &[usize]))| {
        let value = |i| ((i + 3 * t + 5 * model + 7 * epoch) % 33) as f32;
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|i| (value(i) - 16.0) / 8.0).collect();
        (name.to_owned(), Tensor::from_f32(shape.to_vec(), &values))
    };
    shapes.into_iter().enumerate().map(tensor).collect()
}

/// Everything about a zoo.
fn everything(zoo: &Population) -> Vec<(Model, Vec<(StateDict, Vec<f32>)>)> {
    let model = |index| {
        let model = zoo.model(index).unwrap();
        let weights = model.epochs.iter().map(|&epoch| {
            let weights = zoo.weights(index, epoch).unwrap();
            assert_eq!(zoo.tensors(index, epoch).unwrap(), weights.infos());
            (weights, zoo.row(index, epoch).unwrap())
        });
        let weights = weights.collect();
        (model, weights)
    };
    (0..zoo.len()).map(model).collect()
}

#[test]
fn a_published_zoo_is_read_as_it_is() {
    let zoo = Population::open(&published()).unwrap();
    assert_eq!(zoo.names().collect::<Vec<_>>(), NAMES);
    assert_eq!(zoo.layout(), "tree");
    for (m, (model, weights)) in everything(&zoo).into_iter().enumerate() {
        assert_eq!(model.epochs, [0, 1, 3]);
        for ((tensors, row), &epoch) in weights.into_iter().zip(&model.epochs) {
            assert_eq!(tensors, expected(m, epoch as usize), "model {m}, epoch {epoch}");
            let flat: Vec<f32> =
                tensors.iter().flat_map(|(_, t)| t.to_f32().into_owned()).collect();
            assert_eq!(row, flat);
        }
        // Keys that nobody here knows are kept.
        assert_eq!(model.params["dataset::dump"], "/zoos/dataset.pt");
        assert_eq!(model.params["model::h_dim"], json!([3]));
        assert_eq!(model.params["training::checkpoint_dir"], Value::Null);
        let spec = model.spec().unwrap();
        assert_eq!((spec.arch.as_str(), spec.seed), ("mlp:4-3-2", m as u64 + 1));
        assert_eq!((spec.learning_rate, spec.dropout), (1e-3, 0.0));
        let [untrained, first, last] = model.metrics[..] else { panic!("{:?}", model.metrics) };
        assert!(
            untrained.train_loss.is_nan() && untrained.train_accuracy.is_nan(),
            "-999 is nothing"
        );
        assert_eq!(untrained.test_accuracy, 0.01 * m as f32);
        assert_eq!((first.train_loss, first.train_accuracy), (1.25, 0.25));
        assert_eq!(last.epoch, 3);
        assert!((last.generalisation_gap() - (0.75 - 0.6 - 0.01 * m as f32)).abs() < 1e-6);
        assert!(last.validation_loss.is_nan());
        match m {
            2 => assert_eq!((last.validation_accuracy, last.test_loss), (0.375, f32::INFINITY)),
            _ => assert!(last.validation_accuracy.is_nan() && last.test_loss == 0.6875),
        }
    }
}

#[test]
fn tree_packed_and_tree_again_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    let (file, tree) = (folder.path().join("zoo.safetensors"), folder.path().join("tree"));
    let original = Population::open(&published()).unwrap();
    let survey = Import::default().write(&original, &file, &silent).unwrap();
    assert_eq!((survey.models.len(), survey.epochs), (3, vec![0, 1, 3]));
    let packed = Population::open(&file).unwrap();
    assert_eq!(packed.layout(), "packed");
    assert_eq!(everything(&packed), everything(&original));
    write_tree(&packed, &tree, &silent).unwrap();
    let again = Population::open(&tree).unwrap();
    assert_eq!(everything(&again), everything(&original));
    // And what is packed from that is the same file.
    let second = folder.path().join("second.safetensors");
    Import::default().write(&again, &second, &silent).unwrap();
    assert!(fs::read(&second).unwrap() == fs::read(&file).unwrap(), "another file");
    // The file is one that any tool reads.
    let plain = Checkpoint::open(&file).unwrap();
    assert_eq!(plain.read_named("weights").unwrap().shape(), [3, 3, 23]);
    assert_eq!(plain.read_named("metrics").unwrap().shape(), [3, 3, 6]);
    assert_eq!(plain.read_named("epochs").unwrap().iter_f64().collect::<Vec<_>>(), [0.0, 1.0, 3.0]);
}

/// A network with a batch normalisation, whose names depend on the model.
fn batch_normalised(model: usize) -> StateDict {
    let steps =
        Tensor::from_bytes(DType::I64, vec![], (1000 + model as i64).to_le_bytes().to_vec());
    let half = Tensor::from_f32(vec![2], &[0.5, model as f32]).cast_float(DType::F16);
    [
        (format!("{}.weight", model % 2), Tensor::from_f32(vec![2, 1], &[f32::NAN, -0.0])),
        ("bn.running_mean".to_owned(), half),
        ("bn.num_batches_tracked".to_owned(), steps),
    ]
    .into_iter()
    .collect()
}

#[test]
fn names_that_differ_and_other_types_survive() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    for model in 0..4 {
        let params = json!({"seed": model, "odd": {"nested": [1, "x"]}});
        let params = params.as_object().unwrap();
        let writer = ModelWriter::create(&tree, &format!("m{model}"), params).unwrap();
        for epoch in [2, 10] {
            writer.write_checkpoint(epoch, &batch_normalised(model + epoch as usize)).unwrap();
        }
        writer.write_metrics(&[EpochMetrics::from_values(10, [0.1; 6])]).unwrap();
    }
    let file = folder.path().join("zoo");
    let tree = Population::open(&tree).unwrap();
    Import::default().write(&tree, &file, &silent).unwrap();
    let packed = Population::open(&file).unwrap();
    for (model, epoch) in [(0, 2), (1, 10), (3, 10)] {
        let (a, b) = (tree.weights(model, epoch).unwrap(), packed.weights(model, epoch).unwrap());
        assert_eq!(a, b, "bit for bit, NaN too");
        assert_eq!(a, batch_normalised(model + epoch as usize));
        assert_eq!(tree.model(model).unwrap(), packed.model(model).unwrap());
    }
}

/// A packed file of `count` small models; those of `broken` have a NaN at their last epoch.
fn small_zoo(path: &Path, count: usize, broken: &[usize]) -> Population {
    let infos = vec![TensorInfo { name: "w".into(), dtype: DType::F32, shape: vec![3] }];
    let model = |i: usize| PackedModel {
        name: format!("model_{i:04}"),
        params: json!({"seed": i, "optim::lr": if i % 2 == 0 { 0.1 } else { 0.01 }})
            .as_object()
            .unwrap()
            .clone(),
        tensors: infos.clone(),
        metrics: vec![EpochMetrics::from_values(
            5,
            [1.0, 0.9, 1.0, 0.8, 1.0, 0.5 + 0.01 * (i % 7) as f32],
        )],
    };
    let models: Vec<_> = (0..count).map(model).collect();
    let mut writer = PackedWriter::create(path, None, &[0, 5], &models).unwrap();
    for i in 0..count {
        writer.write_row(&[i as f32, 0.0, 1.0]).unwrap();
        let last = if broken.contains(&i) { f32::NAN } else { 2.0 };
        writer.write_row(&[i as f32, last, 1.0]).unwrap();
    }
    writer.finish().unwrap();
    Population::open(path).unwrap()
}

#[test]
fn models_that_are_not_finite_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = small_zoo(&folder.path().join("zoo"), 12, &[0, 7]);
    let (finite, others) = zoo.without_nan().unwrap();
    assert_eq!(others, ["model_0000", "model_0007"]);
    assert_eq!(finite.len(), 10);
    assert_eq!(finite.name(0), "model_0001");
    assert_eq!(finite.row(5, 5).unwrap(), [6.0, 2.0, 1.0]);
    assert_eq!(finite.row(6, 5).unwrap(), [8.0, 2.0, 1.0]);
    assert_eq!(finite.subset([6, 0]).row(0, 0).unwrap(), [8.0, 0.0, 1.0]);
}

#[test]
fn the_split_is_the_same_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = small_zoo(&folder.path().join("zoo"), 20, &[]);
    let parts = zoo.split(42);
    let numbers = |zoo: &Population| -> Vec<usize> {
        zoo.names().map(|name| name[6..].parse().unwrap()).collect()
    };
    let all = [&parts.train, &parts.validation, &parts.test].map(numbers);
    assert_eq!(all.each_ref().map(Vec::len), [14, 3, 3]);
    let order = weightspace_nn::data::split_train_validation(20, 0, 42).0;
    for (part, range) in all.iter().zip([0..14, 14..17, 17..20]) {
        let mut expected = order[range].to_vec();
        expected.sort_unstable();
        assert_eq!(part, &expected);
    }
    assert_ne!(numbers(&zoo.split(43).train), all[0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_model_is_in_one_part(count in 1usize..60, seed: u64) {
        let folder = tempfile::tempdir().unwrap();
        let zoo = small_zoo(&folder.path().join("zoo"), count, &[]);
        let parts = zoo.split(seed);
        let all = [parts.train, parts.validation, parts.test];
        prop_assert_eq!(all[0].len(), count * 70 / 100);
        prop_assert_eq!(all[1].len(), count * 15 / 100);
        let mut names: Vec<String> = Vec::new();
        for part in &all {
            prop_assert!(part.names().is_sorted());
            names.extend(part.names().map(str::to_owned));
        }
        names.sort_unstable();
        prop_assert!(names.iter().map(String::as_str).eq(zoo.names()));
    }

    #[test]
    fn shards_partition_the_models(models in 0usize..200, count in 1usize..20) {
        let mut seen = BTreeSet::new();
        for index in 0..count {
            let shard = Shard::new(index, count).unwrap();
            for position in shard.positions(models) {
                prop_assert!(shard.has(position) && seen.insert(position));
            }
        }
        prop_assert!(seen.into_iter().eq(0..models));
    }

    #[test]
    fn metrics_survive_both_layouts(values in prop::array::uniform6(any::<f32>())) {
        let folder = tempfile::tempdir().unwrap();
        let metrics = EpochMetrics::from_values(3, values);
        let writer = ModelWriter::create(folder.path(), "m", &Default::default()).unwrap();
        writer.write_checkpoint(3, &expected(0, 0)).unwrap();
        writer.write_metrics(&[metrics]).unwrap();
        let zoo = Population::open(folder.path()).unwrap();
        prop_assert_eq!(zoo.model(0).unwrap().metrics, [metrics]);
        let file = folder.path().join("zoo");
        Import::default().write(&zoo, &file, &silent).unwrap();
        prop_assert_eq!(Population::open(&file).unwrap().model(0).unwrap().metrics, [metrics]);
    }
}

#[test]
fn shards_come_from_texts_and_schedulers() {
    assert_eq!("3/4".parse::<Shard>().unwrap(), Shard { index: 3, count: 4 });
    for (text, part) in
        [("4/4", "0/4 to 3/4"), ("1", "0/4"), ("a/b", "no shard"), ("0/0", "shard 0/0")]
    {
        let error = text.parse::<Shard>().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let from = |variables: &[(&str, &str)], count| {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Shard::from_environment(|name| variables.get(name).map(ToString::to_string), count)
    };
    let shard = |index, count| Some(Shard { index, count });
    assert_eq!(from(&[], None).unwrap(), None);
    assert_eq!(from(&[], Some(4)).unwrap(), None);
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "7"),
        ("SLURM_ARRAY_TASK_COUNT", "10"),
        ("SLURM_ARRAY_TASK_MIN", "1"),
    ];
    assert_eq!(from(&slurm, None).unwrap(), shard(6, 10));
    assert_eq!(from(&slurm[..2], None).unwrap(), shard(7, 10));
    assert_eq!(from(&[("JOB_COMPLETION_INDEX", "2")], Some(3)).unwrap(), shard(2, 3));
    let error = from(&[("JOB_COMPLETION_INDEX", "2")], None).unwrap_err().to_string();
    assert!(error.contains("JOB_COMPLETIONS"), "{error}");
    assert!(from(&[("SLURM_ARRAY_TASK_ID", "x")], Some(3)).is_err());
    assert!(from(&[("SLURM_ARRAY_TASK_ID", "3")], Some(3)).is_err());
}

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

/// A cell of a CSV, and of Parquet, in one form.
fn cell(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::UInt(value) => value.to_string(),
        Field::ULong(value) => value.to_string(),
        Field::Float(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        other => panic!("{other:?}"),
    }
}

fn number(text: &str) -> Result<f64, &str> {
    text.parse().map_err(|_| text)
}

#[test]
fn both_tables_hold_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = Population::open(&published()).unwrap();
    let (csv, parquet) = (folder.path().join("zoo.csv"), folder.path().join("zoo.parquet"));
    assert_eq!(write_csv(&zoo, &csv, &silent).unwrap(), 9);
    assert_eq!(write_parquet(&zoo, &parquet, &silent).unwrap(), 9);
    let mut table = csv::Reader::from_path(&csv).unwrap();
    let header = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let reader = SerializedFileReader::try_from(parquet.as_path()).unwrap();
    let mut count = 0;
    for (row, other) in reader.get_row_iter(None).unwrap().zip(&rows) {
        let row = row.unwrap();
        let names: Vec<&String> = row.get_column_iter().map(|(name, _)| name).collect();
        assert!(header.iter().eq(names));
        let cells: Vec<String> = row.get_column_iter().map(|(_, field)| cell(field)).collect();
        assert!(
            cells.iter().map(|c| number(c)).eq(other.iter().map(number)),
            "{cells:?} {other:?}"
        );
        count += 1;
    }
    assert_eq!((count, rows.len()), (9, 9));
    let get = |row: usize, name: &str| {
        rows[row].get(header.iter().position(|column| column == name).unwrap()).unwrap()
    };
    assert_eq!((get(5, "model"), get(5, "epoch")), (NAMES[1], "3"));
    assert_eq!((get(5, "arch"), get(5, "activation")), ("mlp:4-3-2", "relu"));
    assert_eq!((get(5, "initialisation"), get(5, "seed")), ("kaiming-uniform", "2"));
    assert_eq!((get(3, "train_loss"), get(3, "validation_loss")), ("", ""));
    assert!((get(5, "generalisation_gap").parse::<f32>().unwrap() - 0.14).abs() < 1e-6);
}

#[test]
fn statistics_are_those_of_the_models() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = small_zoo(&folder.path().join("zoo"), 70, &[3]);
    let stats = Stats::collect(&zoo, &silent).unwrap();
    let summary = stats.summary();
    assert_eq!((summary.models, summary.finite, summary.parameters), (70, 69, Some(3)));
    assert_eq!((summary.epochs.as_slice(), summary.accuracy_of), (&[0, 5][..], "test"));
    let accuracy = summary.accuracy.unwrap();
    assert_eq!(accuracy.count, 70);
    assert!((accuracy.median - 0.53).abs() < 1e-6 && (accuracy.maximum - 0.56).abs() < 1e-6);
    assert!((summary.generalisation_gap.unwrap().maximum - 0.4).abs() < 1e-6);
    assert!((summary.first_norm.unwrap().minimum - 1.0).abs() < 1e-6);
    assert_eq!(summary.last_norm.unwrap().count, 69);
    let [axis] = &summary.axes[..] else { panic!("{:?}", summary.axes) };
    assert_eq!(axis.axis, "learning_rate");
    let values: Vec<_> = axis.values.iter().map(|(v, d)| (v.as_str(), d.unwrap().count)).collect();
    assert_eq!(values, [("0.01", 35), ("0.1", 35)]);
    let charts = stats.charts();
    let names: Vec<&str> = charts.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "accuracy",
        "accuracy-by-learning-rate",
        "accuracy-distribution",
        "gap-distribution",
        "norm-distribution",
    ];
    assert_eq!(names, expected);
    charts.iter().for_each(|(_, chart)| assert!(chart.to_svg().unwrap().contains("</svg>")));
}

/// What happens to one model of the published zoo, and what is said about it.
fn damages() -> Vec<(&'static str, fn(&Path), &'static str)> {
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
    assert!(Population::open(folder.path()).unwrap_err().to_string().contains("no models"));
}

#[test]
fn writers_refuse_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zoo");
    let model = |name: &str, n: usize| PackedModel {
        name: name.into(),
        params: Default::default(),
        tensors: vec![TensorInfo { name: "w".into(), dtype: DType::F32, shape: vec![n] }],
        metrics: Vec::new(),
    };
    for (epochs, models, part) in [
        (&[0][..], vec![], "no models"),
        (&[], vec![model("a", 2)], "expected ascending"),
        (&[1, 1], vec![model("a", 2)], "expected ascending"),
        (&[0], vec![model("b", 2), model("a", 2)], "\"a\" is not behind"),
        (&[0], vec![model("a", 2), model("b", 3)], "\"b\" has 3 elements, \"a\" has 2"),
        (&[0], vec![model("..", 2)], "cannot be the name"),
    ] {
        let error = PackedWriter::create(&path, None, epochs, &models).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let mut writer = PackedWriter::create(&path, None, &[0], &[model("a", 2)]).unwrap();
    assert!(writer.write_row(&[1.0]).is_err());
    assert!(writer.write(&expected(0, 0)).is_err());
    writer.write_row(&[1.0, 2.0]).unwrap();
    assert!(writer.write_row(&[1.0, 2.0]).unwrap_err().to_string().contains("all rows"));
    drop(writer);
    let writer = PackedWriter::create(&path, None, &[0], &[model("a", 2)]).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("0 rows, expected 1"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file, whole or in part");
    assert!(ModelWriter::create(folder.path(), "../a", &Default::default()).is_err());
}

/// Runs the program and gives back exit code, stdout and stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weightspace"));
    let output = command.arg("zoo").args(arguments).output().unwrap();
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
