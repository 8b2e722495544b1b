//! Writing safetensors, reading it lazily, and agreement with the `safetensors` crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::SafeTensors;
use weightspace_core::checkpoint::{SafetensorsWriter, write_safetensors};
use weightspace_core::{Checkpoint, DType, StateDict, Tensor, TensorInfo};

fn info(name: &str, dtype: DType, shape: &[usize]) -> TensorInfo {
    TensorInfo { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

/// A tensor of distinct bytes, or of truth values.
fn tensor(dtype: DType, shape: &[usize]) -> Tensor {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let modulus = if dtype == DType::Bool { 2 } else { 251 };
    Tensor::from_bytes(dtype, shape.to_vec(), (0..bytes).map(|i| (i % modulus) as u8).collect())
}

fn mixed() -> StateDict {
    [
        ("conv.weight", tensor(DType::F32, &[2, 3])),
        ("flag", tensor(DType::Bool, &[3])),
        ("steps", tensor(DType::I64, &[])),
        ("half", tensor(DType::BF16, &[5])),
        ("empty", tensor(DType::F16, &[0, 4])),
        ("ünïcode \"quoted\"", tensor(DType::U8, &[1])),
    ]
    .into_iter()
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .collect()
}

#[test]
fn what_is_written_is_read_again_in_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let metadata = BTreeMap::from([("made by".to_owned(), "a test".to_owned())]);
    write_safetensors(&path, &mixed(), &metadata).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.metadata()["format"], "pt");
    assert_eq!(checkpoint.metadata()["made by"], "a test");
    let read = checkpoint.state_dict().unwrap();
    assert_eq!(read.infos(), mixed().infos());
    assert_eq!(read, mixed());
    // A folder with that file is a model as well.
    assert_eq!(Checkpoint::open(folder.path()).unwrap().state_dict().unwrap(), mixed());
}

#[test]
fn the_safetensors_crate_accepts_what_we_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write_safetensors(&path, &mixed(), &BTreeMap::new()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in mixed().iter() {
        let view = theirs.tensor(name).unwrap();
        assert_eq!(view.data(), tensor.bytes(), "{name}");
        assert_eq!(view.shape(), tensor.shape(), "{name}");
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(start % tensor.dtype().size(), 0, "{name} is aligned within the file");
    }
}

#[test]
fn a_writer_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, "precious").unwrap();
    let infos = [info("a", DType::F32, &[2]), info("b", DType::F32, &[2])];
    let create = |infos: &[TensorInfo]| SafetensorsWriter::create(&path, infos, &BTreeMap::new());

    let mut writer = create(&infos).unwrap();
    writer.write(&tensor(DType::F32, &[2])).unwrap();
    let error = writer.write(&tensor(DType::F32, &[3])).unwrap_err().to_string();
    assert!(error.contains("\"b\" was announced as f32 [2] but is f32 [3]"), "{error}");
    assert!(writer.finish().unwrap_err().to_string().contains("\"b\" was never given"));

    let mut writer = create(&infos[..1]).unwrap();
    writer.write(&tensor(DType::F32, &[2])).unwrap();
    assert!(writer.write(&tensor(DType::F32, &[2])).is_err(), "one more than announced");
    drop(writer);

    for bad in [info("a", DType::F32, &[]), info("__metadata__", DType::F32, &[])] {
        assert!(create(&[infos[0].clone(), bad]).is_err());
    }
    assert!(create(&[info("a", DType::F64, &[usize::MAX / 4])]).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary files");
}

#[test]
fn tensors_are_written_and_read_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let infos = [info("first", DType::F32, &[2]), info("table", DType::F64, &[3, 4])];
    let table = tensor(DType::F64, &[3, 4]);
    let mut writer = SafetensorsWriter::create(&path, &infos, &BTreeMap::new()).unwrap();
    writer.write(&tensor(DType::F32, &[2])).unwrap();
    table.bytes().chunks(37).for_each(|part| writer.write_part(part).unwrap());
    assert!(writer.write_part(&[0]).is_err(), "one byte more than announced");
    writer.finish().unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.read_named("table").unwrap(), table);
    let row = checkpoint.read_elements(1, 4..8).unwrap();
    assert_eq!((row.shape(), row.bytes()), (&[4][..], &table.bytes()[32..64]));
    assert_eq!(checkpoint.read_elements(1, 12..12).unwrap().shape(), [0]);

    let mut writer = SafetensorsWriter::create(&path, &infos, &BTreeMap::new()).unwrap();
    writer.write_part(&[0; 4]).unwrap();
    let error = writer.write_part(&[0; 5]).unwrap_err().to_string();
    assert!(error.contains("\"first\" was announced with 8 bytes but has 9"), "{error}");
    assert!(writer.finish().is_err(), "a part is no tensor");
}

