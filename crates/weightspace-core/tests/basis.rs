//! Bases: known answers, orthogonality, adjoints, and any part by itself.

use proptest::prelude::*;
use weightspace_core::InstructionSet;
use weightspace_core::basis::{BASES, Basis, Matrix, ProjectedTensor, Projection, Segment, Start};
use weightspace_core::random::{Key, Stream};

fn matrix(basis: Basis, seed: u64, rows: usize, columns: usize) -> Matrix {
    Matrix { basis, key: Key::for_purpose(seed, "subspace"), segment: 3, rows, columns }
}

fn gram(matrix: &Matrix, a: usize, b: usize) -> f64 {
    let products = (0..matrix.rows).map(|row| matrix.entry(row, a) * matrix.entry(row, b));
    let gain = |column| matrix.column_gain(column).factor();
    f64::from(products.sum::<i32>()) * gain(a) * gain(b)
}

#[test]
fn structured_columns_are_orthogonal_and_of_equal_length() {
    for basis in [Basis::Hadamard, Basis::Sketch, Basis::Hash] {
        let matrix = matrix(basis, 1, 619, 40);
        for a in 0..40 {
            for b in 0..40 {
                let expected = if a == b { 619.0 } else { 0.0 };
                let found = gram(&matrix, a, b);
                assert!((found - expected).abs() < 1e-9, "{basis}, columns {a} and {b}: {found}");
            }
        }
    }
}

#[test]
fn independent_columns_are_almost_orthogonal() {
    for basis in [Basis::Dense, Basis::Uniform] {
        let matrix = matrix(basis, 1, 2000, 20);
        for a in 0..20 {
            for b in 0..20 {
                let expected = if a == b { 2000.0 } else { 0.0 };
                // Five standard deviations of a sum of 2,000 products.
                let found = gram(&matrix, a, b);
                assert!((found - expected).abs() < 230.0, "{basis}, columns {a} and {b}: {found}");
            }
        }
    }
}

fn expand(matrix: &Matrix, coefficients: &[i32]) -> Vec<i32> {
    let columns = coefficients.iter().enumerate();
    let sum = |row| columns.clone().map(|(j, q)| q * matrix.entry(row, j)).sum();
    (0..matrix.rows).map(sum).collect()
}

fn any_basis() -> impl Strategy<Value = Basis> {
    (0..BASES.len()).prop_map(|index| BASES[index].basis)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn expansion_is_what_the_entries_say(
        basis in any_basis(), seed: u64, rows in 1usize..700, columns in 1usize..300,
        from in 0.0..1.0, to in 0.0..1.0,
    ) {
        let columns = columns.min(rows);
        let matrix = matrix(basis, seed, rows, columns);
        let coefficients: Vec<i32> = (0..columns as i32).map(|j| j * 37 % 201 - 100).collect();
        let expected = expand(&matrix, &coefficients);
        let mut out = vec![7; rows];
        matrix.expand(0..columns, &coefficients, 0..rows, &mut out);
        prop_assert_eq!(&out, &expected);
        // Small integers are exact in f32, whatever the order.
        let floats: Vec<f32> = coefficients.iter().map(|&q| q as f32).collect();
        let mut sums = vec![7.0f32; rows];
        matrix.expand(0..columns, &floats, 0..rows, &mut sums);
        prop_assert!(sums.iter().zip(&expected).all(|(&sum, &q)| sum == q as f32));
        // Some rows by themselves.
        let at = |share: f64| (share * rows as f64) as usize;
        let part = at(f64::min(from, to))..at(f64::max(from, to));
        let mut out = vec![7; part.len()];
        matrix.expand(0..columns, &coefficients, part.clone(), &mut out);
        prop_assert_eq!(&out, &expected[part.clone()]);
        // Two halves of the columns.
        let middle = (from * columns as f64) as usize;
        let (mut first, mut second) = (vec![7; rows], vec![7; rows]);
        matrix.expand(0..middle, &coefficients[..middle], 0..rows, &mut first);
        matrix.expand(middle..columns, &coefficients[middle..], 0..rows, &mut second);
        let sums: Vec<i32> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
        prop_assert_eq!(sums, expected);
    }

    #[test]
    fn pullback_is_the_adjoint_of_expansion(
        basis in any_basis(), seed: u64, rows in 1usize..700, columns in 1usize..300, middle in 0.0..1.0,
    ) {
        let columns = columns.min(rows);
        let matrix = matrix(basis, seed, rows, columns);
        let gradient: Vec<f32> = (0..rows).map(|i| (i * 31 % 61) as f32 - 30.0).collect();
        let expected: Vec<f32> = (0..columns)
            .map(|j| gradient.iter().enumerate().map(|(i, g)| matrix.entry(i, j) as f32 * g).sum())
            .collect();
        let mut out = vec![7.0; columns];
        matrix.pullback(0..columns, &mut gradient.clone(), &mut out);
        prop_assert_eq!(&out, &expected);
        let middle = (middle * columns as f64) as usize;
        let mut out = vec![7.0; columns - middle];
        matrix.pullback(middle..columns, &mut gradient.clone(), &mut out);
        prop_assert_eq!(&out, &expected[middle..]);
    }

    #[test]
    fn gains_of_rows_are_those_of_their_columns(
        seed: u64, rows in 1usize..300, columns in 1usize..300,
        basis in (2..BASES.len()).prop_map(|index| BASES[index].basis),
    ) {
        let columns = columns.min(rows);
        let matrix = matrix(basis, seed, rows, columns);
        let mut next = 0;
        matrix.row_gains(0..rows, |part, gain| {
            assert_eq!(part.start, next);
            next = part.end;
            for row in part {
                let own = (0..columns).filter(|&column| matrix.entry(row, column) != 0);
                own.for_each(|column| assert_eq!(matrix.column_gain(column), gain));
            }
        });
        prop_assert_eq!(next, rows);
    }
}

