//! Both layouts on disk, and what goes from one to the other.

use std::fs;

use serde_json::{Value, json};
use weightspace::zoo::import::write_tree;
use weightspace::zoo::packed::{PackedModel, PackedWriter};
use weightspace::zoo::tree::ModelWriter;
use weightspace::zoo::{EpochMetrics, Import, Population};
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::{Checkpoint, DType, TensorInfo};

use crate::fixtures::{NAMES, batch_normalised, everything, expected, published, silent};

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
fn a_folder_of_checkpoints_is_a_zoo() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for m in 0..2 {
        let path = at.join(format!("net-{m}.safetensors"));
        write_safetensors(&path, &expected(m, 1), &Default::default()).unwrap();
    }
    fs::write(at.join("notes.txt"), "no model").unwrap();
    let zoo = Population::open(at).unwrap();
    assert_eq!(zoo.names().collect::<Vec<_>>(), ["net-0.safetensors", "net-1.safetensors"]);
    for m in 0..2 {
        let model = zoo.model(m).unwrap();
        assert!(model.params.is_empty() && model.metrics[0].test_accuracy.is_nan());
        assert_eq!((model.epochs, zoo.weights(m, 0).unwrap()), (vec![0], expected(m, 1)));
        assert!(zoo.weights(m, 1).unwrap_err().to_string().contains("epoch 1"));
    }
    let packed = at.join("zoo");
    Import::default().write(&zoo, &packed, &|_, _, _| ()).unwrap();
    assert_eq!(Population::open(&packed).unwrap().weights(1, 0).unwrap(), expected(1, 1));
    // The parts of one checkpoint are no models.
    fs::write(at.join("model.safetensors.index.json"), "{}").unwrap();
    assert!(Population::open(at).unwrap_err().to_string().contains("no models"));
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
