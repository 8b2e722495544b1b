//! Damaged and hostile files of the method predictor are refused with one line that names the file; none
//! panics, takes long or needs much memory.

mod mutations;
mod wsp_bytes;

use std::time::{Duration, Instant};

use mutations::mutants;
use weightspace_core::container::{
    self, Coding, Header, Method, Predicted, PredictedTensor, Quantized,
};
use weightspace_core::predictor::{CoordinateScale, Encoding, Order};
use weightspace_core::{DecodeOptions, StateDict, Tensor, WspError, WspFile};
use wsp_bytes::{assert_one_line, assert_refused, body, deflate, sealed, section, varint};

/// Decodes a file whatever its checksum, unless it stands for very much.
fn decode(bytes: Vec<u8>) -> Result<StateDict, WspError> {
    let file = WspFile::from_bytes_unchecked("some.wsp", bytes)?;
    let decoder = file.decoder(DecodeOptions::default())?;
    match file.tensors().iter().map(|t| t.element_count()).sum::<usize>() > 100_000 {
        true => Ok(StateDict::new()),
        false => decoder.state_dict(),
    }
}

/// Refused at once, with one line that names the file and says `reason`.
#[track_caller]
fn refused(bytes: Vec<u8>, reason: &str) {
    assert_refused(|| decode(bytes), reason);
}

/// A file with orders, a mask and quantised layers.
fn small() -> Vec<u8> {
    let layer = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values = (0..count as i32).map(|i| i * 7 % 11 - 5).collect();
        let shape = shape.to_vec();
        Coding::Quantized(Quantized { shape, scale: 0.1, channel_exponents: None, values })
    };
    let tensor = |tile, order, masked| PredictedTensor { tile, order, scale: 0.5, masked };
    let predicted = Predicted {
        coordinates: CoordinateScale::Local,
        encoding: Encoding::Chebyshev { degree: 2 },
        tensors: vec![
            tensor(4, Order::CrossFilter(vec![3, 5, 0, 1, 4, 2]), false),
            tensor(2, Order::Axes { filters: vec![1, 0], tiles: vec![1, 2, 0] }, true),
        ],
    };
    let tensors = [
        ("conv".into(), Coding::Predicted { shape: vec![3, 2, 2, 2] }),
        ("bias".into(), Coding::Raw(Tensor::from_f32(vec![3], &[1.5, -2.0, 0.0]))),
        ("linear".into(), Coding::Predicted { shape: vec![2, 5] }),
    ];
    let inner = [
        ("w1".into(), layer(&[3, 6])),
        ("b1".into(), layer(&[3])),
        ("w2".into(), layer(&[4, 3])),
        ("b2".into(), layer(&[4])),
        ("mask".into(), layer(&[2, 5])),
    ];
    let header = Header { method: Method::Predictor, ..Header::default() };
    container::encode_predicted(&header, &tensors, &predicted, &inner).unwrap()
}

