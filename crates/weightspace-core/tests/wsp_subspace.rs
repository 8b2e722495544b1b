//! Files of the method subspace: what is written comes back, whole, from a prefix, by rows, and on any
//! number of threads.

use proptest::prelude::*;
use weightspace_core::basis::{BASES, Basis, ProjectedTensor, Projection, Segment, Start};
use weightspace_core::container::{
    self, Coding, Header, Method, Projected, ProjectionKey, Quantized,
};
use weightspace_core::random::{Key, Stream};
use weightspace_core::{DType, DecodeOptions, StateDict, Tensor, WspError, WspFile};

/// A file with every kind of coding, before it is written.
#[derive(Clone, Debug)]
struct Model {
    tensors: Vec<(String, Coding)>,
    projected: Projected,
    coefficients: Vec<i32>,
    base: StateDict,
    key: Key,
}

/// Names, shapes and fan-in of the projected tensors.
const PROJECTED: [(&str, &[usize], usize); 4] = [
    ("conv.weight", &[8, 3, 3, 3], 27),
    ("conv.bias", &[8], 27),
    ("linear.weight", &[10, 40], 40),
    ("linear.bias", &[10], 40),
];

fn header() -> Header {
    Header { method: Method::Subspace, arch: "tiny".into(), ..Header::default() }
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut out = vec![0.0; count];
    Stream::new(Key::from_seed(seed), 0).fill_normal(&mut out);
    out
}

/// Coefficients of `bits` bits.
fn coefficients(count: usize, bits: u32, seed: u64) -> Vec<i32> {
    let most = ((1 << (bits - 1)) - 1) as f32;
    let scaled = numbers(count, seed).into_iter().map(|x| x * most / 4.0);
    scaled.map(|x| x.round().clamp(-most, most) as i32).collect()
}

impl Model {
    fn new(basis: Basis, start: Start, key: ProjectionKey, split: bool, bits: u32) -> Model {
        let mut base = StateDict::new();
        let mut tensors = Vec::new();
        for (seed, (name, shape, _)) in (100..).zip(PROJECTED) {
            let values = numbers(shape.iter().product(), seed);
            // One tensor of the base is of half precision.
            let dtype = if name == "conv.bias" { DType::F16 } else { DType::F32 };
            base.insert(name, Tensor::from_f32(shape.to_vec(), &values).cast_float(dtype));
            tensors.push((name.to_string(), Coding::Projected { shape: shape.to_vec() }));
        }
        let norm = Coding::Raw(Tensor::from_f32(vec![8], &numbers(8, 5)));
        tensors.insert(2, ("norm.weight".into(), norm));
        let one = Coding::Constant { dtype: DType::F32, shape: vec![8], value: 1.0.into() };
        tensors.push(("norm.bias".into(), one));
        let quantized = Quantized {
            shape: vec![5, 7],
            scale: 0.1,
            channel_exponents: Some(vec![1, 9, 3, 0, 2]),
            values: (0..35).map(|i| i - 17).collect(),
        };
        tensors.push(("extra".into(), Coding::Quantized(quantized)));
        if start == Start::Base {
            base.insert("steps", Tensor::from_bytes(DType::I64, vec![], vec![7; 8]));
            tensors.push(("steps".into(), Coding::Base { dtype: DType::I64, shape: vec![] }));
        }
        let segments = match split {
            false => vec![Segment { tensors: 0..4, coefficients: 300 }],
            true => vec![
                Segment { tensors: 0..1, coefficients: 100 },
                Segment { tensors: 1..4, coefficients: 200 },
            ],
        };
        let own_key = key.key().unwrap_or(Key([7; 32]));
        let base_hash = (start == Start::Base).then(|| base.content_hash());
        let projected = Projected { basis, start, key, base_hash, step: 0.01, segments };
        Model { tensors, projected, coefficients: coefficients(300, bits, 9), base, key: own_key }
    }

    fn encode(&self) -> Vec<u8> {
        let Model { tensors, projected, coefficients, .. } = self;
        container::encode_projected(&header(), tensors, projected, coefficients).unwrap()
    }

