//! Times one training or inference step of the works that benches/pytorch_train.py times in
//! PyTorch, and prints one JSON document with the same keys.
//!
//! cargo run --release -p weightspace-nn --example step_time -- WORK [--steps N] [--threads T]

use std::time::Instant;

use serde_json::json;
use weightspace_core::StateDict;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::engine::training::{Batch, NormMode, TrainingEngine, TrainingOptions};
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::loss::{CrossEntropy, Loss, MaskedMeanSquaredError};
use weightspace_nn::net::{Activation, Shape};
use weightspace_nn::optim::{Optimizer, OptimizerConfig, ParameterGroups};
use weightspace_nn::{Engine, Net, NetBuilder, NodeId};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: usize| {
        let at = arguments.iter().position(|a| a == name);
        at.map_or(default, |at| arguments[at + 1].parse().expect("a number"))
    };
    let (steps, threads) = (option("--steps", 25), option("--threads", 2));
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("threads");
    let work = arguments.first().expect("the name of a work").as_str();
    let (batch, mut step) = step_of(work, threads);
    (0..3).for_each(|_| step());
    let mut samples: Vec<f64> = (0..steps)
        .map(|_| {
            let start = Instant::now();
            step();
            start.elapsed().as_secs_f64()
        })
        .collect();
    let document = |samples: &[f64], median: f64, fastest: f64| {
        json!({
            "work": work, "engine": "weightspace", "batch": batch, "steps": steps,
            "threads": threads, "seconds": median, "fastest": fastest,
            "peak_memory_bytes": peak_memory(), "samples": samples,
        })
    };
    let unsorted = samples.clone();
    samples.sort_by(f64::total_cmp);
    println!("{}", document(&unsorted, samples[samples.len() / 2], samples[0]));
}

/// Largest resident memory so far, where the system tells it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn normal(len: usize, stream: u64) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(Key::from_seed(1), stream).fill_normal(&mut values);
    values
}

/// Samples of a batch, and one step.
fn step_of(work: &str, threads: usize) -> (usize, Box<dyn FnMut()>) {
    let sgd = "sgd";
    match work {
        "resnet20-train" => classifier("resnet20", 128, threads, sgd),
        "resnet56-train" => classifier("resnet56", 128, threads, sgd),
        "lenet-train" => classifier("lenet-mnist", 64, threads, sgd),
        "resnet20-inference" => inference("resnet20", 256),
        "nern-train" => {
            let net = perceptron(&[240, 280, 280, 280, 280, 9]);
            regression(net, 4096, threads, "adam", |inputs| normal(inputs, 2), false)
        }
        "transformer-train" => {
            let net = autoencoder(289, 256, 4, 4, 128, 32, [100, 10, 40]);
            let inputs = |len: usize| {
                let mut values = normal(len, 2);
                for (i, sample) in values.chunks_exact_mut(32 * 292).enumerate() {
                    for token in 0..32 {
                        sample[32 * 289 + token] = ((i + token) % 100) as f32;
                        sample[32 * 290 + token] = ((i + token) / 8 % 10) as f32;
                        sample[32 * 291 + token] = (token % 40) as f32;
                    }
                }
                values
            };
            regression(net, 32, threads, "adamw", inputs, true)
        }
        other => panic!("unknown work {other}"),
    }
}

fn optimizer(name: &str, net: &Net) -> (Optimizer, f64) {
    let mut config = OptimizerConfig::named(name).expect("an optimiser");
    if let OptimizerConfig::Sgd(sgd) = &mut config {
        (sgd.momentum, sgd.weight_decay, sgd.learning_rate) = (0.9, 1e-4, 0.1);
    }
    let groups = ParameterGroups::from_layout(&net.layout());
    let rate = config.learning_rate();
    (Optimizer::new(&config, groups).expect("valid settings"), rate)
}

fn classifier(
    name: &str,
    batch: usize,
    threads: usize,
    optimiser: &str,
) -> (usize, Box<dyn FnMut()>) {
    let net = arch::build(name, &ArchOptions::default()).expect("an architecture");
    let mut weights = initialise(&net, Initialisation::PytorchDefault, 0);
    let (mut optimizer, rate) = optimizer(optimiser, &net);
    let mut engine = TrainingEngine::new(&net, TrainingOptions::new(batch, threads));
    let images = normal(batch * net.input_len(), 0);
    let labels: Vec<u16> = (0..batch).map(|i| (i % net.class_count()) as u16).collect();
    let mut gradient = vec![0.0; weights.len()];
    let step = move || {
        let loss = CrossEntropy::new(&labels, net.class_count());
        let batch = Batch { inputs: &images, first: 0, mode: NormMode::TRAINING, dropout: None };
        engine.step(&weights, batch, &loss, &[], &mut gradient);
        optimizer.step(&mut weights, &gradient, rate);
    };
    (batch, Box::new(step))
}

