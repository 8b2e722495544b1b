//! Files of predicted tensors: they come back as the predictor's exact outputs, whole and filter by filter.

use proptest::prelude::*;
use weightspace_core::container::{
    self, Coding, Header, Method, Predicted, PredictedTensor, Quantized, SectionKind, WspFile,
};
use weightspace_core::predictor::{
    CoordinateScale, Encoding, Features, Grid, Linear, Order, Predictor, Tiling,
};
use weightspace_core::random::{Key, Stream};
use weightspace_core::{DType, DecodeOptions, Tensor};

fn header() -> Header {
    Header { method: Method::Predictor, ..Header::default() }
}

/// Uniform in [-0.5, 0.5).
fn uniform(count: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    Stream::new(Key::for_purpose(seed, "test"), 0).fill_uniform(&mut values);
    values.iter().map(|v| v - 0.5).collect()
}

fn permutation(count: usize, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    let keys = uniform(count, seed);
    numbers.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
    numbers
}

fn order(tiling: &Tiling, kind: usize, seed: u64) -> Order {
    let (filters, tiles) = (tiling.filters(), tiling.tiles_per_filter());
    match kind {
        1 => {
            Order::Axes { filters: permutation(filters, seed), tiles: permutation(tiles, seed + 1) }
        }
        2 if tiles > 1 => {
            let each = (0..filters as u64).flat_map(|f| permutation(tiles, seed + f));
            Order::InFilter { filters: permutation(filters, seed), tiles: each.collect() }
        }
        3 => Order::CrossFilter(permutation(tiling.rows(), seed)),
        _ => Order::Identity,
    }
}

/// A matrix or vector in one of the ways that inner tensors are stored.
fn inner(shape: &[usize], way: u64, seed: u64) -> Coding {
    let values = uniform(shape.iter().product(), seed);
    let shape = shape.to_vec();
    match way % 4 {
        0 => Coding::Raw(Tensor::from_f32(shape, &values)),
        1 => Coding::Raw(Tensor::from_f32(shape, &values).cast_float(DType::F16)),
        2 => Coding::Constant { dtype: DType::F32, shape, value: 0.125.into() },
        _ => Coding::Quantized(Quantized {
            scale: 0.01,
            channel_exponents: Some((0..shape[0]).map(|row| row as u8 % 5).collect()),
            values: values.iter().map(|v| (v * 200.0) as i32).collect(),
            shape,
        }),
    }
}

fn elements(coding: &Coding) -> Vec<f32> {
    match coding {
        Coding::Raw(tensor) => tensor.to_f32().into_owned(),
        Coding::Constant { shape, .. } => vec![0.125; shape.iter().product()],
        Coding::Quantized(quantized) => quantized.dequantize(),
        _ => unreachable!("not an inner tensor"),
    }
}

const ENCODINGS: [(Encoding, CoordinateScale); 6] = [
    (Encoding::NERN, CoordinateScale::Local),
    (Encoding::Positional { levels: 3, base: 2.0 }, CoordinateScale::Raw),
    (Encoding::Chebyshev { degree: 4 }, CoordinateScale::Global),
    (Encoding::Tables { width: 3 }, CoordinateScale::Local),
    (Encoding::DirectTables, CoordinateScale::Raw),
    (Encoding::DirectTables, CoordinateScale::Local),
];

/// A file and what its predicted tensors must be.
struct Sample {
    tensors: Vec<(String, Coding)>,
    predicted: Predicted,
    inner: Vec<(String, Coding)>,
    expected: Vec<(String, Vec<f32>)>,
}