    fn options(&self, planes: Option<usize>) -> DecodeOptions<'_> {
        DecodeOptions { base: Some(&self.base), key: Some(self.key), planes }
    }

    /// The weights of a projected tensor with these coefficients, by the projection itself.
    fn expected(&self, tensor: usize, coefficients: &[i32]) -> Tensor {
        let tensors = PROJECTED
            .map(|(_, shape, fan_in)| ProjectedTensor { len: shape.iter().product(), fan_in });
        let Projected { basis, start, step, segments, .. } = &self.projected;
        let projection =
            Projection::new(*basis, self.key, *start, tensors.to_vec(), segments.clone()).unwrap();
        let (name, shape, _) = PROJECTED[tensor];
        let mut weights = self.base.get(name).unwrap().to_f32().into_owned();
        let elements = 0..weights.len();
        projection.write_start(tensor, elements.clone(), &mut weights);
        projection.add_exact(tensor, elements, (coefficients, *step), &mut weights);
        Tensor::from_f32(shape.to_vec(), &weights)
    }
}

/// Each coefficient without the bits of value below 2^`missing`, and half of that if any are left.
fn truncated(coefficients: &[i32], missing: usize) -> Vec<i32> {
    let cut = |q: i32| match q.unsigned_abs() >> missing << missing {
        0 => 0,
        magnitude => q.signum() * (magnitude as i32 + ((1 << missing) >> 1)),
    };
    coefficients.iter().map(|&q| cut(q)).collect()
}

