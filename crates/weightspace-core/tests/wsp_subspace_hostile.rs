//! Damaged and hostile files of the method subspace are refused with one line that names the file; none
//! panics, takes long or needs much memory.

mod mutations;
mod wsp_bytes;

use std::time::{Duration, Instant};

use mutations::mutants;
use weightspace_core::basis::{Basis, Segment, Start};
use weightspace_core::container::{self, Coding, Header, Method, Projected, ProjectionKey};
use weightspace_core::random::Key;
use weightspace_core::{DType, DecodeOptions, StateDict, Tensor, WspError, WspFile};
use wsp_bytes::{assert_one_line, assert_refused, body, sealed, section, table, varint};

fn header() -> Header {
    Header { method: Method::Subspace, ..Header::default() }
}

fn projected(coefficients: usize) -> Projected {
    Projected {
        basis: Basis::Sketch,
        start: Start::Drawn,
        key: ProjectionKey::Seed(1),
        base_hash: None,
        step: 0.5,
        segments: vec![Segment { tensors: 0..2, coefficients }],
    }
}

fn tensors() -> Vec<(String, Coding)> {
    vec![
        ("weight".into(), Coding::Projected { shape: vec![3, 5] }),
        ("norm".into(), Coding::Raw(Tensor::from_f32(vec![2], &[1.5, -2.0]))),
        ("bias".into(), Coding::Projected { shape: vec![3] }),
    ]
}

const COEFFICIENTS: [i32; 6] = [3, -1, 0, 7, -30_000, 2];

fn small() -> Vec<u8> {
    container::encode_projected(&header(), &tensors(), &projected(6), &COEFFICIENTS).unwrap()
}

