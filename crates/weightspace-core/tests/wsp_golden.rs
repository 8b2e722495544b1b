//! Golden files pin the format: they are decoded to what they held on the day they were written,
//! and encoding gives the same bytes again. `WEIGHTSPACE_REGENERATE=1 cargo test --test wsp_golden`
//! writes them anew (after a change of the version) and says what to pin.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use weightspace_core::basis::{BASES, Segment, Start};
use weightspace_core::container::{
    self, Coding, Header, Method, Number, Predicted, PredictedTensor, Projected, ProjectionKey,
    Quantized, WspFile,
};
use weightspace_core::predictor::{CoordinateScale, Encoding, Order};
use weightspace_core::random::Key;
use weightspace_core::{DType, DecodeOptions, StateDict, Tensor};

/// Name, SHA-256 of the file, content hash of what it decodes to (first 16 hexadecimal digits).
const PINNED: [(&str, &str, &str); 4] = [
    (
        "empty",
        "7769f72f740214b765cb90b7110c34f7803e444c3a833e8ca873022bc9fd5edb",
        "e3b0c44298fc1c14",
    ),
    (
        "network",
        "28497f674a9fd42ce2e4478c27a3cef51d18b1d52e5cb16fb78b071482f222b8",
        "9bf068213d2651b2",
    ),
    (
        "dtypes",
        "23468c2df918a975fbc5f87e6af71762544e57f75a32166ea15f7f5a7cd27c22",
        "45aa52a3ac13403d",
    ),
    (
        "sections",
        "6438ea5057ac87bff72e828f2b3d6bc0ace483113d99982db1cf96ebd51cded4",
        "ed4ffac78fe60199",
    ),
];

/// Uniform numbers, the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % below
    }

    /// Peaked at zero, of magnitude below `largest`.
    fn value(&mut self, largest: u64) -> i32 {
        let magnitude = self.next(largest).min(self.next(largest)).min(self.next(largest)) as i32;
        if self.next(2) == 0 { magnitude } else { -magnitude }
    }
}

fn header() -> Header {
    Header {
        method: Method::Quantize,
        arch: "resnet20".into(),
        data: "cifar10".into(),
        preprocessing: "mean=0.5 std=0.25".into(),
        source_hash: std::array::from_fn(|i| i as u8),
        source_bytes: 1_100_000,
        source_parameters: 269_722,
    }
}

fn quantized(numbers: &mut Numbers, shape: &[usize], largest: u64, exponents: bool) -> Coding {
    let count = shape.iter().product();
    Coding::Quantized(Quantized {
        shape: shape.to_vec(),
        scale: 0.037,
        channel_exponents: exponents
            .then(|| (0..shape[0]).map(|_| 20 + numbers.next(12) as u8).collect()),
        values: (0..count).map(|_| numbers.value(largest)).collect(),
    })
}

fn constant(shape: &[usize], value: f64) -> Coding {
    let value = Number::Float(value);
    Coding::Constant { dtype: DType::F32, shape: shape.to_vec(), value }
}

fn contents(name: &str) -> (Header, Vec<(String, Coding)>) {
    let numbers = &mut Numbers(7);
    let mut tensors: Vec<(String, Coding)> = Vec::new();
    let mut add = |name: &str, coding| tensors.push((name.to_string(), coding));
    match name {
        "empty" => return (Header::default(), Vec::new()),
        "network" => {
            add("conv1.weight", quantized(numbers, &[8, 3, 3, 3], 4, true));
            add("bn1.weight", constant(&[8], 1.0));
            add("bn1.bias", quantized(numbers, &[8], 100, false));
            add("bn1.running_mean", constant(&[8], 0.0));
            add("bn1.running_var", constant(&[8], 0.99999));
            let batches = Coding::Constant { dtype: DType::I64, shape: vec![], value: 9.into() };
            add("bn1.num_batches_tracked", batches);
            add("conv2.weight", quantized(numbers, &[8, 8, 5, 5], 20, false));
            add("linear.weight", quantized(numbers, &[10, 8], 300, true));
            add("linear.bias", quantized(numbers, &[10], 1 << 24, false));
            add("empty", quantized(numbers, &[3, 0], 1, true));
            add("scale", quantized(numbers, &[], 5, false));
        }
        "dtypes" => {
            for dtype in DType::ALL {
                let bytes = (0..6 * dtype.size()).map(|_| numbers.next(2) as u8).collect();
                add(dtype.name(), Coding::Raw(Tensor::from_bytes(dtype, vec![2, 3], bytes)));
            }
        }
        "sections" => {
            let mut values = vec![0; (1 << 20) + 300];
            (0..values.len()).step_by(10_007).for_each(|i| values[i] = numbers.value(9));
            let shape = vec![values.len() / 4, 4];
            let q = Quantized { shape, scale: 1.0, channel_exponents: None, values };
            add("weight", Coding::Quantized(q));
        }
        other => panic!("no golden file is named {other}"),
    }
    (header(), tensors)
}