fn some_model() -> impl Strategy<Value = Model> {
    let start = prop_oneof![Just(Start::Zero), Just(Start::Drawn), Just(Start::Base)];
    let key = prop_oneof![
        any::<u64>().prop_map(ProjectionKey::Seed),
        any::<[u8; 32]>().prop_map(|key| ProjectionKey::Key(Key(key))),
        Just(ProjectionKey::Withheld),
    ];
    (0..BASES.len(), start, key, any::<bool>(), 2u32..17)
        .prop_map(|(b, start, key, split, bits)| {
            Model::new(BASES[b].basis, start, key, split, bits)
        })
        // Of the basis of the largest entries all sums must stay below 2^31.
        .prop_filter("sums", |model| {
            let sum: u32 = model.coefficients.iter().map(|q| q.unsigned_abs()).sum();
            sum < (1 << 31) / model.projected.basis.largest_entry()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_model_comes_back(model in some_model()) {
        let bytes = model.encode();
        let file = WspFile::from_bytes("m.wsp", bytes.clone()).unwrap();
        prop_assert_eq!(file.header(), &header());
        prop_assert_eq!(file.projection(), Some(&model.projected));
        prop_assert_eq!(file.whole_bytes(), bytes.len() as u64);
        prop_assert_eq!(file.planes(), file.whole_planes());
        let dict = file.decoder(model.options(None)).unwrap().state_dict().unwrap();
        prop_assert_eq!(dict.infos(), file.tensors());
        for (tensor, (name, ..)) in PROJECTED.iter().enumerate() {
            let expected = model.expected(tensor, &model.coefficients);
            prop_assert_eq!(dict.get(name).unwrap(), &expected, "{}", name);
        }
        if model.projected.start == Start::Base {
            prop_assert_eq!(dict.get("steps"), model.base.get("steps"));
        }
    }

    #[test]
    fn rows_are_those_of_the_whole(model in some_model(), from in 0.0..1.0, to in 0.0..=1.0) {
        let file = WspFile::from_bytes("m.wsp", model.encode()).unwrap();
        let decoder = file.decoder(model.options(None)).unwrap();
        for (name, whole) in decoder.state_dict().unwrap().iter() {
            let count = whole.shape().first().copied().unwrap_or(1);
            let at = |share: f64| (share * count as f64) as usize;
            let rows = match whole.shape() {
                [] => 0..1,
                _ => at(f64::min(from, to))..at(f64::max(from, to)),
            };
            let part = decoder.rows(name, rows.clone()).unwrap();
            let row = whole.bytes().len() / count;
            prop_assert_eq!(part.bytes(), &whole.bytes()[rows.start * row..rows.end * row]);
            if let Some(first) = part.shape().first() {
                prop_assert_eq!(*first, rows.len());
                prop_assert_eq!(&part.shape()[1..], &whole.shape()[1..]);
            }
            prop_assert!(decoder.rows(name, 0..count + 1).is_err());
        }
        prop_assert!(decoder.rows("other", 0..1).is_err());
    }
}

fn example() -> Model {
    Model::new(Basis::Sketch, Start::Drawn, ProjectionKey::Seed(3), true, 12)
}

#[test]
fn every_prefix_opens_with_its_whole_planes_or_is_refused() {
    let model = example();
    let bytes = model.encode();
    let whole = WspFile::from_bytes("m.wsp", bytes.clone()).unwrap();
    assert_eq!(whole.whole_planes(), 11);
    assert_eq!(whole.planes_within(u64::MAX), 11);
    let projection = whole.sections().iter().find(|s| s.kind.name() == "projection").unwrap();
    let mut seen = Vec::new();
    for length in 0..=bytes.len() {
        let prefix = bytes[..length].to_vec();
        assert_eq!(WspFile::from_bytes("m.wsp", prefix.clone()).is_ok(), length == bytes.len());
        let file = match WspFile::prefix_from_bytes("m.wsp", prefix) {
            Ok(file) => file,
            Err(error) => {
                let message = error.to_string();
                assert!(length < projection.range.end, "{length}: {message}");
                assert!(message.starts_with("m.wsp: ") && !message.contains('\n'), "{message}");
                continue;
            }
        };
        assert!(length >= projection.range.end, "{length}");
        assert_eq!(file.planes(), whole.planes_within(length as u64), "{length}");
        assert_eq!(file.whole_bytes(), bytes.len() as u64);
        if seen.last() != Some(&file.planes()) {
            seen.push(file.planes());
            let coefficients = truncated(&model.coefficients, 11 - file.planes());
            let dict = file.state_dict().unwrap();
            assert_eq!(dict.get("conv.weight").unwrap(), &model.expected(0, &coefficients));
            let options = DecodeOptions { planes: Some(file.planes()), ..Default::default() };
            assert_eq!(whole.decoder(options).unwrap().state_dict().unwrap(), dict);
        }
    }
    // Two sections at least, or the test tests little.
    assert!(seen.len() >= 3 && seen[0] == 0 && seen.last() == Some(&11), "{seen:?}");
}

#[test]
fn damage_is_found_up_to_the_plane_before_it() {
    let bytes = example().encode();
    let whole = WspFile::from_bytes("m.wsp", bytes.clone()).unwrap();
    let first_plane = whole.sections().iter().find(|s| s.kind.name() == "plane").unwrap();
    let (first_end, mut harmless) = (first_plane.range.end, 0);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(WspFile::from_bytes("m.wsp", damaged.clone()).is_err());
        let Ok(file) = WspFile::prefix_from_bytes("m.wsp", damaged) else { continue };
        harmless += usize::from(at < first_plane.range.start - 3);
        assert!(at >= first_end || file.planes() == 0, "{at}");
        let used = file.sections().last().unwrap().range.end;
        assert!(at >= used, "{at} is used");
    }
    assert_eq!(harmless, 0);
}

#[test]
fn more_planes_are_closer() {
    for basis in BASES {
        let model = Model::new(basis.basis, Start::Zero, ProjectionKey::Seed(1), false, 8);
        let file = WspFile::from_bytes("m.wsp", model.encode()).unwrap();
        let weights = |planes| {
            let dict = file.decoder(model.options(Some(planes))).unwrap().state_dict().unwrap();
            dict.get("linear.weight").unwrap().to_f32().into_owned()
        };
        let exact = weights(file.whole_planes());
        let error = |planes| -> f64 {
            let differences = weights(planes).into_iter().zip(&exact).map(|(a, b)| a - b);
            differences.map(|d| f64::from(d * d)).sum()
        };
        let errors: Vec<f64> = (0..=file.whole_planes()).map(error).collect();
        assert!(errors.is_sorted_by(|a, b| a > b), "{basis:?}: {errors:?}");
        assert_eq!(weights(usize::MAX), exact);
    }
}

#[test]
fn a_missing_base_or_key_is_named() {
    let model = Model::new(Basis::Hadamard, Start::Base, ProjectionKey::Withheld, false, 8);
    let file = WspFile::from_bytes("m.wsp", model.encode()).unwrap();
    let fails = |options: DecodeOptions| match file.decoder(options) {
        Ok(_) => panic!("it should be refused"),
        Err(error) => error.to_string(),
    };
    let hash = |dict: &StateDict| -> String {
        dict.content_hash()[..16].iter().map(|b| format!("{b:02x}")).collect()
    };
    let wanted = hash(&model.base);
    let expected =
        format!("m.wsp: needs the base model with content hash {wanted}: give it with --base");
    assert_eq!(fails(DecodeOptions::default()), expected);
    assert_eq!(file.state_dict().unwrap_err().to_string(), expected);
    let mut other = model.base.clone();
    other.insert("more", Tensor::from_f32(vec![], &[1.0]));
    let message = fails(DecodeOptions { base: Some(&other), ..model.options(None) });
    assert!(message.contains(&wanted) && message.contains(&hash(&other)), "{message}");
    let message = fails(DecodeOptions { key: None, ..model.options(None) });
    assert_eq!(message, "m.wsp: its key is not in the file: give it with --key-file");
    // Another key is another network.
    let own = file.decoder(model.options(None)).unwrap().state_dict().unwrap();
    let options = DecodeOptions { key: Some(Key([8; 32])), ..model.options(None) };
    let others = file.decoder(options).unwrap().state_dict().unwrap();
    assert_ne!(own.get("linear.weight"), others.get("linear.weight"));
    assert_eq!(own.get("norm.weight"), others.get("norm.weight"));
}

#[test]
fn a_base_of_other_tensors_is_refused() {
    let unfit = |change: &dyn Fn(&mut StateDict), reason: &str| {
        let mut model = Model::new(Basis::Sketch, Start::Base, ProjectionKey::Seed(1), false, 4);
        let mut base: StateDict =
            model.base.iter().map(|(n, t)| (n.to_owned(), t.clone())).collect();
        change(&mut base);
        model.projected.base_hash = Some(base.content_hash());
        model.base = base;
        let file = WspFile::from_bytes("m.wsp", model.encode()).unwrap();
        let result = file.decoder(model.options(None)).unwrap().state_dict();
        let message = result.unwrap_err().to_string();
        assert!(message.starts_with("m.wsp: ") && message.contains(reason), "{message}");
    };
    let integer = || Tensor::from_bytes(DType::I32, vec![8], vec![0; 32]);
    let wide = || Tensor::from_bytes(DType::F64, vec![8], vec![0; 64]);
    unfit(
        &|base| base.insert("conv.bias", integer()),
        "\"conv.bias\" is i32 [8], expected f32 [8]",
    );
    unfit(&|base| base.insert("conv.bias", wide()), "\"conv.bias\" is f64 [8]");
    unfit(&|base| base.insert("steps", integer()), "\"steps\" is i32 [8], expected i64 []");
    let without = |base: &mut StateDict| {
        let kept = base.iter().filter(|(name, _)| *name != "steps");
        *base = kept.map(|(n, t)| (n.to_owned(), t.clone())).collect();
    };
    unfit(&without, "the base has no tensor \"steps\"");
}

#[test]
fn files_can_be_cut_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wsp");
    let Model { tensors, projected, coefficients, .. } = &example();
    let size =
        container::write_projected(&path, &header(), tensors, projected, coefficients).unwrap();
    assert_eq!(WspFile::open(&path).unwrap().whole_bytes(), size);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
    assert!(matches!(WspFile::open(&path), Err(WspError::Malformed { .. })));
    let cut = WspFile::open_prefix(&path).unwrap();
    assert_eq!((cut.whole_bytes(), cut.byte_count() as u64), (size, size - 30));
    assert!(cut.planes() < cut.whole_planes());
    // Other files have no planes, and must be whole.
    let other = container::encode(&Header::default(), &[]).unwrap();
    let file = WspFile::prefix_from_bytes("m.wsp", other.clone()).unwrap();
    assert_eq!((file.planes(), file.whole_bytes()), (0, other.len() as u64));
    assert!(WspFile::prefix_from_bytes("m.wsp", other[..other.len() - 1].to_vec()).is_err());
}

