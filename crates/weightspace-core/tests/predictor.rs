//! Predictors give the bits of their definition on every instruction set, with any number of threads and
//! whichever rows are asked for.

use weightspace_core::InstructionSet;
use weightspace_core::predictor::{
    CoordinateScale, Encoding, Features, Grid, Linear, Order, Predictor, PredictorError, Tiling,
};
use weightspace_core::random::{Key, Stream};

/// Uniform in [-0.5, 0.5).
fn uniform(count: usize, stream: u64) -> Vec<f32> {
    let mut values = vec![0.0; count];
    Stream::new(Key::for_purpose(1, "predictor"), stream).fill_uniform(&mut values);
    values.iter().map(|v| v - 0.5).collect()
}

fn permutation(count: usize, stream: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    let keys = uniform(count, stream);
    numbers.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
    numbers
}

/// Kernels of 3 x 3 and 1 x 1, tiles that do not divide their filters, and all orders.
fn tensors() -> Vec<(Tiling, Order)> {
    let tiling = |shape: &[usize], tile| Tiling { shape: shape.to_vec(), tile };
    let in_filter: Vec<u32> = (0..7).flat_map(|f| permutation(5, 10 + f)).collect();
    vec![
        (tiling(&[16, 3, 3, 3], 9), Order::Identity),
        (
            tiling(&[7, 5, 3, 3], 9),
            Order::InFilter { filters: permutation(7, 1), tiles: in_filter },
        ),
        (
            tiling(&[12, 20], 1),
            Order::Axes { filters: permutation(12, 2), tiles: permutation(20, 3) },
        ),
        (tiling(&[10, 23], 6), Order::CrossFilter(permutation(40, 4))),
        (tiling(&[9], 1), Order::Identity),
        (tiling(&[40, 16, 3, 3], 9), Order::Identity),
    ]
}

const HIDDEN: usize = 37;
const OUTPUTS: usize = 10;

/// A predictor with its untransposed layers.
fn predictor(encoding: Encoding, scale: CoordinateScale) -> (Predictor, Vec<Linear>, Vec<f32>) {
    let grid = Grid::new(tensors(), scale).unwrap();
    let width = encoding.width(HIDDEN);
    let inputs = if encoding == Encoding::DirectTables { 0 } else { 3 * width };
    let widths = [inputs, HIDDEN, HIDDEN, 29, OUTPUTS];
    let layers: Vec<Linear> = (0..4)
        .map(|l| Linear {
            inputs: widths[l],
            weight: uniform(widths[l] * widths[l + 1], 100 + l as u64),
            bias: uniform(widths[l + 1], 200 + l as u64),
        })
        .collect();
    let features = match encoding.is_stored() {
        false => Features::Computed(encoding),
        true => Features::Stored(
            encoding,
            [0, 1, 2].map(|axis| uniform(grid.values(axis).len() * width, 300 + axis as u64)),
        ),
    };
    let scales: Vec<f32> = (0..grid.tensors().len()).map(|t| 0.1 + t as f32 * 0.03).collect();
    let predictor = Predictor::new(grid, features, layers.clone(), scales.clone()).unwrap();
    (predictor, layers, scales)
}

const ENCODINGS: [(Encoding, CoordinateScale); 6] = [
    (Encoding::NERN, CoordinateScale::Local),
    (Encoding::Positional { levels: 7, base: 1.25 }, CoordinateScale::Raw),
    (Encoding::Chebyshev { degree: 6 }, CoordinateScale::Local),
    (Encoding::Chebyshev { degree: 5 }, CoordinateScale::Global),
    (Encoding::Tables { width: 4 }, CoordinateScale::Global),
    (Encoding::DirectTables, CoordinateScale::Local),
];

/// One tile by the definition, from the features of its coordinates.
fn tile(features: [&[f32]; 3], direct: bool, layers: &[Linear]) -> Vec<f32> {
    let mut values: Vec<f32> = layers[0].bias.clone();
    let mut column = 0;
    for own in features {
        for (j, value) in values.iter_mut().enumerate() {
            *value += match direct {
                true => own[j],
                false => {
                    let weight = &layers[0].weight[j * layers[0].inputs + column..];
                    own.iter().zip(weight).fold(0.0, |sum, (x, w)| sum + x * w)
                }
            };
        }
        column += own.len();
    }
    for layer in &layers[1..] {
        values.iter_mut().for_each(|x| *x = if *x > 0.0 { *x } else { 0.0 });
        let output = |j: usize| {
            let weight = &layer.weight[j * layer.inputs..];
            values.iter().zip(weight).fold(layer.bias[j], |sum, (x, w)| sum + x * w)
        };
        values = (0..layer.bias.len()).map(output).collect();
    }
    values
}

