//! What is written to a `.wsp` file comes back, whatever the tensors.

use proptest::prelude::*;
use weightspace_core::container::{self, Coding, Header, Number, Quantized, WspFile};
use weightspace_core::{DType, StateDict, Tensor, WspError};

/// What a coding decodes to, by the definition of each.
fn expected(coding: &Coding) -> Tensor {
    match coding {
        Coding::Raw(tensor) => tensor.clone(),
        Coding::Quantized(q) => Tensor::from_f32(q.shape.clone(), &q.dequantize()),
        Coding::Constant { dtype, shape, value } => {
            let count = shape.iter().product();
            let element = match *value {
                Number::Float(value) => {
                    Tensor::from_f32(vec![], &[value as f32]).cast_float(*dtype).bytes().to_vec()
                }
                Number::Integer(value) => value.to_le_bytes()[..dtype.size()].to_vec(),
            };
            Tensor::from_bytes(*dtype, shape.clone(), element.repeat(count))
        }
        Coding::Projected { .. } | Coding::Base { .. } | Coding::Product { .. } => {
            unreachable!("of another method")
        }
    }
}

fn round_trip(header: &Header, tensors: &[(String, Coding)]) -> Vec<u8> {
    let bytes = container::encode(header, tensors).unwrap();
    let file = WspFile::from_bytes("memory.wsp", bytes.clone()).unwrap();
    assert_eq!(file.header(), header);
    let dict: StateDict = tensors.iter().map(|(n, c)| (n.clone(), expected(c))).collect();
    assert_eq!(file.tensors(), dict.infos());
    assert_eq!(file.state_dict().unwrap(), dict);
    bytes
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        8 => prop::collection::vec(0usize..6, 0..5),
        1 => prop::collection::vec(0usize..3, 8..9),
        1 => Just(vec![3, 1_000]),
    ]
}

fn quantized() -> impl Strategy<Value = Coding> {
    let magnitude = prop_oneof![Just(0i32), 0i32..3, 0i32..300, 0i32..1 << 24];
    let scale = prop_oneof![1e-9f32..1e9, Just(f32::MIN_POSITIVE), Just(f32::MAX), Just(1e-45)];
    (shape(), magnitude, scale, any::<bool>(), any::<u64>()).prop_map(
        |(shape, magnitude, scale, exponents, seed)| {
            let mut state = seed;
            let mut next = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as i32
            };
            let count: usize = shape.iter().product();
            let values = (0..count).map(|_| next() % (2 * magnitude + 1) - magnitude).collect();
            let channel_exponents = (exponents && !shape.is_empty())
                .then(|| (0..shape[0]).map(|_| next() as u8).collect());
            Coding::Quantized(Quantized { shape, scale, channel_exponents, values })
        },
    )
}

fn raw() -> impl Strategy<Value = Coding> {
    (shape(), 0..DType::ALL.len(), any::<u8>()).prop_map(|(shape, dtype, byte)| {
        let dtype = DType::ALL[dtype];
        let count = shape.iter().product::<usize>() * dtype.size();
        let bytes = (0..count).map(|i| byte.wrapping_mul(i as u8)).collect();
        Coding::Raw(Tensor::from_bytes(dtype, shape, bytes))
    })
}

fn constant() -> impl Strategy<Value = Coding> {
    let integer = (shape(), any::<i16>()).prop_map(|(shape, value)| {
        let value = Number::from(i64::from(value));
        Coding::Constant { dtype: DType::I64, shape, value }
    });
    let float = (shape(), any::<f32>()).prop_map(|(shape, value)| {
        let value = Number::from(f64::from(value));
        Coding::Constant { dtype: DType::F32, shape, value }
    });
    prop_oneof![integer, float]
}

fn tensors() -> impl Strategy<Value = Vec<(String, Coding)>> {
    let name = prop_oneof!["[a-c.]{1,4}", "\\PC{1,8}"];
    let coding = prop_oneof![3 => quantized(), 1 => raw(), 1 => constant()];
    prop::collection::btree_map(name, coding, 0..12).prop_map(|map| map.into_iter().collect())
}

proptest! {
    #[test]
    fn any_tensors_come_back(tensors in tensors(), arch in "\\PC{0,10}", size: u64) {
        let header = Header { arch, source_bytes: size, ..Header::default() };
        round_trip(&header, &tensors);
    }
}

#[test]
fn an_empty_file_is_small() {
    assert!(round_trip(&Header::default(), &[]).len() < 50);
}

#[test]
fn files_are_written_and_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wsp");
    let tensor = Coding::Raw(Tensor::from_f32(vec![2], &[1.0, 2.0]));
    let size = container::write(&path, &Header::default(), &[("a".into(), tensor)]).unwrap();
    assert_eq!(size, std::fs::metadata(&path).unwrap().len());
    assert!(WspFile::is_wsp(&path));
    assert_eq!(WspFile::open(&path).unwrap().tensors().len(), 1);
    std::fs::write(&path, "other").unwrap();
    assert!(!WspFile::is_wsp(&path) && !WspFile::is_wsp(folder.path()));
}

#[test]
fn a_consumer_can_stop() {
    let tensor = Coding::Constant { dtype: DType::F32, shape: vec![], value: 1.0.into() };
    let tensors = [("a".to_string(), tensor.clone()), ("b".to_string(), tensor)];
    let bytes = container::encode(&Header::default(), &tensors).unwrap();
    let mut seen = Vec::new();
    let stop = || WspError::Unwritable { reason: "enough".into() };
    let result = WspFile::from_bytes("m", bytes).unwrap().decode_each(|name, _| {
        seen.push(name.to_string());
        Err(stop())
    });
    assert!(result.is_err());
    assert_eq!(seen, ["a"]);
}

#[test]
fn the_largest_magnitudes_everywhere() {
    let largest = (1 << 24) - 1;
    for shape in [vec![], vec![300], vec![7, 40], vec![4, 3, 5, 5], vec![2, 2, 2, 2, 2, 2, 2, 2]] {
        let count: usize = shape.iter().product();
        for pattern in [[largest, largest], [largest, -largest], [-largest, 0]] {
            let values = pattern.into_iter().cycle().take(count).collect();
            let q = Quantized { shape: shape.clone(), scale: 1.0, channel_exponents: None, values };
            round_trip(&Header::default(), &[("a".into(), Coding::Quantized(q))]);
        }
    }
}
