//! Checkpoints that PyTorch, NumPy and safetensors wrote, under `tests/golden/checkpoints`.

use std::path::{Path, PathBuf};

use weightspace_core::{Checkpoint, DType, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/checkpoints").join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap()
}

/// `index * 0.5`, the values of most fixtures.
fn halves(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32 * 0.5).collect()
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    checkpoint.read_named(name).unwrap().to_f32().into_owned()
}

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    checkpoint.tensors().iter().map(|info| info.name.as_str()).collect()
}

#[test]
fn every_dtype_of_every_writer() {
    for (file, format, count) in [
        ("dtypes.pt", "pytorch", 15),
        ("dtypes-legacy.pth", "pytorch-legacy", 12),
        ("dtypes.safetensors", "safetensors", 15),
    ] {
        let checkpoint = open(file);
        assert_eq!(checkpoint.format(), format);
        assert_eq!(checkpoint.tensors().len(), count, "{file}");
        for (i, info) in checkpoint.tensors().iter().enumerate() {
            let tensor = checkpoint.read(i).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (info.dtype, &info.shape[..]), "{file}");
            let expected = match info.name.as_str() {
                "scalar" => vec![7.5],
                "empty" => vec![],
                "bool" => vec![1.0, 0.0, 1.0],
                _ if info.dtype.is_float() => halves(6),
                _ => (0..6).map(|i| i as f32).collect(),
            };
            assert_eq!(tensor.to_f32().as_ref(), expected, "{file}: {}", info.name);
        }
        let dtype = |name| checkpoint.read_named(name).unwrap().dtype();
        assert_eq!(dtype("bfloat16"), DType::BF16);
        assert_eq!(dtype("float16"), DType::F16);
        assert_eq!(dtype("int64"), DType::I64);
        assert_eq!(dtype("bool"), DType::Bool);
        assert_eq!(checkpoint.read_named("scalar").unwrap().shape(), &[] as &[usize]);
        assert_eq!(checkpoint.read_named("empty").unwrap().shape(), [0, 4]);
    }
    assert_eq!(open("dtypes.safetensors").metadata()["by"], "torch");
    assert_eq!(open("dtypes.pt").read_named("uint32").unwrap().dtype(), DType::U32);
}

#[test]
fn views_of_shared_storages_are_gathered() {
    for file in ["views.pt", "protocol4-legacy.pth"] {
        let checkpoint = open(file);
        let expected_names = ["base", "transposed", "sliced", "tied", "expanded", "channels_last"];
        assert_eq!(names(&checkpoint), expected_names, "in file order");
        let base = Tensor::from_f32(vec![4, 6], &halves(24));
        assert_eq!(checkpoint.read_named("base").unwrap(), base);
        assert_eq!(checkpoint.read_named("tied").unwrap(), base);
        let transposed = (0..24).map(|i| ((i % 4) * 6 + i / 4) as f32 * 0.5).collect::<Vec<_>>();
        assert_eq!(values(&checkpoint, "transposed"), transposed);
        assert_eq!(checkpoint.read_named("sliced").unwrap().shape(), [2, 3]);
        assert_eq!(values(&checkpoint, "sliced"), [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(values(&checkpoint, "expanded"), [0.5; 3]);
        assert_eq!(values(&checkpoint, "channels_last"), halves(12));
    }
}

#[test]
fn the_state_dict_inside_a_training_checkpoint_is_found() {
    for file in ["training.pt", "training-legacy.th"] {
        let checkpoint = open(file);
        assert_eq!(names(&checkpoint), ["conv.weight", "conv.bias"], "{file}");
        assert_eq!(checkpoint.stripped_prefix(), "module._orig_mod.");
        assert_eq!(values(&checkpoint, "conv.weight"), halves(18));
        assert_eq!(checkpoint.metadata()["best_prec1"], "91.25");
        assert_eq!(checkpoint.metadata()["arch"], "conv");
        assert_eq!(checkpoint.metadata()["epoch"], "3");
        assert_eq!(checkpoint.left_out(), ["optimizer"], "{file}");
    }
}

#[test]
fn a_whole_module_is_read_as_its_state_dict() {
    for file in ["module.pt", "module-legacy.pth", "module-protocol5.pt"] {
        let checkpoint = open(file);
        // The order of `state_dict()`; the buffer that is not persistent is not part of it.
        let expected = [
            "kept",
            "fc.weight",
            "fc.bias",
            "norm.weight",
            "norm.bias",
            "norm.running_mean",
            "norm.running_var",
            "norm.num_batches_tracked",
        ];
        assert_eq!(names(&checkpoint), expected, "{file}");
        assert_eq!(values(&checkpoint, "fc.weight"), halves(6));
        assert_eq!(values(&checkpoint, "norm.running_var"), [1.0, 1.0]);
    }
    assert_eq!(values(&open("parameters.pt"), "weight"), halves(4));
}

#[test]
fn strings_of_python_2_are_names() {
    let checkpoint = open("python2-legacy.pth");
    assert_eq!(names(&checkpoint), ["weight", "bias"]);
    assert_eq!(values(&checkpoint, "weight"), halves(6));
}

#[test]
fn tensors_in_unknown_forms_are_not_lost_in_silence() {
    let error = Checkpoint::open(&fixture("sparse.pt")).unwrap_err().to_string();
    assert!(error.contains("\"weight\"") && error.contains("_rebuild_sparse_tensor"), "{error}");
}

#[test]
fn arrays_of_numpy() {
    for file in ["arrays.npz", "compressed.npz"] {
        let checkpoint = open(file);
        assert_eq!(checkpoint.format(), "npz");
        assert_eq!(values(&checkpoint, "plain"), halves(6));
        assert_eq!(values(&checkpoint, "fortran"), halves(6));
        assert_eq!(values(&checkpoint, "big.endian"), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(values(&checkpoint, "half"), halves(4));
        assert_eq!(values(&checkpoint, "flags"), [1.0, 0.0]);
        assert_eq!(values(&checkpoint, "scalar"), [7.5]);
        assert_eq!(checkpoint.read_named("empty").unwrap().shape(), [0, 3]);
    }
    assert_eq!(values(&open("compressed.npz"), "zeros"), [0.0; 4096]);
    assert_eq!(open("fortran.npy").format(), "npy");
    assert_eq!(values(&open("fortran.npy"), "tensor"), halves(6));
}

#[test]
fn formats_are_recognised_whatever_the_extension() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".py") || name == "sparse.pt" {
            continue;
        }
        let bare = folder.path().join("weights");
        std::fs::copy(&path, &bare).unwrap();
        let renamed = Checkpoint::open(&bare).unwrap();
        let in_memory = Checkpoint::from_bytes(name, std::fs::read(&path).unwrap()).unwrap();
        let original = open(name).state_dict().unwrap();
        assert_eq!(renamed.state_dict().unwrap(), original, "{name}");
        assert_eq!(in_memory.state_dict().unwrap(), original, "{name}");
        assert_eq!(in_memory.path(), Path::new(name));
    }
}