fn inference(name: &str, batch: usize) -> (usize, Box<dyn FnMut()>) {
    let net = arch::build(name, &ArchOptions::default()).expect("an architecture");
    let weights = initialise(&net, Initialisation::PytorchDefault, 0);
    let mut dict = StateDict::new();
    for p in net.parameters() {
        use weightspace_core::{DType, Tensor};
        let entry = net.layout().get(&p.name).map(|e| weights[e.range()].to_vec());
        let values = entry.unwrap_or_else(|| vec![1.0; p.element_count()]);
        if p.dtype() == DType::F32 {
            dict.insert(p.name, Tensor::from_f32(p.shape, &values));
        }
    }
    let engine = Engine::new(&net, &dict).expect("all tensors");
    let images = normal(batch * net.input_len(), 0);
    let mut logits = vec![0.0; batch * net.class_count()];
    (batch, Box::new(move || engine.forward(&images, &mut logits).expect("fitting images")))
}

fn regression(
    net: Net,
    batch: usize,
    threads: usize,
    optimiser: &str,
    inputs: impl Fn(usize) -> Vec<f32>,
    masked: bool,
) -> (usize, Box<dyn FnMut()>) {
    let mut weights = initialise(&net, Initialisation::PytorchDefault, 0);
    let (mut optimizer, rate) = optimizer(optimiser, &net);
    let mut engine = TrainingEngine::new(&net, TrainingOptions::new(batch, threads));
    let inputs = inputs(batch * net.input_len());
    let width = net.class_count();
    let targets = normal(batch * width, 1);
    let mask: Vec<f32> =
        (0..batch * width).map(|i| if i % 289 < 200 { 1.0 } else { 0.0 }).collect();
    let mut gradient = vec![0.0; weights.len()];
    let step = move || {
        let loss = MaskedMeanSquaredError::new(&targets, width);
        let loss: &dyn Loss = &if masked { loss.with_mask(&mask) } else { loss };
        let batch = Batch { inputs: &inputs, first: 0, mode: NormMode::TRAINING, dropout: None };
        engine.step(&weights, batch, loss, &[], &mut gradient);
        optimizer.step(&mut weights, &gradient, rate);
    };
    (batch, Box::new(step))
}

/// The predictor of NeRN: linear layers with ReLU between them.
fn perceptron(widths: &[usize]) -> Net {
    let (mut b, mut x) = NetBuilder::vector(widths[0]);
    for (i, &width) in widths[1..].iter().enumerate() {
        x = b.linear(format!("layers.{i}"), x, width);
        if i + 2 < widths.len() {
            x = b.relu(x);
        }
    }
    b.finish("perceptron")
}

/// The transformer autoencoder of SANE without its projection head.
fn autoencoder(
    token: usize,
    width: usize,
    heads: usize,
    blocks: usize,
    latent: usize,
    window: usize,
    positions: [usize; 3],
) -> Net {
    let (mut b, tokens) = NetBuilder::tokens(window, token);
    let tables = [0, 1, 2].map(|i| {
        let index = b.input(Shape::Tokens { count: window, width: 1 });
        b.embedding(format!("tables.{i}"), index, positions[i], width / 2)
    });
    let sum = b.add(tables[0], tables[1]);
    let position = b.concat(sum, tables[2]);
    let mut half = |x: NodeId, name: &str, output: usize| {
        let x = b.projection(format!("{name}_in"), x, width, true);
        let mut x = b.add(x, position);
        for i in 0..blocks {
            x = block(&mut b, x, &format!("{name}.blocks.{i}"), width, heads);
        }
        b.projection(format!("{name}_out"), x, output, true)
    };
    let latent = half(tokens, "encoder", latent);
    half(latent, "decoder", token);
    b.finish("autoencoder")
}

fn block(b: &mut NetBuilder, x: NodeId, name: &str, width: usize, heads: usize) -> NodeId {
    let y = b.layer_norm(format!("{name}.ln_1"), x, false);
    let y = b.projection(format!("{name}.attn.c_attn"), y, 3 * width, false);
    let y = b.attention(y, heads);
    let y = b.projection(format!("{name}.attn.c_proj"), y, width, false);
    let x = b.add(x, y);
    let y = b.layer_norm(format!("{name}.ln_2"), x, false);
    let y = b.projection(format!("{name}.mlp.c_fc"), y, 4 * width, false);
    let y = b.activation(y, Activation::Gelu);
    let y = b.projection(format!("{name}.mlp.c_proj"), y, width, false);
    b.add(x, y)
}