#[test]
fn tiles_are_those_of_the_definition() {
    for (encoding, scale) in ENCODINGS {
        let (predictor, layers, scales) = predictor(encoding, scale);
        let grid = predictor.grid();
        let width = encoding.width(HIDDEN);
        let tables = [0, 1, 2].map(|axis| match encoding.is_stored() {
            true => uniform(grid.values(axis).len() * width, 300 + axis as u64),
            false => encoding.features(grid.values(axis)),
        });
        for (t, (tiling, _)) in grid.tensors().iter().enumerate() {
            let found = predictor.tensor(t);
            for row in 0..tiling.rows() {
                let indices = grid.indices(grid.rows(t).start + row);
                let own = std::array::from_fn(|axis| {
                    &tables[axis][indices[axis] as usize * width..][..width]
                });
                let values = tile(own, encoding == Encoding::DirectTables, &layers);
                let elements = tiling.elements(row);
                let first = (OUTPUTS - tiling.tile) / 2;
                for (value, found) in values[first..].iter().zip(&found[elements]) {
                    assert_eq!((value * scales[t]).to_bits(), found.to_bits(), "{encoding:?} {t}");
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_instructions_threads_or_rows() {
    for (encoding, scale) in ENCODINGS {
        let expected: Vec<Vec<f32>> = {
            let (predictor, ..) = predictor(encoding, scale);
            (0..predictor.grid().tensors().len()).map(|t| predictor.tensor(t)).collect()
        };
        for set in InstructionSet::available() {
            for threads in [1, 2, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                // A new one, since sums are kept from the first use.
                let (predictor, ..) = predictor(encoding, scale);
                for (t, expected) in expected.iter().enumerate() {
                    let tiling = &predictor.grid().tensors()[t].0;
                    let count = tiling.rows();
                    for rows in [0..count, 0..1, count / 3..count, count - 1..count, 3..3] {
                        let elements = match rows.is_empty() {
                            true => 0..0,
                            false => {
                                tiling.elements(rows.start).start..tiling.elements(rows.end - 1).end
                            }
                        };
                        let mut found = vec![0.0; elements.len()];
                        pool.install(|| predictor.rows_with(set, t, rows, &mut found));
                        assert!(found == expected[elements], "{encoding:?} {set:?} {threads} {t}");
                    }
                }
            }
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let encoding = Encoding::Chebyshev { degree: 6 };
    let (_, layers, scales) = predictor(encoding, CoordinateScale::Local);
    let new = |features, layers: &[Linear], scales: &[f32]| {
        let grid = Grid::new(tensors(), CoordinateScale::Local).unwrap();
        Predictor::new(grid, features, layers.to_vec(), scales.to_vec()).map(|_| ())
    };
    let computed = || Features::Computed(encoding);
    assert_eq!(new(computed(), &layers, &scales), Ok(()));
    assert_eq!(new(computed(), &layers, &scales[1..]), Err(PredictorError::Scales { scales: 5 }));
    assert_eq!(new(computed(), &layers[1..], &scales), Err(PredictorError::Layer { layer: 0 }));
    assert_eq!(new(computed(), &layers[..1], &scales), Err(PredictorError::Layer { layer: 1 }));
    let tile = new(
        computed(),
        &[
            &layers[..1],
            &[Linear { inputs: HIDDEN, weight: vec![0.0; 8 * HIDDEN], bias: vec![0.0; 8] }],
        ]
        .concat(),
        &scales,
    );
    assert!(matches!(tile, Err(PredictorError::Tile { tile: 9, outputs: 8, .. })), "{tile:?}");
    let mut short = layers.clone();
    short[2].weight.pop();
    assert_eq!(new(computed(), &short, &scales), Err(PredictorError::Layer { layer: 2 }));
    let direct = Features::Computed(Encoding::DirectTables);
    let mut without = layers.clone();
    without[0] = Linear { inputs: 0, weight: vec![], bias: vec![0.0; HIDDEN] };
    assert_eq!(new(direct, &without, &scales), Err(PredictorError::Table { axis: "layer" }));
    let direct = Features::Stored(Encoding::DirectTables, [vec![0.0; 6 * HIDDEN], vec![], vec![]]);
    assert_eq!(new(direct, &without, &scales), Err(PredictorError::Table { axis: "filter" }));
}