/// Name of the basis, SHA-256 of the file, content hashes of what all its planes and of what 2 planes
/// decode to (first 16 hexadecimal digits). `tests/golden/wsp/decode.py` gives the same hashes.
const PROJECTED: [(&str, &str, &str, &str); 5] = [
    (
        "dense",
        "9040216ebfdcda951e6428befe903adf366e2d75397040c0dfd4685173b9bbe2",
        "e87fabcf278a2d8b",
        "4a6814793f446ec5",
    ),
    (
        "uniform",
        "d3e308634e53e1be74e0af1399f1385386879a8ae4770d482e59b89e98e27ee1",
        "bc68aad39c7bfd0b",
        "3f0f7862aaac295f",
    ),
    (
        "hadamard",
        "84d513be7fcfdc6a121a046eabefb5f7fcc58346f9bcc9f4a9ccffcb76ce5932",
        "0d072f9d3187cdbc",
        "0a33b172247bdcd2",
    ),
    (
        "sketch",
        "1b5c3727943c0a4e3b00b6f69c12797712c69e9d8e7d25b76064e5b43c027742",
        "192afbe587835938",
        "b39c310aa9ccb2cc",
    ),
    (
        "hash",
        "dc25fe76c5dbbb9f687b6aec7dc05fc66418be4318f9db2a178429f9d61b2a2b",
        "63b1344171d5b3ae",
        "79c53fcbbc4fd803",
    ),
];

/// The base of `subspace-sketch.wsp`.
fn base() -> StateDict {
    let numbers = &mut Numbers(11);
    let mut base = StateDict::new();
    for (name, shape) in [("conv.weight", vec![8, 3, 3, 3]), ("conv.bias", vec![8])] {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| numbers.value(1000) as f32 / 512.0).collect();
        base.insert(name, Tensor::from_f32(shape, &values).cast_float(DType::F16));
    }
    let linear: Vec<f32> = (0..10 * 17).map(|_| numbers.value(1000) as f32 / 512.0).collect();
    base.insert("linear.weight", Tensor::from_f32(vec![10, 17], &linear));
    base.insert("norm.steps", Tensor::from_bytes(DType::I64, vec![], vec![3; 8]));
    base
}