/// Decodes a file whatever its checks and its checksum, unless it stands for very much.
fn decode(bytes: Vec<u8>) -> Result<StateDict, WspError> {
    let file = WspFile::from_bytes_unchecked("some.wsp", bytes)?;
    let key = Some(Key([0; 32]));
    let decoder = file.decoder(DecodeOptions { key, ..DecodeOptions::default() })?;
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

#[test]
fn mutations_with_fitting_checks_do_no_harm() {
    let file = small();
    let start = Instant::now();
    let mutants = mutants(&file, 2_000);
    let count = mutants.len();
    let mut decoded = 0;
    for mutant in mutants {
        let prefix = WspFile::prefix_from_bytes("some.wsp", mutant.clone());
        let errors = [prefix.err(), decode(mutant).err()];
        decoded += usize::from(errors[1].is_none());
        for error in errors.into_iter().flatten() {
            assert_one_line(&error);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{count} files: {:?}", start.elapsed());
    assert!(decoded > 50, "{decoded} of {count}");
}

/// A PROJECTION: basis, start and key; what follows the key; segments; planes and length of each
/// section.
fn projection(codes: [u8; 3], rest: &[u8], segments: &[[u64; 2]], planes: &[(u8, u64)]) -> Vec<u8> {
    let mut content = [&codes, rest].concat();
    content.extend(varint(segments.len() as u64));
    content.extend(segments.iter().flatten().flat_map(|&n| varint(n)));
    content.push(planes.len() as u8);
    for &(count, length) in planes {
        content.push(count);
        content.extend(varint(length));
    }
    content.extend([0; 2]);
    section(4, &content)
}

/// A file of the method with these sections.
fn file(sections: &[Vec<u8>]) -> Vec<u8> {
    sealed(body(1, sections))
}

const ONE: [u8; 4] = 1f32.to_le_bytes();
/// Basis dense, start zero, key withheld.
const CODES: [u8; 3] = [0, 0, 2];

/// A file of one projected tensor of that shape.
fn file_of(shape: &[u64], projection: Vec<u8>, planes: &[Vec<u8>]) -> Vec<u8> {
    file(&[vec![table(&[(0x40, shape)], &[]), projection], planes.to_vec()].concat())
}

#[test]
fn the_hand_made_file_is_what_it_seems() {
    let own = projection(CODES, &ONE, &[[1, 2]], &[(1, 3)]);
    let dict = decode(file_of(&[4], own, &[section(5, &[9, 0, 0])])).unwrap();
    assert_eq!(dict.get("a").unwrap().shape(), [4]);
}

#[test]
fn projections_that_contradict_themselves_are_refused() {
    let with = |codes, rest: &[u8], segments: &[[u64; 2]], planes: &[(u8, u64)], reason| {
        refused(file_of(&[4], projection(codes, rest, segments, planes), &[]), reason);
    };
    let plane = [(1, 3)];
    with([5, 0, 2], &ONE, &[[1, 2]], &plane, "unknown basis 5");
    with([0, 3, 2], &ONE, &[[1, 2]], &plane, "unknown start 3");
    with([0, 0, 3], &ONE, &[[1, 2]], &plane, "unknown kind of key 3");
    with([0, 2, 2], &ONE, &[[1, 2]], &plane, "the hash of the base needs 32 bytes");
    for step in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        with(CODES, &step.to_le_bytes(), &[[1, 2]], &plane, "not positive and finite");
    }
    with(CODES, &ONE, &[[1, 5]], &plane, "segment 0 has 5 coefficients for 4 weights");
    with(CODES, &ONE, &[[2, 2]], &plane, "do not cover 1 tensors");
    with(CODES, &ONE, &[[0, 0], [1, 2]], &plane, "do not cover 1 tensors");
    with(CODES, &ONE, &[[1, 2], [1, 1]], &plane, "do not cover 1 tensors");
    with(CODES, &ONE, &[], &[], "4 weights of 0 coefficients");
    with(CODES, &ONE, &[[1, 1 << 25]], &plane, "a segment's coefficients is 33554432");
    with(CODES, &ONE, &[[1, 1 << 24]; 2], &plane, "33554432 coefficients, the limit");
    with(CODES, &ONE, &[[1, 2]], &[], "0 planes of 2 coefficients");
    with(CODES, &ONE, &[[1, 2]], &[(0, 3)], "0 planes of 2 coefficients");
    with(CODES, &ONE, &[[1, 2]], &[(1, 3), (0, 3)], "1 planes of 2 coefficients");
    with(CODES, &ONE, &[[1, 2]], &[(8, 3), (8, 3)], "16 planes of 2 coefficients");
    with(CODES, &ONE, &[[1, 2]], &[(1, 1)], "a section of 1 bytes cannot cover 2 bits");
    with(CODES, &ONE, &[[1, 2]], &[(1, 1 << 40)], "the length of a section of planes is");
    with(CODES, &ONE, &[[1, 2]], &[(1, 3)], "a section's kind needs 1 bytes");
    refused(file_of(&[4], section(4, &[0]), &[]), "without its check");
}

#[test]
fn sections_that_do_not_fit_are_refused() {
    let own = || projection(CODES, &ONE, &[[1, 2]], &[(1, 3)]);
    let plane = section(5, &[9, 0, 0]);
    refused(file_of(&[4], own(), &[section(5, &[9, 0])]), "not a plane of 3 bytes");
    refused(file_of(&[4], own(), &[section(3, &[9, 0, 0])]), "not a plane of 3 bytes");
    refused(file_of(&[4], own(), &[plane.clone(), vec![5]]), "1 bytes follow the last plane");
    refused(file(&[table(&[(0x40, &[4])], &[])]), "no projection");
    refused(file(&[table(&[(0x40, &[4])], &[]), plane.clone()]), "no projection");
    refused(file(&[own(), table(&[(0x40, &[4])], &[])]), "not one table");
    let mut quantize = file_of(&[4], own(), std::slice::from_ref(&plane));
    quantize[5] = 0;
    refused(quantize, "a section of kind projection in a file of method quantize");
    let mut quantize = file(&[table(&[(0x00, &[0])], &[]), own(), plane.clone()]);
    quantize[5] = 0;
    refused(quantize, "a section of kind projection in a file of method quantize");
    let mut quantize = file(&[table(&[(0x00, &[0])], &[]), plane.clone()]);
    quantize[5] = 0;
    refused(quantize, "a section of kind plane in a file of method quantize");
    refused(file(&[table(&[(0x41, &[4])], &[]), own(), plane.clone()]), "decodes to f32, not f64");
    let empty = table(&[(0x40, &[4]), (0x40, &[0])], &[]);
    refused(file(&[empty, own(), plane]), "\"b\": a projected tensor without elements");
    // Wrong checks under a right checksum.
    let mut file = file_of(&[4], own(), &[section(5, &[9, 0, 0])]);
    let end = file.len() - 8;
    file[end - 1] ^= 1;
    let message =
        WspFile::from_bytes("some.wsp", sealed(file[..end].to_vec())).err().unwrap().to_string();
    assert!(message.contains("the check of the projection does not match"), "{message}");
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let of = |shape: &[u64], k, planes: &[(u8, u64)]| {
        file_of(shape, projection(CODES, &ONE, &[[1, k]], planes), &[])
    };
    refused(
        of(&[1 << 17, 1], 1, &[(1, 3)]),
        "131072 weights of 1 coefficients, the limit is 65536",
    );
    refused(of(&[1 << 32], 1 << 20, &[(1, 3)]), "the limit is 2147483648");
    refused(of(&[1 << 40], 1 << 24, &[(1, 3)]), "the limit is 2147483648");
    let bits = "a section of 3 bytes cannot cover 16777216 bits";
    refused(of(&[1 << 24], 1 << 24, &[(1, 3)]), bits);
    // Sums of products that would leave 31 bits: arbitrary bytes are arbitrary coefficients.
    let refusals = (0..=255u8).step_by(15).filter(|&byte| {
        let own = projection([1, 0, 2], &ONE, &[[1, 60_000]], &[(15, 2_002)]);
        let plane = section(5, &[vec![byte; 2_000], vec![0; 2]].concat());
        let file = file_of(&[60_000], own, &[plane]);
        let file = WspFile::from_bytes_unchecked("some.wsp", file).unwrap();
        let options = DecodeOptions { key: Some(Key([0; 32])), ..DecodeOptions::default() };
        let error = file.decoder(options).err();
        error.is_some_and(|error| error.to_string().contains("are too large together"))
    });
    assert!(refusals.count() > 5);
}

#[test]
fn what_cannot_be_written_is_refused() {
    #[track_caller]
    fn refuse(header: &Header, tensors: &[(String, Coding)], own: &Projected, reason: &str) {
        refuse_coefficients(header, tensors, (own, &COEFFICIENTS), reason);
    }
    #[track_caller]
    fn refuse_coefficients(
        header: &Header,
        tensors: &[(String, Coding)],
        (own, coefficients): (&Projected, &[i32]),
        reason: &str,
    ) {
        let error = container::encode_projected(header, tensors, own, coefficients).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(reason) && !message.contains('\n'), "{message}");
    }
    let own = projected(6);
    refuse(&Header::default(), &tensors(), &own, "needs a projection");
    let error = container::encode(&header(), &tensors()[1..2]).unwrap_err().to_string();
    assert!(error.contains("needs a projection"), "{error}");
    let error = container::encode(&Header::default(), &tensors()).unwrap_err().to_string();
    assert!(error.contains("a projection in a file of method quantize"), "{error}");
    refuse(&header(), &tensors(), &Projected { step: f32::NAN, ..own.clone() }, "not positive");
    refuse(&header(), &tensors(), &Projected { start: Start::Base, ..own.clone() }, "a base");
    let named = Projected { base_hash: Some([0; 32]), ..own.clone() };
    refuse(&header(), &tensors(), &named, "a base is named exactly if");
    refuse(&header(), &tensors()[..2], &own, "do not cover 1 tensors");
    refuse(&header(), &tensors(), &projected(19), "19 coefficients for 18 weights");
    refuse(&header(), &tensors(), &projected(7), "6 coefficients, the segments have 7");
    let base = Coding::Base { dtype: DType::F32, shape: vec![1] };
    let with_base = [tensors(), vec![("b".into(), base)]].concat();
    refuse(&header(), &with_base, &own, "a base is named exactly if");
    for value in [1 << 15, i32::MIN] {
        let coefficients = [value; 6];
        refuse_coefficients(&header(), &tensors(), (&own, &coefficients), "2^15 or more");
    }
    let count = 1000;
    let large = Projected {
        basis: Basis::Uniform,
        segments: vec![Segment { tensors: 0..1, coefficients: count }],
        ..own
    };
    let tensors = [("a".to_string(), Coding::Projected { shape: vec![count] })];
    let coefficients = vec![i32::from(i16::MIN) + 1; count];
    refuse_coefficients(&header(), &tensors, (&large, &coefficients), "too large together");
}
