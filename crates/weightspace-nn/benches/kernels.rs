//! The kernels that training spends its time in, one thread, each with its throughput in
//! multiply-adds of the plain algorithm: `cargo bench -p weightspace-nn`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::engine::product::{Ending, Pass, Weight, gradient_border};
use weightspace_nn::engine::training::{Batch, NormMode, TrainingEngine, TrainingOptions};
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::kernels::maps::Blocked;
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::loss::CrossEntropy;
use weightspace_nn::net::{Shape, Window};

struct Layer {
    name: &'static str,
    weight: Weight,
    from: Blocked,
    to: Blocked,
    samples: usize,
}

fn convolution(
    name: &'static str,
    [input, output]: [usize; 2],
    size: usize,
    window: Window,
) -> Layer {
    let maps = |channels, size| Shape::Maps { channels, height: size, width: size };
    let to = window.output_size(size);
    let weight = Weight { out_channels: output, in_channels: input, groups: 1, window };
    let from = Blocked::new(maps(input, size), window.padding);
    Layer { name, weight, from, to: Blocked::new(maps(output, to), 0), samples: 4 }
}

fn linear(name: &'static str, [input, output]: [usize; 2]) -> Layer {
    let window = Window { size: 1, stride: 1, padding: 0 };
    let weight = Weight { out_channels: output, in_channels: input, groups: 1, window };
    let (from, to) = (Blocked::tokens(1, input), Blocked::tokens(1, output));
    Layer { name, weight, from, to, samples: 192 }
}

fn layers() -> Vec<Layer> {
    vec![
        convolution("3x3, 16 channels, 32x32", [16, 16], 32, Window::same(3)),
        convolution("3x3, 32 channels, 16x16", [32, 32], 16, Window::same(3)),
        convolution("3x3, 64 channels, 8x8", [64, 64], 8, Window::same(3)),
        convolution("3x3 stride 2, 16 to 32, 32x32", [16, 32], 32, Window::strided(3, 2)),
        convolution("5x5, 1 to 6, 28x28", [1, 6], 28, Window { size: 5, stride: 1, padding: 0 }),
        convolution("5x5, 6 to 16, 12x12", [6, 16], 12, Window { size: 5, stride: 1, padding: 0 }),
        linear("linear, 280 to 280", [280, 280]),
        linear("linear, 256 to 1024", [256, 1024]),
    ]
}

fn products(c: &mut Criterion) {
    let set = InstructionSet::best();
    for layer in layers() {
        let Layer { name, weight, from, to, samples } = layer;
        let border = match from.token_major {
            true => 0,
            false => gradient_border(weight.window, from.height, to.height),
        };
        let (dx_layout, dy_layout) = (from.with_border(0), to.with_border(border));
        let forward = Pass::forward(weight, from, to);
        let backward = Pass::backward(weight, dy_layout, dx_layout);
        let weights = vec![0.01; weight.len()];
        let mut packed = vec![0.0; forward.packed_len()];
        let mut transposed = vec![0.0; backward.packed_len()];
        forward.pack(&weights, &mut packed);
        backward.pack(&weights, &mut transposed);
        let mut scratch = vec![0.0; forward.scratch_len().max(backward.scratch_len())];
        let (x, dy) = (vec![0.5; from.len() * samples], vec![0.5; dy_layout.len() * samples]);
        let (mut y, mut dx) = (vec![0.0; to.len() * samples], vec![0.0; dx_layout.len() * samples]);
        let mut gradient = packed.clone();
        let mut group = c.benchmark_group(name);
        let products = weight.len() * to.height * to.width * samples;
        group.throughput(Throughput::Elements(products as u64));
        let ending = Ending::default();
        group.bench_function("forward", |b| {
            b.iter(|| {
                forward.run(set, samples, black_box(&x), &packed, ending, &mut y, &mut scratch)
            });
        });
        group.bench_function("to the input", |b| {
            b.iter(|| {
                let dy = black_box(&dy);
                backward.run(set, samples, dy, &transposed, ending, &mut dx, &mut scratch);
            });
        });
        group.bench_function("to the weights", |b| {
            b.iter(|| {
                let (x, dy) = (black_box(&x), black_box(&dy));
                forward.run_outer(set, samples, x, &dy_layout, dy, &mut gradient, &mut scratch);
            });
        });
        group.finish();
    }
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("training step, 1 thread");
    for (name, batch) in [("resnet20", 32), ("lenet-mnist", 64)] {
        let net = arch::build(name, &ArchOptions::default()).expect("an architecture");
        let weights = initialise(&net, Initialisation::PytorchDefault, 0);
        let mut engine = TrainingEngine::new(&net, TrainingOptions::new(batch, 1));
        let images = vec![0.1; batch * net.input_len()];
        let labels: Vec<u16> = (0..batch).map(|i| (i % 10) as u16).collect();
        let loss = CrossEntropy::new(&labels, 10);
        let mut gradient = vec![0.0; weights.len()];
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let batch =
                    Batch { inputs: &images, first: 0, mode: NormMode::TRAINING, dropout: None };
                engine.step(&weights, batch, &loss, &[], &mut gradient)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, products, steps);
criterion_main!(benches);