#[test]
fn mutations_with_a_fitting_checksum_do_no_harm() {
    let start = Instant::now();
    let mutants = mutants(&small(), 2_000);
    let count = mutants.len();
    let mut decoded = 0;
    for mutant in mutants {
        match decode(mutant) {
            Ok(_) => decoded += 1,
            Err(error) => {
                assert_one_line(&error);
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{count} files: {:?}", start.elapsed());
    assert!(decoded > 50, "{decoded} of {count}");
}

/// A TABLE of tensors named a, b, ... of these codes and shapes; constants are 0.
fn table(tensors: &[(u8, &[u64])]) -> Vec<u8> {
    let mut content = varint(tensors.len() as u64);
    content.extend(tensors.iter().map(|(code, _)| code));
    let names: Vec<Vec<u8>> = (0..tensors.len()).map(|i| format!("{i:05}").into()).collect();
    content.extend(tensors.iter().map(|_| 0));
    content.extend(tensors.iter().map(|_| 5));
    content.extend(names.concat());
    for (_, shape) in tensors {
        content.push(shape.len() as u8 + 1);
        content.extend(shape.iter().flat_map(|&n| varint(n)));
    }
    for (code, _) in tensors.iter().filter(|(code, _)| code >> 4 == 1) {
        content.extend(&[0; 8][..if *code == 0x11 { 8 } else { 4 }]);
    }
    section(1, &deflate(&content))
}

/// A PREDICTOR: number of inner tensors; scale of coordinates, encoding and its parameters; order and
/// tile of each tensor.
fn predictor(inner: u64, codes: &[u8], tensors: &[(u8, u64)]) -> Vec<u8> {
    let mut content = [&varint(inner), codes].concat();
    content.extend(tensors.iter().map(|(order, _)| order));
    content.extend(tensors.iter().flat_map(|&(_, tile)| varint(tile)));
    for plane in 0..4 {
        content.extend(tensors.iter().map(|_| 1f32.to_le_bytes()[plane]));
    }
    section(6, &deflate(&content))
}

/// A file of the method with these sections.
fn file(sections: &[Vec<u8>]) -> Vec<u8> {
    sealed(body(2, sections))
}

/// Local coordinates, Chebyshev polynomials of degree 1.
const CODES: [u8; 3] = [0, 1, 1];
const CONSTANT: u8 = 0x10;
const PREDICTED: u8 = 0x70;

/// The layers of a predictor of 3 inputs, 2 hidden units and 4 outputs.
const LAYERS: [(u8, &[u64]); 4] =
    [(CONSTANT, &[2, 3]), (CONSTANT, &[2]), (CONSTANT, &[4, 2]), (CONSTANT, &[4])];

/// A file of predicted tensors of those shapes, orders and tiles.
fn file_of(tensors: &[(&[u64], u8, u64)], orders: &[Vec<u8>]) -> Vec<u8> {
    let mut entries: Vec<(u8, &[u64])> = tensors.iter().map(|t| (PREDICTED, t.0)).collect();
    entries.extend(LAYERS);
    let tensors: Vec<(u8, u64)> = tensors.iter().map(|t| (t.1, t.2)).collect();
    file(&[vec![table(&entries), predictor(4, &CODES, &tensors)], orders.to_vec()].concat())
}

#[test]
fn the_hand_made_file_is_what_it_seems() {
    let dict = decode(file_of(&[(&[3, 4], 0, 2), (&[2, 2], 1, 1)], &[section(7, &[])])).unwrap();
    assert_eq!(dict.get("00000").unwrap().shape(), [3, 4]);
    assert_eq!(dict.len(), 2);
}

#[test]
fn predictors_that_contradict_themselves_are_refused() {
    let with = |inner, codes: &[u8], tensors: &[(u8, u64)], reason| {
        let entries = [&[(PREDICTED, &[3u64, 4][..])], &LAYERS[..]].concat();
        refused(file(&[table(&entries), predictor(inner, codes, tensors)]), reason);
    };
    let one = [(0, 2)];
    with(6, &CODES, &one, "the number of inner tensors is 6, the limit is 5");
    with(5, &CODES, &one, "an inner tensor that is not raw");
    with(3, &CODES, &one, "no weights and biases");
    with(2, &CODES, &one, "layer 1 of the predictor");
    with(0, &CODES, &one, "layer 0 of the predictor");
    with(4, &[3, 1, 1], &one, "unknown scale 3");
    with(4, &[0, 4], &one, "unknown encoding 4");
    with(4, &[2, 1, 1], &one, "beyond the limits");
    with(4, &[0, 1, 0], &one, "beyond the limits");
    with(4, &[0, 1, 2], &one, "layer 0 of the predictor");
    let base = |base: f64| [&[0, 0, 1], &base.to_le_bytes()[..]].concat();
    for value in [0.0, -1.0, 4.5, f64::NAN, f64::INFINITY] {
        with(4, &base(value), &one, "beyond the limits");
    }
    with(4, &[0, 0, 1, 0], &one, "the base of the encoding needs 8 bytes");
    with(4, &[0, 2, 1], &one, "no weights and biases");
    with(4, &[0, 3], &one, "layer 1 of the predictor");
    with(4, &CODES, &[(4, 2)], "unknown order 4");
    with(4, &CODES, &[(32, 2)], "unknown order 32");
    with(4, &CODES, &[(16, 2)], "no weights and biases");
    with(4, &CODES, &[(0, 0)], "tiles of 0");
    with(4, &CODES, &[(0, 5)], "the predictor has 4 outputs");
    with(4, &CODES, &[(0, 1 << 17)], "the elements of a tile is 131072");
    with(4, &CODES, &[(0, 2), (0, 2)], "bytes follow");
    with(4, &CODES, &[], "the column of orders needs 1 bytes");
    with(4, &CODES, &[(2, 4)], "of one tile each");
    let scale = [&varint(4), &CODES[..], &[0, 2], &f32::NAN.to_le_bytes()].concat();
    let entries = [&[(PREDICTED, &[3u64, 4][..])], &LAYERS[..]].concat();
    refused(file(&[table(&entries), section(6, &deflate(&scale))]), "not positive and finite");
    let swapped = [LAYERS[1], LAYERS[0], LAYERS[2], LAYERS[3]];
    let entries = [&[(PREDICTED, &[3u64, 4][..])], &swapped[..]].concat();
    refused(file(&[table(&entries), predictor(4, &CODES, &one)]), "not the matrix of a layer");
    let doubles = [&LAYERS[..3], &[(0x11, &[4])]].concat();
    let entries = [&[(PREDICTED, &[3u64, 4][..])], &doubles[..]].concat();
    refused(file(&[table(&entries), predictor(4, &CODES, &one)]), "an inner tensor of type f64");
    refused(file(&[table(&LAYERS), predictor(4, &CODES, &[])]), "0 predicted tensors");
    refused(file_of(&[(&[], 0, 1)], &[]), "cannot be cut into tiles");
    refused(file_of(&[(&[0, 3], 0, 1)], &[]), "cannot be cut into tiles");
    let entries = [&[(PREDICTED | 1, &[3u64, 4][..])], &LAYERS[..]].concat();
    refused(file(&[table(&entries), predictor(4, &CODES, &one)]), "decodes to f32, not f64");
}

#[test]
fn sections_that_do_not_fit_are_refused() {
    let entries = [&[(PREDICTED, &[3u64, 4][..])], &LAYERS[..]].concat();
    let own = || predictor(4, &CODES, &[(0, 2)]);
    refused(file(&[table(&entries)]), "no predictor");
    refused(file(&[table(&entries), section(7, &[])]), "not one predictor");
    refused(file(&[table(&entries), own(), own()]), "not one predictor");
    refused(file(&[table(&entries), own(), section(7, &[])]), "1 sections of orders, expected 0");
    refused(file(&[table(&entries), section(7, &[]), own()]), "not one table");
    refused(file(&[table(&entries), own(), section(5, &[])]), "not one table");
    refused(file(&[table(&entries), section(5, &[]), own()]), "a section of kind plane");
    refused(file_of(&[(&[3, 4], 1, 2)], &[]), "0 sections of orders, expected 1");
    refused(file(&[table(&entries), section(6, &[7])]), "cannot be inflated");
    let mut other = file(&[table(&entries), own()]);
    other[5] = 0;
    refused(other, "a section of kind predictor in a file of method quantize");
    let mut other = file(&[table(&entries)]);
    other[5] = 3;
    refused(other, "a prediction in a file of method low-rank");
}

/// The same file with an architecture of so many letters, which makes it that much longer.
fn padded(file: Vec<u8>, letters: usize) -> Vec<u8> {
    [&file[..6], &varint(letters as u64), &vec![b'a'; letters], &file[7..]].concat()
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    // 2^13 elements for each byte, and no more.
    let large = file_of(&[(&[2560, 1024], 0, 4)], &[]);
    // The length of the text takes a second byte.
    let of_length = |bytes: usize| padded(large.clone(), bytes - large.len() - 1);
    assert_eq!(of_length(320).len(), 320);
    assert!(decode(of_length(320)).is_ok());
    refused(
        of_length(319),
        "2621440 elements of products and predictions are too many for 319 bytes",
    );
    refused(file_of(&[(&[1 << 40], 0, 1)], &[]), "are too many for");
    // Many orders from few bytes.
    let ordered = |orders: &[Vec<u8>]| padded(file_of(&[(&[1000, 1000], 3, 1)], orders), 100);
    refused(ordered(&[]), "0 sections of orders, expected 16");
    refused(ordered(&vec![section(7, &[]); 16]), "a section of 0 bytes cannot cover 65536");
    // Many coordinates from few bytes.
    let wide = [
        &[(PREDICTED, &[1u64 << 21, 1][..])],
        &LAYERS[..2],
        &[(CONSTANT, &[40, 2][..]), (CONSTANT, &[40])],
    ]
    .concat();
    refused(
        padded(file(&[table(&wide), predictor(4, &CODES, &[(0, 1)])]), 1000),
        "more than 2^20 distinct coordinates on the filter axis",
    );
    let hidden = [
        (PREDICTED, &[1u64 << 20][..]),
        (CONSTANT, &[100, 3]),
        (CONSTANT, &[100]),
        (CONSTANT, &[1, 100]),
        (CONSTANT, &[1]),
    ];
    refused(
        padded(file(&[table(&hidden), predictor(4, &CODES, &[(0, 1)])]), 1000),
        "1048578 distinct coordinates of 100 outputs each",
    );
    let many: Vec<Vec<u64>> = (0..2_500).map(|i| vec![4_000 + i]).collect();
    let mut entries: Vec<(u8, &[u64])> = many.iter().map(|shape| (PREDICTED, &shape[..])).collect();
    let large: [(u8, &[u64]); 4] =
        [(CONSTANT, &[2, 3]), (CONSTANT, &[2]), (CONSTANT, &[400, 2]), (CONSTANT, &[400])];
    entries.extend(large);
    refused(
        file(&[table(&entries), predictor(4, &CODES, &[(0, 1); 2_500])]),
        "more than 2^20 distinct coordinates on the filter axis",
    );
    // Wide layers of few stored bytes.
    let wide = [
        (PREDICTED, &[100u64][..]),
        (CONSTANT, &[1, 3]),
        (CONSTANT, &[1]),
        (CONSTANT, &[1 << 16, 1]),
        (CONSTANT, &[1 << 16]),
    ];
    let start = Instant::now();
    assert!(decode(file(&[table(&wide), predictor(4, &CODES, &[(0, 1)])])).is_ok());
    assert!(start.elapsed() < Duration::from_secs(60));
    let wider = [&wide[..3], &[(CONSTANT, &[(1 << 16) + 1, 1][..]), (CONSTANT, &[1])]].concat();
    refused(file(&[table(&wider), predictor(4, &CODES, &[(0, 1)])]), "too large");
}