fn sample(shapes: &[(Vec<usize>, usize)], hidden: usize, encoding: usize, seed: u64) -> Sample {
    let (encoding, coordinates) = ENCODINGS[encoding];
    let outputs = 9;
    let tilings = shapes.iter().map(|(shape, tile)| {
        let columns = shape.iter().skip(1).product::<usize>();
        Tiling { shape: shape.clone(), tile: *(tile).min(&columns).min(&outputs) }
    });
    let tensors: Vec<_> = (seed..)
        .zip(tilings)
        .map(|(seed, tiling)| {
            let order = order(&tiling, seed as usize % 4, seed);
            (tiling, order)
        })
        .collect();
    let grid = Grid::new(tensors.clone(), coordinates).unwrap();
    let width = encoding.width(hidden);
    let mut inners: Vec<(String, Coding)> = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let seed = seed.wrapping_mul(31).wrapping_add(inners.len() as u64);
        let coding = inner(shape, seed, seed);
        let values = elements(&coding);
        inners.push((name, coding));
        values
    };
    let features = match encoding.is_stored() {
        false => Features::Computed(encoding),
        true => Features::Stored(
            encoding,
            [0, 1, 2].map(|axis| add(format!("table{axis}"), &[grid.values(axis).len(), width])),
        ),
    };
    let inputs = if encoding == Encoding::DirectTables { 0 } else { 3 * width };
    let widths = [inputs, hidden, hidden + 1, outputs];
    let layers: Vec<Linear> = (0..3)
        .map(|l| {
            let stored = widths[l] > 0;
            let shape = [widths[l + 1], widths[l]];
            let weight = if stored { add(format!("w{l}"), &shape) } else { vec![] };
            Linear { inputs: widths[l], weight, bias: add(format!("b{l}"), &shape[..1]) }
        })
        .collect();
    let scales: Vec<f32> = (0..shapes.len()).map(|t| 0.5 + t as f32 * 0.37).collect();
    let predictor = Predictor::new(grid, features, layers, scales.clone()).unwrap();
    let masked = |t: usize| (seed + t as u64).is_multiple_of(3);
    let mut expected = Vec::new();
    for (t, (tiling, _)) in tensors.iter().enumerate() {
        let mut weights = predictor.tensor(t);
        if masked(t) {
            let zeros = uniform(weights.len(), seed + 77);
            let bits: Vec<u8> = zeros.iter().map(|&v| u8::from(v > 0.1)).collect();
            weights.iter_mut().zip(&bits).for_each(|(w, &bit)| *w *= f32::from(bit));
            let mask = Tensor::from_bytes(DType::Bool, tiling.shape.clone(), bits);
            inners.push((format!("mask{t}"), Coding::Raw(mask)));
        }
        expected.push((format!("layer{t}.weight"), weights));
    }
    let predicted = Predicted {
        coordinates,
        encoding,
        tensors: (0..)
            .zip(tensors.iter().zip(&scales))
            .map(|(t, ((tiling, order), &scale))| PredictedTensor {
                tile: tiling.tile,
                order: order.clone(),
                scale,
                masked: masked(t),
            })
            .collect(),
    };
    let mut all = Vec::new();
    for (t, (tiling, _)) in tensors.iter().enumerate() {
        all.push((format!("layer{t}.weight"), Coding::Predicted { shape: tiling.shape.clone() }));
        all.push((format!("layer{t}.bias"), inner(&[tiling.shape[0]], 3, t as u64)));
        all.push((format!("layer{t}.norm"), inner(&[4], 0, t as u64)));
    }
    Sample { tensors: all, predicted, inner: inners, expected }
}

impl Sample {
    fn encode(&self) -> Vec<u8> {
        container::encode_predicted(&header(), &self.tensors, &self.predicted, &self.inner).unwrap()
    }