/// What an independent program reads in docs/format.md: `tests/golden/basis/make.py`.
#[derive(serde::Deserialize)]
struct Answers {
    matrices: Vec<MatrixAnswer>,
    projections: Vec<ProjectionAnswer>,
}

#[derive(serde::Deserialize)]
struct MatrixAnswer {
    basis: Basis,
    seed: u64,
    segment: u32,
    d: usize,
    k: usize,
    rows: Vec<usize>,
    sums: Vec<i32>,
    columns: Vec<usize>,
    gains: Vec<(u64, u64)>,
}

#[derive(serde::Deserialize)]
struct ProjectionAnswer {
    basis: Basis,
    seed: u64,
    start: String,
    tensors: Vec<(usize, usize)>,
    segments: Vec<(usize, usize)>,
    step: u32,
    theta: Vec<u32>,
}

fn answers() -> Answers {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/basis/answers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn coefficients(count: usize) -> Vec<i32> {
    (0..count as i32).map(|j| j * 37 % 201 - 100).collect()
}

#[test]
fn matrices_are_those_of_the_format() {
    for answer in answers().matrices {
        let MatrixAnswer { basis, seed, segment, d, k, .. } = answer;
        let key = Key::for_purpose(seed, "subspace");
        let matrix = Matrix { basis, key, segment, rows: d, columns: k };
        for set in InstructionSet::available() {
            let mut out = vec![0; d];
            matrix.expand_with(set, 0..k, &coefficients(k), 0..d, &mut out);
            let found: Vec<_> = answer.rows.iter().map(|&row| out[row]).collect();
            assert_eq!(found, answer.sums, "{basis} {d} x {k}, {set:?}");
        }
        let gain = |&column: &usize| matrix.column_gain(column).factor().powi(2);
        let found: Vec<_> = answer.columns.iter().map(gain).collect();
        let expected = answer.gains.iter().map(|&(above, below)| above as f64 / below as f64);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12 * expected, "{basis} {d} x {k}");
        }
    }
}

#[test]
fn weights_are_those_of_the_format() {
    for answer in answers().projections {
        let start = if answer.start == "drawn" { Start::Drawn } else { Start::Zero };
        let key = Key::for_purpose(answer.seed, "subspace");
        let tensor = |&(len, fan_in): &(usize, usize)| ProjectedTensor { len, fan_in };
        let tensors: Vec<_> = answer.tensors.iter().map(tensor).collect();
        let mut first = 0;
        let segment = |&(count, coefficients): &(usize, usize)| {
            let tensors = first..first + count;
            first = tensors.end;
            Segment { tensors, coefficients }
        };
        let segments = answer.segments.iter().map(segment).collect();
        let projection = Projection::new(answer.basis, key, start, tensors, segments).unwrap();
        let (q, step) = (coefficients(projection.coefficient_count()), f32::from_bits(answer.step));
        let mut found = Vec::new();
        for (index, &(len, _)) in answer.tensors.iter().enumerate() {
            for elements in [0..3, len - 3..len] {
                let mut theta = [0.0; 3];
                projection.write_start(index, elements.clone(), &mut theta);
                projection.add_exact(index, elements, (&q, step), &mut theta);
                found.extend(theta.map(f32::to_bits));
            }
        }
        assert_eq!(found, answer.theta, "{}", answer.basis);
    }
}

/// Sums of integers do not depend on the machine: not on its instruction set, nor its threads.
#[test]
fn exact_sums_on_every_instruction_set_and_number_of_threads() {
    for info in &BASES {
        let matrix = matrix(info.basis, 11, 9001, 700);
        let q = coefficients(700);
        let expand = |set, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0; 9001];
            pool.install(|| matrix.expand_with(set, 0..700, &q, 0..9001, &mut out));
            out
        };
        let expected = expand(InstructionSet::Portable, 1);
        for set in InstructionSet::available() {
            for threads in [1, 2, 7] {
                assert_eq!(expand(set, threads), expected, "{}, {set:?}, {threads}", info.name);
            }
        }
    }
}

/// Training needs the same bits again, whatever the number of threads.
#[test]
fn pullbacks_do_not_depend_on_threads() {
    for info in &BASES {
        let matrix = matrix(info.basis, 11, 9001, 700);
        let mut gradient = vec![0.0; 9001];
        Stream::new(Key::from_seed(1), 0).fill_normal(&mut gradient);
        let pullback = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; 700];
            pool.install(|| matrix.pullback(0..700, &mut gradient.clone(), &mut out));
            out
        };
        assert_eq!(pullback(2), pullback(1), "{}", info.name);
        assert_eq!(pullback(7), pullback(1), "{}", info.name);
    }
}
