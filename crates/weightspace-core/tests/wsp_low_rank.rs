//! Tensors as products of two factors: they come back as the exact product, whole and row by row,
//! and factors that do not fit are refused.

mod wsp_bytes;

use proptest::prelude::*;
use weightspace_core::container::{self, Coding, Header, Method, Quantized, WspFile};
use weightspace_core::{DType, DecodeOptions, Tensor};
use wsp_bytes::{body, sealed, table};

fn header() -> Header {
    Header { method: Method::LowRank, ..Header::default() }
}

fn product(shape: &[usize], left: Coding, right: Coding) -> Coding {
    Coding::Product { shape: shape.to_vec(), left: Box::new(left), right: Box::new(right) }
}

/// A factor of pseudo-random values, in the given way: raw in one of three types, constant, quantised.
fn factor(rows: usize, columns: usize, way: usize, seed: u64) -> Coding {
    let mut state = seed;
    let values = (0..rows * columns).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as i32 % 2_000 - 1_000
    });
    let values: Vec<i32> = values.collect();
    let shape = vec![rows, columns];
    match way {
        0..=2 => {
            let floats: Vec<f32> = values.iter().map(|&v| v as f32 * 0.0123).collect();
            let dtype = [DType::F32, DType::F16, DType::BF16][way];
            Coding::Raw(Tensor::from_f32(shape, &floats).cast_float(dtype))
        }
        3 => Coding::Constant { dtype: DType::F32, shape, value: 0.1.into() },
        _ => Coding::Quantized(Quantized {
            shape,
            scale: 0.017,
            channel_exponents: (way == 4).then(|| (0..rows).map(|row| row as u8 * 3).collect()),
            values,
        }),
    }
}

fn values(coding: &Coding) -> Vec<f32> {
    match coding {
        Coding::Raw(tensor) => tensor.to_f32().into_owned(),
        Coding::Constant { shape, .. } => vec![0.1; shape.iter().product()],
        Coding::Quantized(quantized) => quantized.dequantize(),
        _ => unreachable!("not a factor"),
    }
}

/// The product by its definition.
fn multiplied(left: &[f32], right: &[f32], rank: usize) -> Vec<f32> {
    let columns = right.len() / rank;
    let element = |i: usize| {
        let (row, column) = (i / columns, i % columns);
        let terms = (0..rank).map(|k| left[row * rank + k] * right[k * columns + column]);
        terms.fold(0.0, |sum, term| sum + term)
    };
    (0..left.len() / rank * columns).map(element).collect()
}

proptest! {
    #[test]
    fn products_come_back_whole_and_by_rows(
        (rows, channels, area, rank, ways, seed) in
            (1usize..40, 1usize..30, 1usize..4, 1usize..30, (0usize..6, 0usize..6), any::<u64>()),
    ) {
        let columns = channels * area;
        let rank = rank.min(rows).min(columns);
        let (left, right) =
            (factor(rows, rank, ways.0, seed), factor(rank, columns, ways.1, seed ^ 1));
        let expected = multiplied(&values(&left), &values(&right), rank);
        let bias = Coding::Raw(Tensor::from_f32(vec![2], &[1.0, 2.0]));
        let tensors = [
            ("conv.weight".to_string(), product(&[rows, channels, area], left, right)),
            ("conv.bias".to_string(), bias),
        ];
        let bytes = container::encode(&header(), &tensors).unwrap();
        let file = WspFile::from_bytes("memory.wsp", bytes).unwrap();
        let names: Vec<&str> = file.tensors().iter().map(|info| info.name.as_str()).collect();
        prop_assert_eq!(&names, &["conv.weight", "conv.bias"]);
        let dict = file.state_dict().unwrap();
        let whole = dict.get("conv.weight").unwrap();
        prop_assert_eq!(whole.shape(), &[rows, channels, area]);
        prop_assert_eq!(&*whole.to_f32(), &expected[..]);
        prop_assert_eq!(&*dict.get("conv.bias").unwrap().to_f32(), &[1.0, 2.0]);
        let decoder = file.decoder(DecodeOptions::default()).unwrap();
        for range in [0..rows, rows / 2..rows, 0..0, rows - 1..rows] {
            let part = decoder.rows("conv.weight", range.clone()).unwrap();
            let expected = &expected[range.start * columns..range.end * columns];
            prop_assert_eq!(&*part.to_f32(), expected);
        }
        prop_assert!(decoder.rows("conv.weight.u", 0..1).is_err(), "factors are no tensors");
        prop_assert!(decoder.info("conv.weight.v").is_none());
    }
}

#[test]
fn a_larger_product_is_the_same_in_parallel_pieces() {
    let (left, right) = (factor(600, 7, 1, 3), factor(7, 300, 4, 4));
    let expected = multiplied(&values(&left), &values(&right), 7);
    let tensors = [("w".to_string(), product(&[600, 300], left, right))];
    let bytes = container::encode(&header(), &tensors).unwrap();
    let dict = WspFile::from_bytes("m.wsp", bytes).unwrap().state_dict().unwrap();
    assert_eq!(&*dict.get("w").unwrap().to_f32(), &expected[..]);
}