/// 20 GB that take no room on the disk; reading them would take far longer than the test may.
#[cfg(all(unix, feature = "mmap", target_pointer_width = "64"))]
#[test]
fn opening_a_large_file_does_not_read_it() {
    const COUNT: u64 = 5 << 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.safetensors");
    let mut header = format!(
        r#"{{"large":{{"dtype":"F32","shape":[{COUNT}],"data_offsets":[0,{}]}},"#,
        4 * COUNT
    );
    let end = 4 * COUNT + 8;
    header +=
        &format!(r#""last":{{"dtype":"I64","shape":[],"data_offsets":[{},{end}]}}}}"#, 4 * COUNT);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(bytes.len() as u64 + end).unwrap();

    let start = std::time::Instant::now();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.tensors()[0].element_count() as u64, COUNT);
    assert_eq!(checkpoint.read(1).unwrap().bytes(), [0; 8]);
    assert!(start.elapsed().as_secs() < 60);
}

/// Writes the tensors of `files` and an index that promises `weight_map`.
fn sharded(folder: &Path, files: &[(&str, &[&str])], weight_map: &str) {
    for (file, names) in files {
        let dict: StateDict = names
            .iter()
            .map(|n| (n.to_string(), Tensor::from_f32(vec![1], &[n.len() as f32])))
            .collect();
        write_safetensors(&folder.join(file), &dict, &BTreeMap::new()).unwrap();
    }
    let index = format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{weight_map}}}"#);
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

const SHARDS: [(&str, &[&str]); 2] =
    [("model-1.safetensors", &["module.b", "module.aa"]), ("model-2.safetensors", &["module.ccc"])];

#[test]
fn shards_are_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let map = r#"{"module.ccc":"model-2.safetensors","module.aa":"model-1.safetensors","module.b":"model-1.safetensors"}"#;
    sharded(folder.path(), &SHARDS, map);
    for path in [folder.path().to_owned(), folder.path().join("model.safetensors.index.json")] {
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.path(), path);
        assert_eq!(checkpoint.format(), "safetensors");
        assert_eq!(checkpoint.stripped_prefix(), "module.");
        let names: Vec<_> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["b", "aa", "ccc"]);
        for (i, name) in names.iter().enumerate() {
            assert_eq!(checkpoint.read(i).unwrap().to_f32()[0], name.len() as f32 + 7.0);
        }
    }
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for (map, message) in [
        (r#"{"module.b":"model-9.safetensors"}"#, "model-9.safetensors: "),
        (r#"{"module.zzz":"model-1.safetensors"}"#, r#"no tensor "module.zzz""#),
        (r#"{"a":"../model-1.safetensors"}"#, "plain file name"),
        (r#"{"a":"/etc/passwd"}"#, "plain file name"),
        (r#"{"a":".."}"#, "plain file name"),
        (r#"{"a":""}"#, "plain file name"),
        (r#"{"a":"x\u0000y"}"#, "plain file name"),
        (r#"{"a":"model.safetensors.index.json"}"#, "not a checkpoint"),
        (r#"{"b":"model-1.safetensors","b":"model-1.safetensors"}"#, "twice"),
        (r#"{"b":1}"#, "not an index"),
        (r#"["b"]"#, "not an index"),
        (deep.as_str(), "not an index"),
        ("{", "not an index"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        sharded(folder.path(), &SHARDS, map);
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains('\n'), "{map}: {error}");
    }
    // The same name from two shards, once the map names both.
    let folder = tempfile::tempdir().unwrap();
    sharded(folder.path(), &[("1", &["b"]), ("2", &["b"])], r#"{"b":"1","b":"2"}"#);
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("two tensors are named \"b\""), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(Checkpoint::open(empty.path()).unwrap_err().to_string().contains("model.safetensors"));
}

proptest! {
    #[test]
    fn state_dicts_survive_a_round_trip(
        parts in prop::collection::vec(
            ("[a-z.\\PC]{0,12}", 0usize..13, prop::collection::vec(0usize..4, 0..4)), 0..8),
    ) {
        let dict: StateDict = parts
            .into_iter()
            .filter(|(name, _, _)| !name.starts_with("module.") && !name.starts_with("_orig_mod."))
            .map(|(name, dtype, shape)| (name, tensor(DType::ALL[dtype], &shape)))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_safetensors(&path, &dict, &BTreeMap::new()).unwrap();
        let read = Checkpoint::open(&path).unwrap().state_dict().unwrap();
        prop_assert_eq!(read.infos(), dict.infos());
        prop_assert_eq!(read, dict);
        prop_assert!(SafeTensors::deserialize(&fs::read(&path).unwrap()).is_ok());
    }

    /// Whatever header we accept, the reference implementation accepts as well.
    #[test]
    fn we_are_no_less_strict_than_the_safetensors_crate(
        offsets in prop::collection::vec((0usize..12, 0usize..12), 1..4),
        shapes in prop::collection::vec(prop::collection::vec(0usize..4, 0..3), 3),
        data in 0usize..14,
    ) {
        let entries: Vec<String> = offsets.iter().zip(&shapes).enumerate().map(|(i, ((a, b), shape))| {
            format!(r#""{i}":{{"dtype":"U8","shape":{shape:?},"data_offsets":[{a},{b}]}}"#)
        }).collect();
        let header = format!("{{{}}}", entries.join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 1);
        let ours = Checkpoint::from_bytes("x", bytes.clone());
        prop_assert!(ours.is_err() || SafeTensors::deserialize(&bytes).is_ok());
    }
}