/// A file of every basis; between them every start, kind of key and way to share coefficients.
fn projected(index: usize) -> Vec<u8> {
    let numbers = &mut Numbers(index as u64);
    let whole = vec![Segment { tensors: 0..3, coefficients: 150 }];
    let split = vec![
        Segment { tensors: 0..2, coefficients: 37 },
        Segment { tensors: 2..3, coefficients: 170 },
    ];
    let seed = ProjectionKey::Seed(1_234_567);
    let own_key = ProjectionKey::Key(Key(std::array::from_fn(|i| 7 * i as u8)));
    let (start, key, segments, largest) = [
        (Start::Drawn, seed, whole.clone(), 128),
        (Start::Zero, own_key, split.clone(), 1000),
        (Start::Drawn, seed, split.clone(), 32_768),
        (Start::Base, ProjectionKey::Withheld, split, 8),
        (Start::Zero, seed, whole, 128),
    ][index]
        .clone();
    let coefficients: Vec<i32> = segments
        .iter()
        .flat_map(|segment| vec![largest; segment.coefficients])
        .map(|largest| numbers.value(largest))
        .collect();
    let mut tensors: Vec<(String, Coding)> = vec![
        ("conv.weight".into(), Coding::Projected { shape: vec![8, 3, 3, 3] }),
        ("conv.bias".into(), Coding::Projected { shape: vec![8] }),
        ("norm.weight".into(), Coding::Raw(Tensor::from_f32(vec![2], &[1.5, -0.25]))),
        ("linear.weight".into(), Coding::Projected { shape: vec![10, 17] }),
        ("norm.bias".into(), constant(&[2], 0.5)),
    ];
    let base_hash = (start == Start::Base).then(|| base().content_hash());
    if start == Start::Base {
        let same = Coding::Base { dtype: DType::I64, shape: vec![] };
        tensors.push(("norm.steps".into(), same));
    }
    let basis = BASES[index].basis;
    let projected = Projected { basis, start, key, base_hash, step: 0.037, segments };
    let header = Header { method: Method::Subspace, ..header() };
    container::encode_projected(&header, &tensors, &projected, &coefficients).unwrap()
}

/// SHA-256 of `low-rank.wsp`, content hash of what it decodes to (first 16 hexadecimal digits).
const LOW_RANK: (&str, &str) =
    ("1db281a04dc69028d8a5c852e4a9e57bc6f64b5f3e8b4b119580e6fa646eb02f", "a5dea687023dfb70");

/// Factors of every type between two other tensors.
fn low_rank() -> Vec<u8> {
    let numbers = &mut Numbers(5);
    let mut raw = |shape: &[usize], dtype| {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| numbers.value(1000) as f32 / 300.0).collect();
        Box::new(Coding::Raw(Tensor::from_f32(shape.to_vec(), &values).cast_float(dtype)))
    };
    let mut product = |shape: &[usize], rank, (left, right)| Coding::Product {
        shape: shape.to_vec(),
        left: raw(&[shape[0], rank], left),
        right: raw(&[rank, shape[1..].iter().product()], right),
    };
    let constant_right = Coding::Product {
        shape: vec![4, 4],
        left: Box::new(Coding::Raw(Tensor::from_f32(vec![4, 1], &[0.1, -0.2, 3.0, 1e-40]))),
        right: Box::new(constant(&[1, 4], 0.7)),
    };
    let tensors = [
        ("conv.weight".into(), product(&[8, 3, 3, 3], 5, (DType::F16, DType::F16))),
        ("conv.bias".into(), constant(&[8], 0.25)),
        ("linear.weight".into(), product(&[10, 17], 7, (DType::F32, DType::BF16))),
        ("linear.bias".into(), Coding::Raw(Tensor::from_f32(vec![2], &[1.5, -0.25]))),
        ("last.weight".into(), constant_right),
    ];
    container::encode(&Header { method: Method::LowRank, ..header() }, &tensors).unwrap()
}

#[test]
fn golden_products_stay_what_they_are() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/wsp/low-rank.wsp");
    let encoded = low_rank();
    let regenerate = std::env::var_os("WEIGHTSPACE_REGENERATE").is_some();
    if regenerate {
        std::fs::write(&path, &encoded).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    let content = WspFile::open(&path).unwrap().state_dict().unwrap().content_hash();
    let found = (hex(&Sha256::digest(&bytes)), hex(&content[..8]));
    if regenerate {
        return eprintln!("(\"{}\", \"{}\")", found.0, found.1);
    }
    assert_eq!((&*found.0, &*found.1), LOW_RANK);
    assert_eq!(encoded, bytes, "encoded differently");
}