    fn check(&self) {
        let bytes = self.encode();
        let file = WspFile::from_bytes("memory.wsp", bytes).unwrap();
        let names: Vec<&str> = file.tensors().iter().map(|info| info.name.as_str()).collect();
        assert!(names.iter().copied().eq(self.tensors.iter().map(|(name, _)| name.as_str())));
        let dict = file.state_dict().unwrap();
        let decoder = file.decoder(DecodeOptions::default()).unwrap();
        for (name, expected) in &self.expected {
            let whole = dict.get(name).unwrap();
            assert!(*whole.to_f32() == expected[..], "{name}");
            let filters = whole.shape()[0];
            let columns = expected.len() / filters;
            for range in [0..filters, filters / 2..filters, 0..0, filters - 1..filters] {
                let part = decoder.rows(name, range.clone()).unwrap();
                assert_eq!(part.shape()[1..], whole.shape()[1..]);
                assert!(*part.to_f32() == expected[range.start * columns..range.end * columns]);
            }
        }
        for (name, coding) in self.tensors.iter().filter(|(name, _)| !name.contains("weight")) {
            assert!(*dict.get(name).unwrap().to_f32() == elements(coding), "{name}");
        }
        for (name, _) in &self.inner {
            assert!(decoder.info(name).is_none() && dict.get(name).is_none(), "{name}");
        }
        let info = file.predictor().unwrap();
        assert_eq!(info.encoding, self.predicted.encoding);
        assert_eq!(info.inner, self.inner.len());
        for (found, own) in info.tensors.iter().zip(&self.predicted.tensors) {
            assert_eq!((found.tile, found.order), (own.tile, own.order.kind()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn files_come_back(
        shapes in proptest::collection::vec(
            (proptest::collection::vec(1usize..8, 1..5), 1usize..12), 1..6),
        hidden in 1usize..20,
        encoding in 0usize..6,
        seed in 0u64..1000,
    ) {
        sample(&shapes, hidden, encoding, seed).check();
    }
}

#[test]
fn several_sections_of_orders_come_back() {
    // 409,599 exchanges in seven sections.
    let shapes = [(vec![640, 640, 1, 1], 1), (vec![64, 32, 3, 3], 9)];
    let sample = sample(&shapes, 4, 2, 3);
    assert!(matches!(sample.predicted.tensors[0].order, Order::CrossFilter(_)));
    let file = WspFile::from_bytes("memory.wsp", sample.encode()).unwrap();
    let orders = file.sections().iter().filter(|section| section.kind == SectionKind::Order);
    assert_eq!(orders.clone().count(), 7);
    let bits: f64 = (sample.predicted.tensors.iter())
        .zip(shapes)
        .map(|(tensor, (shape, _))| tensor.order.bits(&Tiling { shape, tile: tensor.tile }))
        .sum();
    let bytes: usize = orders.map(|section| section.range.len()).sum();
    assert!((bytes as f64 - bits / 8.0).abs() < 7.0 * 12.0, "{bytes} bytes of {bits} bits");
    sample.check();
}

#[test]
fn files_are_the_same_with_any_number_of_threads() {
    let shapes = [(vec![300, 300, 1, 1], 1), (vec![64, 33], 4)];
    let sample = sample(&shapes, 7, 0, 7);
    let expected = sample.encode();
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            assert_eq!(sample.encode(), expected);
            sample.check();
        });
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let good = || sample(&[(vec![4, 3, 3, 3], 9), (vec![5, 6], 2)], 5, 3, 1);
    let refuse = |change: &dyn Fn(&mut Sample), reason: &str| {
        let mut sample = good();
        change(&mut sample);
        let Sample { tensors, predicted, inner, .. } = &sample;
        let error = container::encode_predicted(&header(), tensors, predicted, inner).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(reason) && !message.contains('\n'), "{reason}: {message}");
    };
    good().check();
    refuse(&|s| s.predicted.tensors[0].scale = f32::NAN, "not positive and finite");
    refuse(&|s| s.predicted.tensors[0].tile = 10, "the predictor has 9 outputs");
    refuse(&|s| s.predicted.tensors[0].tile = 0, "cannot be cut into tiles of 0");
    refuse(
        &|s| s.predicted.tensors[0].order = Order::CrossFilter(vec![0; 12]),
        "no permutations of 12",
    );
    refuse(&|s| drop(s.predicted.tensors.pop()), "2 predicted tensors, the predictor has 1");
    refuse(&|s| drop(s.inner.pop()), "no weights and biases");
    refuse(&|s| s.inner.clear(), "too few");
    refuse(&|s| s.inner.swap(0, 1), "\"table1\": an inner tensor [8, 3], expected [2, 3]");
    refuse(&|s| s.inner[0].0 = "layer0.weight".into(), "given twice");
    refuse(&|s| s.predicted.encoding = Encoding::Tables { width: 4 }, "layer 0 of the predictor");
    refuse(&|s| s.inner[0].1 = Coding::Predicted { shape: vec![2, 3] }, "3 predicted tensors");
    let wide = Coding::Raw(Tensor::from_bytes(DType::F64, vec![2, 3], vec![0; 48]));
    refuse(&|s| s.inner[0].1 = wide.clone(), "an inner tensor of type f64");
    let flat = Order::InFilter { filters: vec![0, 1, 2, 3], tiles: vec![0; 4] };
    refuse(
        &|s| {
            s.tensors[0].1 = Coding::Predicted { shape: vec![4, 1, 3, 3] };
            s.predicted.tensors[0].order = flat.clone();
        },
        "of one tile each",
    );
    let Sample { tensors, predicted, inner, .. } = good();
    let error = container::encode(&header(), &tensors).unwrap_err().to_string();
    assert!(error.contains("needs a predictor"), "{error}");
    let other = Header::default();
    let error = container::encode_predicted(&other, &tensors, &predicted, &inner).unwrap_err();
    assert!(error.to_string().contains("needs a predictor"), "{error}");
    let error = container::encode(&other, &tensors).unwrap_err().to_string();
    assert!(error.contains("a prediction in a file of method quantize"), "{error}");
}
