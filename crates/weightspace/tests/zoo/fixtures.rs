//! What the tests share: a zoo that PyTorch wrote, and hand-made ones.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use weightspace::zoo::packed::{PackedModel, PackedWriter};
use weightspace::zoo::{EpochMetrics, Model, Population};
use weightspace_core::{DType, StateDict, Tensor, TensorInfo};

pub const NAMES: [&str; 3] = [
    "NN_tune_trainable_abcde_00000_0_seed=1_2021-07-12_12-44-40",
    "NN_tune_trainable_abcde_00001_1_seed=2_2021-07-12_12-44-41",
    "NN_tune_trainable_abcde_00002_2_seed=3_2021-07-12_12-44-42",
];

/// The zoo that tests/golden/zoo/make.py made.
pub fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/zoo/published")
}

/// A copy of it, to damage.
pub fn copy() -> TempDir {
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

pub fn silent(_: &str, _: usize, _: usize) {}

/// The weights that make.py says.
pub fn expected(model: usize, epoch: usize) -> StateDict {
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

/// Weights in both forms.
pub type Weights = (StateDict, Vec<f32>);

/// Everything about a zoo.
pub fn everything(zoo: &Population) -> Vec<(Model, Vec<Weights>)> {
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

/// A network with a batch normalisation, whose names depend on the model.
pub fn batch_normalised(model: usize) -> StateDict {
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

/// A packed file of `count` small models; those of `broken` have a NaN at their last epoch.
pub fn small_zoo(path: &Path, count: usize, broken: &[usize]) -> Population {
    let infos = vec![TensorInfo { name: "w".into(), dtype: DType::F32, shape: vec![3] }];
    let model = |i: usize| PackedModel {
        name: format!("model_{i:04}"),
        params: json!({"seed": i, "optim::lr": if i.is_multiple_of(2) { 0.1 } else { 0.01 }})
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