#[test]
fn tensors_can_be_read_from_many_threads() {
    let checkpoint = open("views.pt");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(values(&checkpoint, "base"), halves(24)));
        }
    });
}

#[test]
fn a_name_that_is_not_there() {
    let error = open("views.pt").read_named("no\nsuch").unwrap_err().to_string();
    assert!(error.ends_with(r#"views.pt: no tensor is named "no\nsuch""#), "{error}");
}

/// The real files, when they are at hand; the expected values were read with PyTorch.
#[test]
fn published_checkpoints() {
    let data = std::env::var_os("WEIGHTSPACE_DATA").filter(|folder| !folder.is_empty());
    let Some(data) = data else { return };
    let open = |name: &str| Checkpoint::open(&Path::new(&data).join(name)).unwrap();

    for (file, tensors, elements, first, last, sum, accuracy) in [
        (
            "resnets/resnet20-12fca82f.th",
            97,
            271_098,
            -0.138_181_46,
            0.111_205_414,
            139.782_65,
            91.78,
        ),
        (
            "resnets/resnet56-4bfd9763.th",
            277,
            857_082,
            -0.216_048_76,
            0.104_102_604,
            1_427.879,
            93.62,
        ),
    ] {
        let checkpoint = open(file);
        assert_eq!(checkpoint.format(), "pytorch-legacy");
        assert_eq!(checkpoint.stripped_prefix(), "module.");
        assert_eq!(checkpoint.tensors().len(), tensors);
        let names = names(&checkpoint);
        assert_eq!(names[..4], ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean"]);
        assert_eq!(names[names.len() - 2..], ["linear.weight", "linear.bias"]);
        assert_eq!(checkpoint.tensors()[0].shape, [16, 3, 3, 3]);
        assert_eq!(values(&checkpoint, "conv1.weight")[0], first);
        assert_eq!(values(&checkpoint, "linear.bias")[2], last);
        let whole = checkpoint.state_dict().unwrap();
        assert_eq!(whole.element_count(), elements);
        let found: f64 = whole.iter().flat_map(|(_, t)| t.iter_f64().collect::<Vec<_>>()).sum();
        assert!((found - sum).abs() < 1e-3, "{found}");
        let stated: f64 = checkpoint.metadata()["best_prec1"].parse().unwrap();
        assert!((stated - accuracy).abs() < 1e-3);
    }

    let lenet = open("lenet/csinva-lenet_test_acc_0.991.pth");
    assert_eq!(lenet.stripped_prefix(), "");
    assert_eq!(names(&lenet)[..2], ["convnet.c1.weight", "convnet.c1.bias"]);
    assert_eq!(lenet.state_dict().unwrap().element_count(), 61_706);
    assert_eq!(values(&lenet, "fc.f7.bias")[0], -0.043_988_287);
}

/// One of the dictionaries that a training script saves side by side.
#[test]
fn what_stands_under_a_key_is_a_part() {
    let path = fixture("training.pt");
    let whole = Checkpoint::open(&path).unwrap();
    let part = Checkpoint::open_part(&path, Some("state_dict")).unwrap();
    assert_eq!(part.tensors(), whole.tensors());
    assert_eq!(
        (part.stripped_prefix(), part.left_out()),
        (whole.stripped_prefix(), whole.left_out())
    );
    let module = Checkpoint::open_part(&path, Some("conv")).unwrap();
    let names: Vec<_> = module.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert!(names.contains(&"weight"), "{names:?}");
    assert_eq!(module.read_named("weight").unwrap(), whole.read_named("conv.weight").unwrap());
    let error = Checkpoint::open_part(&path, Some("nothing")).unwrap_err().to_string();
    assert!(error.contains("no part \"nothing\""), "{error}");
}
