//! Times a training step of ResNet-20 with every basis against one of all weights, in turns, and prints
//! ratios of medians as JSON lines.
//!
//! cargo run --release -p weightspace --example subspace_step -- [--k N] [--batch N] [--steps N] [--threads N]

use std::time::Instant;

use weightspace::subspace::{Subspace, SubspaceConfig};
use weightspace_core::basis::BASES;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::ModelState;
use weightspace_nn::arch;
use weightspace_nn::engine::training::{Batch, NormMode, TrainingEngine, TrainingOptions};
use weightspace_nn::init::Initialisation;
use weightspace_nn::loss::CrossEntropy;
use weightspace_nn::optim::{Adam, Optimizer, OptimizerConfig};
use weightspace_nn::train::{Dense, Parameterization};

/// Everything that one training needs.
struct Run {
    name: &'static str,
    method: Box<dyn Parameterization>,
    optimizer: Optimizer,
    coefficients: Vec<f32>,
    coefficient_gradient: Vec<f32>,
    weights: Vec<f32>,
    seconds: Vec<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: usize| {
        let at = arguments.iter().position(|a| a == name);
        at.map_or(default, |at| arguments[at + 1].parse().expect("a number"))
    };
    let (k, batch, threads) =
        (option("--k", 10_000), option("--batch", 128), option("--threads", 2));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("threads");
    let net = arch::build("resnet20", &Default::default()).expect("an architecture");
    let weights = ModelState::initial(&net, Initialisation::PytorchDefault, 1).weights;
    let new_run = |name, method: Box<dyn Parameterization>| {
        let coefficients = method.initial();
        let optimizer = Optimizer::new(&OptimizerConfig::Adam(Adam::default()), method.groups());
        Run {
            name,
            optimizer: optimizer.expect("Adam"),
            coefficient_gradient: vec![0.0; coefficients.len()],
            coefficients,
            weights: vec![0.0; net.parameter_count()],
            method,
            seconds: Vec::new(),
        }
    };
    let mut runs = vec![new_run("plain", Box::new(Dense::new(&net, weights.clone())))];
    for info in BASES.iter().filter(|info| info.name != "uniform") {
        let config =
            SubspaceConfig { basis: info.basis, coefficients: k, ..SubspaceConfig::default() };
        let key = Key::for_purpose(1, "subspace");
        let method = Subspace::new(&net, &config, key, &weights, false).expect("a subspace");
        runs.push(new_run(info.name, Box::new(method)));
    }
    let mut engine = TrainingEngine::new(&net, TrainingOptions::new(batch, threads));
    let mut images = vec![0.0; batch * net.input_len()];
    Stream::new(Key::from_seed(1), 0).fill_normal(&mut images);
    let labels: Vec<u16> = (0..batch as u16).map(|i| i % 10).collect();
    let mut gradient = vec![0.0; net.parameter_count()];
    for _ in 0..option("--steps", 25) + 3 {
        for run in &mut runs {
            let start = Instant::now();
            step(run, &mut engine, &images, &labels, &mut gradient);
            run.seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let plain = median(&runs[0].seconds);
    for run in &runs {
        let seconds = median(&run.seconds);
        println!(
            "{{\"method\": \"{}\", \"k\": {k}, \"batch\": {batch}, \"threads\": {threads}, \
             \"seconds\": {seconds:.5}, \"ratio\": {:.3}}}",
            run.name,
            seconds / plain
        );
    }
}

fn step(
    run: &mut Run,
    engine: &mut TrainingEngine,
    images: &[f32],
    labels: &[u16],
    gradient: &mut [f32],
) {
    let Run { method, optimizer, coefficients, coefficient_gradient, weights, .. } = run;
    let batch = Batch { inputs: images, first: 0, mode: NormMode::TRAINING, dropout: None };
    let loss = CrossEntropy::new(labels, 10);
    if method.is_identity() {
        engine.step(coefficients, batch, &loss, &[], gradient);
        optimizer.step(coefficients, gradient, 1e-3);
        return;
    }
    method.expand(coefficients, weights);
    engine.step(weights, batch, &loss, &[], gradient);
    method.pullback(coefficients, gradient, coefficient_gradient);
    optimizer.step(coefficients, coefficient_gradient, 1e-3);
}

/// Without the first three.
fn median(seconds: &[f64]) -> f64 {
    let mut seconds = seconds[3.min(seconds.len() - 1)..].to_vec();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
