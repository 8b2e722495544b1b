//! Every basis on ResNet-20's 268,346 weights with 10,000 coefficients, one thread, in entries of the matrix
//! per second: `cargo bench -p weightspace-core`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weightspace_core::basis::{BASES, Matrix};
use weightspace_core::random::Key;

const ROWS: usize = 268_346;
const COLUMNS: usize = 10_000;

fn bases(criterion: &mut Criterion) {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("one thread");
    for info in &BASES {
        let (key, segment) = (Key::for_purpose(1, "subspace"), 0);
        let matrix = Matrix { basis: info.basis, key, segment, rows: ROWS, columns: COLUMNS };
        let mut group = criterion.benchmark_group(info.name);
        group.sample_size(10).throughput(Throughput::Elements((ROWS * COLUMNS) as u64));
        let integers: Vec<i32> = (0..COLUMNS as i32).map(|j| j % 255 - 127).collect();
        let floats: Vec<f32> = integers.iter().map(|&q| q as f32).collect();
        let (mut decoded, mut weights) = (vec![0i32; ROWS], vec![0f32; ROWS]);
        let mut pulled = vec![0f32; COLUMNS];
        group.bench_function("decode", |bencher| {
            bencher.iter(|| {
                matrix.expand(0..COLUMNS, black_box(&integers), 0..ROWS, &mut decoded);
            });
        });
        group.bench_function("expand", |bencher| {
            bencher.iter(|| matrix.expand(0..COLUMNS, black_box(&floats), 0..ROWS, &mut weights));
        });
        group.bench_function("pullback", |bencher| {
            // The gradient is working memory: what it holds changes nothing about the time.
            weights.fill(1.0);
            bencher.iter(|| matrix.pullback(0..COLUMNS, black_box(&mut weights), &mut pulled));
        });
        group.finish();
    }
}

criterion_group!(benches, bases);
criterion_main!(benches);
