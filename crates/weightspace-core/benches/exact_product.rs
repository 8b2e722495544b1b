//! The exact product of 140 x 140 by 140 x 256, a layer of a predictor on a block of rows, one thread, on
//! every instruction set: `cargo bench -p weightspace-core --bench exact_product`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weightspace_core::{InstructionSet, exact_product};

const WIDTH: usize = 140;
const ROWS: usize = 256;

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exact product");
    // Multiplications and additions.
    group.sample_size(20).throughput(Throughput::Elements((2 * WIDTH * WIDTH * ROWS) as u64));
    let weight = [0.01; WIDTH * WIDTH];
    let inputs = vec![0.5; WIDTH * ROWS];
    let mut outputs = vec![0.0; WIDTH * ROWS];
    for set in InstructionSet::available() {
        group.bench_function(format!("{set:?}"), |bencher| {
            bencher.iter(|| {
                let (weight, inputs) = black_box((&weight, &inputs));
                exact_product::accumulate_with(set, &mut outputs, weight, inputs, WIDTH, ROWS);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, products);
criterion_main!(benches);