/// Name of the encoding, SHA-256 of the file, content hash of what it decodes to (first 16 hexadecimal
/// digits). `tests/golden/wsp/decode.py` gives the same hashes.
const PREDICTED: [(&str, &str, &str); 4] = [
    (
        "positional",
        "68718d85cdef7a95b3ffcf0cf2c19929eca7941f4fdd25efdd6a842f18a931c3",
        "6be2643a782f05c8",
    ),
    (
        "chebyshev",
        "75004a2d11f5597a9a52b43cc9757a21e1881cbefac1e89f5e0f8e2ff363332b",
        "952977e151e9d103",
    ),
    (
        "tables",
        "427e9aceb1a5c3f50bbf0c0b52e48d323eddaa489960c2b9798b6c88fae88aa4",
        "383e99b8f4b9057d",
    ),
    (
        "direct",
        "1a762078af20f5cdc9bb486f59127a87dd6f503b222f81388175d8b2ca9ee0fa",
        "c56e483458f974e5",
    ),
];

/// A random permutation.
fn permutation(numbers: &mut Numbers, count: u32) -> Vec<u32> {
    let mut permutation: Vec<u32> = (0..count).collect();
    for i in (1..count as usize).rev() {
        permutation.swap(i, numbers.next(i as u64 + 1) as usize);
    }
    permutation
}

/// A file of every encoding; between them every scale of coordinates, every order, and masks.
fn predicted(index: usize) -> Vec<u8> {
    let numbers = &mut Numbers(90 + index as u64);
    let (encoding, coordinates, width) = [
        (Encoding::NERN, CoordinateScale::Local, 80),
        (Encoding::Chebyshev { degree: 7 }, CoordinateScale::Global, 7),
        (Encoding::Tables { width: 3 }, CoordinateScale::Raw, 3),
        (Encoding::DirectTables, CoordinateScale::Local, 12),
    ][index];
    let permutations = |numbers: &mut Numbers, count, length| -> Vec<u32> {
        (0..count).flat_map(|_| permutation(numbers, length)).collect()
    };
    let orders = [
        Order::InFilter { filters: permutation(numbers, 8), tiles: permutations(numbers, 8, 3) },
        Order::Axes { filters: permutation(numbers, 12), tiles: permutation(numbers, 8) },
        Order::CrossFilter(permutation(numbers, 60)),
        Order::Identity,
    ];
    // The third tensor's tiles do not divide its filters.
    let shapes = [vec![8, 3, 3, 3], vec![12, 8, 1, 1], vec![10, 17], vec![6]];
    let tiles = [9, 1, 3, 1];
    let masked = [false, false, index == 1, index == 3];
    // Distinct coordinates of each axis.
    let values = match coordinates {
        CoordinateScale::Local => [4, 24, 12],
        _ => [4, 12, 8],
    };
    let mut inner: Vec<(String, Coding)> = Vec::new();
    let mut add = |name: String, shape: &[usize], dtype, numbers: &mut Numbers| {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| numbers.value(1000) as f32 / 700.0).collect();
        let tensor = Tensor::from_f32(shape.to_vec(), &values).cast_float(dtype);
        inner.push((name, Coding::Raw(tensor)));
    };
    if encoding.is_stored() {
        for (axis, count) in values.into_iter().enumerate() {
            add(format!("table{axis}"), &[count, width], DType::F16, numbers);
        }
    }
    let widths = [if index == 3 { 0 } else { 3 * width }, 12, 11, 10];
    for layer in 0..3 {
        let (inputs, outputs) = (widths[layer], widths[layer + 1]);
        if inputs > 0 {
            add(format!("weight{layer}"), &[outputs, inputs], DType::F32, numbers);
        }
        add(format!("bias{layer}"), &[outputs], DType::BF16, numbers);
    }
    if index == 1 {
        let bits = (0..170).map(|_| numbers.next(2) as u8).collect();
        let mask = Tensor::from_bytes(DType::Bool, vec![10, 17], bits);
        inner.push(("mask".into(), Coding::Raw(mask)));
    } else if index == 3 {
        inner.push(("mask".into(), constant(&[6], 0.3)));
    }
    let tensors = (0..4).map(|t| PredictedTensor {
        tile: tiles[t],
        order: orders[t].clone(),
        scale: 0.1 + 0.3 * t as f32,
        masked: masked[t],
    });
    let predicted = Predicted { coordinates, encoding, tensors: tensors.collect() };
    let norm = Coding::Raw(Tensor::from_f32(vec![2], &[1.5, -0.25]));
    let shape = |t: usize| Coding::Predicted { shape: shapes[t].clone() };
    let tensors: [(String, Coding); 6] = [
        ("conv.weight".into(), shape(0)),
        ("norm.weight".into(), norm),
        ("shortcut.weight".into(), shape(1)),
        ("norm.bias".into(), constant(&[2], 0.5)),
        ("linear.weight".into(), shape(2)),
        ("vector".into(), shape(3)),
    ];
    let header = Header { method: Method::Predictor, ..header() };
    container::encode_predicted(&header, &tensors, &predicted, &inner).unwrap()
}