#[test]
fn a_file_without_projected_tensors_can_be_written() {
    let projected = Projected { segments: vec![], ..example().projected };
    let tensors = [("a".to_string(), Coding::Raw(Tensor::from_f32(vec![1], &[2.0])))];
    let bytes = container::encode_projected(&header(), &tensors, &projected, &[]).unwrap();
    let file = WspFile::from_bytes("m.wsp", bytes).unwrap();
    assert_eq!((file.planes(), file.whole_planes()), (0, 0));
    assert_eq!(file.whole_bytes(), file.byte_count() as u64);
    assert_eq!(file.state_dict().unwrap().get("a").unwrap().to_f32()[0], 2.0);
}

#[test]
#[cfg(feature = "threads")]
fn threads_change_nothing() {
    let shape = vec![300, 211];
    let tensors = [("w".to_string(), Coding::Projected { shape })];
    for basis in BASES {
        let projected = Projected {
            basis: basis.basis,
            segments: vec![Segment { tensors: 0..1, coefficients: 40 }],
            ..example().projected
        };
        let coefficients = coefficients(40, 8, 4);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let bytes =
                    container::encode_projected(&header(), &tensors, &projected, &coefficients);
                let file = WspFile::from_bytes("m.wsp", bytes.unwrap()).unwrap();
                file.state_dict().unwrap().content_hash()
            })
        };
        let alone = with(1);
        assert_eq!(alone, with(2), "{basis:?}");
        assert_eq!(alone, with(7), "{basis:?}");
    }
}