#[test]
fn factors_that_do_not_fit_are_not_written() {
    let refuse = |header: &Header, coding: Coding, reason: &str| {
        let tensors = [("w".to_string(), coding)];
        let message = container::encode(header, &tensors).unwrap_err().to_string();
        assert!(message.contains(reason) && !message.contains('\n'), "{message}");
    };
    let good = || product(&[4, 3], factor(4, 2, 0, 1), factor(2, 3, 0, 2));
    assert!(container::encode(&header(), &[("w".into(), good())]).is_ok());
    refuse(&Header::default(), good(), "a product in a file of method quantize");
    let of = |shape: &[usize], left, right| product(shape, left, right);
    let low = "no product of low rank";
    refuse(&header(), of(&[4, 3], factor(4, 1, 0, 1), factor(2, 3, 0, 2)), low);
    refuse(&header(), of(&[4, 3], factor(5, 2, 0, 1), factor(2, 3, 0, 2)), low);
    refuse(&header(), of(&[4, 3], factor(4, 4, 0, 1), factor(4, 3, 0, 2)), low);
    refuse(&header(), of(&[4, 3], factor(4, 0, 0, 1), factor(0, 3, 0, 2)), low);
    refuse(&header(), of(&[4], factor(4, 1, 0, 1), factor(1, 1, 0, 2)), "not an f32 matrix");
    refuse(&header(), of(&[4, 3], good(), factor(2, 3, 0, 2)), "not a factor of type");
    let wide = Coding::Raw(Tensor::from_bytes(DType::F64, vec![4, 2], vec![0; 64]));
    refuse(&header(), of(&[4, 3], wide, factor(2, 3, 0, 2)), "not a factor of type");
    let twice = [("w".to_string(), good()), ("w.u".to_string(), factor(1, 1, 0, 1))];
    assert!(container::encode(&header(), &twice).is_err(), "the name of a factor");
}

/// What a file asks for is bounded by its size: rank 1 of a large layer is real, the same of constants is a bomb.
#[test]
fn elements_are_bounded_by_the_bytes_of_the_file() {
    let rows = 4096;
    let encoded = |left: usize, right: usize| {
        let (left, right) = (factor(rows, 1, left, 1), factor(1, rows, right, 2));
        container::encode(&header(), &[("w".into(), product(&[rows, rows], left, right))])
    };
    assert!(WspFile::from_bytes("m.wsp", encoded(5, 5).unwrap()).is_ok());
    let refused = encoded(3, 3).unwrap_err().to_string();
    assert!(refused.contains("16777216 elements of products and predictions are too many for"));
}

/// A file whose table has these codings, each a letter as its name and a shape, and no other section.
fn file_of_table(entries: &[(u8, &[u64])], rest: &[u8]) -> Vec<u8> {
    sealed(body(3, &[table(entries, rest)]))
}

#[test]
fn hostile_tables_are_refused() {
    let refused = |entries: &[(u8, &[u64])], rest: &[u8], reason: &str| {
        let opened = WspFile::from_bytes("some.wsp", file_of_table(entries, rest));
        let message = opened.err().expect("it should be refused").to_string();
        assert!(message.starts_with("some.wsp: ") && message.contains(reason), "{message}");
    };
    let ones = [0, 0, 0x80, 0x3f].repeat(2);
    let good: [(u8, &[u64]); 3] = [(0x60, &[4, 3]), (0x10, &[4, 2]), (0x10, &[2, 3])];
    let dict = WspFile::from_bytes("m", file_of_table(&good, &ones)).unwrap().state_dict().unwrap();
    assert_eq!(&*dict.get("a").unwrap().to_f32(), &[2.0; 12]);
    refused(&good[..1], &[], "without two factors");
    refused(&good[..2], &ones[..4], "without two factors");
    refused(&[good[0], good[0], good[1], good[2]], &ones, "not a factor of type");
    refused(&[(0x60, &[4, 3]), (0x40, &[4, 2]), (0x10, &[2, 3])], &ones[..4], "not a factor");
    refused(&[(0x61, &[4, 3]), good[1], good[2]], &ones, "not an f32 matrix");
    let huge = 1 << 16;
    let of_huge: [(u8, &[u64]); 3] =
        [(0x60, &[huge, huge]), (0x10, &[huge, 1]), (0x10, &[1, huge])];
    refused(&of_huge, &ones, "are too many for");
    let wide: [(u8, &[u64]); 3] = [(0x60, &[1 << 19, 1 << 12]), (0x10, &[1 << 19, 1]), good[2]];
    refused(&wide, &ones, "no product of low rank");
}