#[test]
fn golden_predictors_stay_what_they_are() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/wsp");
    let regenerate = std::env::var_os("WEIGHTSPACE_REGENERATE").is_some();
    for (index, (name, file_hash, content_hash)) in PREDICTED.into_iter().enumerate() {
        let path = folder.join(format!("predictor-{name}.wsp"));
        let encoded = predicted(index);
        if regenerate {
            std::fs::write(&path, &encoded).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let content = WspFile::open(&path).unwrap().state_dict().unwrap().content_hash();
        let found = (hex(&Sha256::digest(&bytes)), hex(&content[..8]));
        if regenerate {
            eprintln!("(\"{name}\", \"{}\", \"{}\"),", found.0, found.1);
            continue;
        }
        assert_eq!((&*found.0, &*found.1), (file_hash, content_hash), "{name}");
        assert_eq!(encoded, bytes, "{name} is encoded differently");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden_files_stay_what_they_are() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/wsp");
    let regenerate = std::env::var_os("WEIGHTSPACE_REGENERATE").is_some();
    for (name, file_hash, content_hash) in PINNED {
        let path = folder.join(name).with_extension("wsp");
        let (header, tensors) = contents(name);
        let encoded = container::encode(&header, &tensors).unwrap();
        if regenerate {
            std::fs::write(&path, &encoded).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let file = WspFile::open(&path).unwrap();
        let content = hex(&file.state_dict().unwrap().content_hash()[..8]);
        let found = (hex(&Sha256::digest(&bytes)), content);
        if regenerate {
            eprintln!("(\"{name}\", \"{}\", \"{}\"),", found.0, found.1);
            continue;
        }
        assert_eq!((&*found.0, &*found.1), (file_hash, content_hash), "{name}");
        assert_eq!(file.header(), &header, "{name}");
        assert_eq!(encoded, bytes, "{name} is encoded differently");
    }
}

#[test]
fn golden_projections_stay_what_they_are() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/wsp");
    let regenerate = std::env::var_os("WEIGHTSPACE_REGENERATE").is_some();
    for (index, (basis, file_hash, whole_hash, coarse_hash)) in PROJECTED.into_iter().enumerate() {
        let path = folder.join(format!("subspace-{basis}.wsp"));
        let encoded = projected(index);
        if regenerate {
            std::fs::write(&path, &encoded).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let file = WspFile::open(&path).unwrap();
        let (base, key) = (base(), Key(std::array::from_fn(|i| i as u8)));
        let content = |planes| {
            let options = DecodeOptions { base: Some(&base), key: Some(key), planes };
            let dict = file.decoder(options).unwrap().state_dict().unwrap();
            hex(&dict.content_hash()[..8])
        };
        let found = (hex(&Sha256::digest(&bytes)), content(None), content(Some(2)));
        if regenerate {
            eprintln!("(\"{basis}\", \"{}\", \"{}\", \"{}\"),", found.0, found.1, found.2);
            continue;
        }
        let expected = (file_hash, whole_hash, coarse_hash);
        assert_eq!((&*found.0, &*found.1, &*found.2), expected, "{basis}");
        assert_eq!(encoded, bytes, "{basis} is encoded differently");
    }
}
