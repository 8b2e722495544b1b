//! The training engine against gradients that PyTorch computed in f64, and against finite
//! differences, on every instruction set of the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weightspace_core::checkpoint::Checkpoint;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::engine::training::{
    Batch, NormMode, RunningStatistics, TrainingEngine, TrainingOptions, Wishes,
};
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::loss::{CrossEntropy, Loss};
use weightspace_nn::net::{Activation, ParameterKind, Window};
use weightspace_nn::{Net, NetBuilder, NodeId};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gradients").join(name)
}

/// The sum of outputs times fixed factors.
struct Dot<'a> {
    factors: &'a [f32],
    width: usize,
}

impl Loss for Dot<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let factors = &self.factors[first_sample * self.width..][..outputs.len()];
        gradient.copy_from_slice(factors);
        outputs.iter().zip(factors).map(|(o, f)| f64::from(*o) * f64::from(*f)).sum()
    }
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors() -> Tensors {
    let file = Checkpoint::open(&golden("layers.safetensors")).unwrap();
    let dict = file.state_dict().unwrap();
    dict.iter()
        .map(|(n, t)| (n.to_string(), (t.shape().to_vec(), t.to_f32().into_owned())))
        .collect()
}

/// The network of one case, its last node, and what stands before the names of its parameters.
fn network(case: &Value, shape: &[usize]) -> Net {
    let (mut b, x) = match shape {
        [_, c, h, w] => NetBuilder::maps(*c, *h, *w),
        [_, count, width] => NetBuilder::tokens(*count, *width),
        [_, len] if case["op"] == "embedding" => NetBuilder::tokens(*len, 1),
        [_, len] => NetBuilder::vector(*len),
        other => panic!("shape {other:?}"),
    };
    let settings = &case["settings"];
    let number = |key: &str| settings[key].as_u64().unwrap_or_else(|| panic!("{key}")) as usize;
    let real = |key: &str| settings[key].as_f64().unwrap() as f32;
    let window = || Window {
        size: number("kernel_size"),
        stride: number("stride"),
        padding: number("padding"),
    };
    match case["op"].as_str().unwrap() {
        "conv2d" => {
            let (out, groups) = (number("out_channels"), number("groups"));
            b.grouped_conv("l", x, out, groups, window(), settings["bias"] == true)
        }
        "linear" => b.projection("l", x, number("out_features"), settings["bias"] == true),
        "batch_norm2d" | "batch_norm1d" => b.batch_norm("l", x),
        "group_norm" => b.group_norm("l", x, number("num_groups")),
        "layer_norm" => b.layer_norm("l", x, settings["bias"] == true),
        "local_response_norm" => {
            b.local_response_norm(x, number("size"), real("alpha"), real("beta"), real("k"))
        }
        "relu" => b.activation(x, Activation::Relu),
        "gelu" => b.activation(x, Activation::Gelu),
        "tanh" => b.activation(x, Activation::Tanh),
        "sigmoid" => b.activation(x, Activation::Sigmoid),
        "sine" => b.activation(x, Activation::Sine),
        "max_pool2d" => b.max_pool(x, window()),
        "avg_pool2d" => b.avg_pool(x, window()),
        "adaptive_avg_pool2d" if number("output_size") == 1 => b.global_avg_pool(x),
        "adaptive_avg_pool2d" => b.adaptive_avg_pool(x, number("output_size")),
        "flatten" => b.flatten(x),
        "pad_shortcut" => b.pad_shortcut(x, number("stride"), number("out_channels")),
        "residual" => {
            let y = b.conv("l.conv", x, number("channels"), Window::same(3), false);
            b.add(x, y)
        }
        "embedding" => b.embedding("l", x, number("num_embeddings"), number("embedding_dim")),
        "attention" => b.attention(x, number("heads")),
        "transformer" => {
            let (width, heads) = (number("width"), number("heads"));
            (0..number("blocks")).fold(x, |x, i| transformer_block(&mut b, x, i, width, heads))
        }
        other => panic!("op {other}"),
    };
    b.finish("case")
}

fn transformer_block(
    b: &mut NetBuilder,
    x: NodeId,
    i: usize,
    width: usize,
    heads: usize,
) -> NodeId {
    let name = |part: &str| format!("blocks.{i}.{part}");
    let y = b.layer_norm(name("ln_1"), x, false);
    let y = b.projection(name("attn.c_attn"), y, 3 * width, false);
    let y = b.attention(y, heads);
    let y = b.projection(name("attn.c_proj"), y, width, false);
    let x = b.add(x, y);
    let y = b.layer_norm(name("ln_2"), x, false);
    let y = b.projection(name("mlp.c_fc"), y, 4 * width, false);
    let y = b.activation(y, Activation::Gelu);
    let y = b.projection(name("mlp.c_proj"), y, width, false);
    b.add(x, y)
}

/// `l.weight` of the network is `weight` of the golden file.
fn short(name: &str) -> &str {
    name.strip_prefix("l.").unwrap_or(name)
}

/// Largest difference over the largest element.
fn deviation(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, e| m.max(e.abs())).max(1e-6);
    found.iter().zip(expected).fold(0f32, |m, (f, e)| m.max((f - e).abs())) / largest
}

struct Setup {
    weights: Vec<f32>,
    running: RunningStatistics,
}

fn parameters(net: &Net, case: &str, tensors: &Tensors) -> Setup {
    let of = |name: &str| &tensors[&format!("{case}/param.{}", short(name))].1;
    let entries = net.layout();
    let weights = entries.entries().iter().flat_map(|e| of(&e.name).clone()).collect();
    let mut running = RunningStatistics::new(net);
    for p in net.parameters() {
        let Some(layer) = running.layers.first_mut() else { continue };
        match p.kind {
            ParameterKind::RunningMean => layer.mean = of(&p.name).clone(),
            ParameterKind::RunningVar => layer.variance = of(&p.name).clone(),
            _ => {}
        }
    }
    Setup { weights, running }
}

fn check_case(case: &Value, tensors: &Tensors, set: InstructionSet, threads: usize, whole: bool) {
    let name = case["name"].as_str().unwrap();
    let get = |what: &str| tensors.get(&format!("{name}/{what}"));
    let (shape, input) = get("input").unwrap();
    // The frequency of a sine belongs to the weights before it.
    if case["settings"]["frequency"].as_f64().is_some_and(|f| f != 1.0) {
        return;
    }
    let net = network(case, shape);
    let Setup { weights, running } = parameters(&net, name, tensors);
    let wishes = Wishes { input_gradient: true, whole_batch_loss: whole, ..Wishes::default() };
    let options = TrainingOptions { set, wishes, ..TrainingOptions::new(shape[0], threads) };
    let mut engine = TrainingEngine::new(&net, options);
    engine.set_running(running);
    let training = case["training"] != false;
    let mode = if training { NormMode::TRAINING } else { NormMode::Running };
    let batch = Batch { inputs: input, first: 0, mode, dropout: None };
    let factors = &get("grad_output").unwrap().1;
    let loss = Dot { factors, width: factors.len() / shape[0] };
    let mut gradient = vec![f32::NAN; weights.len()];
    let mut outputs = vec![0.0; factors.len()];
    let value = match whole {
        true => {
            engine.forward(&weights, batch, &mut outputs);
            engine.backward(batch, &loss, &[], &mut gradient)
        }
        false => engine.step(&weights, batch, &loss, &[], &mut gradient),
    };
    let label = format!("{name} {set:?} {threads} threads whole {whole}");
    let close = |what: &str, found: &[f32], expected: &[f32]| {
        let d = deviation(found, expected);
        assert!(d < 1e-5, "{label}: {what} is off by {d}");
    };
    let output = &get("output").unwrap().1;
    if whole {
        close("output", &outputs, output);
    }
    let expected: f64 =
        output.iter().zip(factors).map(|(o, f)| f64::from(*o) * f64::from(*f)).sum();
    let scale: f64 = output.iter().zip(factors).map(|(o, f)| f64::from(o * f).abs()).sum();
    assert!((value - expected).abs() < 1e-5 * scale.max(1.0), "{label}: loss {value}, {expected}");
    if let Some((_, expected)) = get("grad_input") {
        let found: Vec<f32> = engine.input_gradient().flatten().copied().collect();
        close("input", &found, expected);
    }
    for entry in net.layout().entries() {
        let expected = &get(&format!("grad.{}", short(&entry.name))).unwrap().1;
        close(&entry.name, &gradient[entry.range()], expected);
    }
    for (what, kind) in
        [("running_mean", ParameterKind::RunningMean), ("running_var", ParameterKind::RunningVar)]
    {
        if let (Some((_, expected)), true) = (get(&format!("after.{what}")), training && !whole) {
            close(what, &engine.running().values(&format!("l.{what}"), kind).unwrap(), expected);
        }
    }
}

#[test]
fn every_layer_equals_pytorch() {
    let cases: Value =
        serde_json::from_slice(&std::fs::read(golden("layers.json")).unwrap()).unwrap();
    let tensors = tensors();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 70);
    for case in cases {
        for set in InstructionSet::available() {
            check_case(case, &tensors, set, 1, false);
        }
        check_case(case, &tensors, InstructionSet::best(), 2, false);
        check_case(case, &tensors, InstructionSet::best(), 3, true);
    }
}

/// The 32-bit finaliser of MurmurHash3, mapped to [-1, 1).
fn unit(i: u32) -> f32 {
    let mut x = i;
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^= x >> 16;
    (x >> 8) as f32 * (0.5f32).powi(23) - 1.0
}

/// Weights of a network by the formula of the golden files.
fn formula_weights(net: &Net) -> Vec<f32> {
    let mut at = 0;
    let mut weights = Vec::new();
    for p in net.parameters().into_iter().filter(|p| p.kind.is_trainable()) {
        for _ in 0..p.element_count() {
            let u = unit(at);
            at += 1;
            weights.push(match p.kind {
                ParameterKind::Weight => u * (2.0 / (p.fan_in as f64).sqrt()) as f32,
                ParameterKind::NormWeight => 1.0 + u / 4.0,
                _ => u / 8.0,
            });
        }
    }
    weights
}

fn check_statistics(label: &str, expected: &Value, found: &[f32]) {
    assert_eq!(expected["count"], found.len(), "{label}");
    let norm = found.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let expected_norm = expected["norm"].as_f64().unwrap();
    let scale = expected_norm / (found.len() as f64).sqrt();
    assert!(
        (norm - expected_norm).abs() < 2e-5 * expected_norm,
        "{label}: norm {norm} {expected_norm}"
    );
    for pair in expected["elements"].as_array().unwrap() {
        let (i, e) = (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap());
        let difference = (f64::from(found[i]) - e).abs();
        assert!(difference < 1e-4 * (scale + e.abs()), "{label}[{i}]: {} {e}", found[i]);
    }
}

#[test]
fn networks_equal_pytorch() {
    let golden: Value =
        serde_json::from_slice(&std::fs::read(golden("networks.json")).unwrap()).unwrap();
    for network in golden["networks"].as_array().unwrap() {
        let name = network["arch"].as_str().unwrap();
        let net = arch::build(name, &ArchOptions::default()).unwrap();
        let weights = formula_weights(&net);
        let first = network["first_image"].as_u64().unwrap() as u32;
        let images: Vec<f32> = (0..4 * net.input_len() as u32).map(|i| unit(first + i)).collect();
        for (set, threads) in InstructionSet::available()
            .into_iter()
            .map(|set| (set, 1))
            .chain([(InstructionSet::best(), 2), (InstructionSet::best(), 4)])
        {
            let options = TrainingOptions { set, ..TrainingOptions::new(4, threads) };
            let mut engine = TrainingEngine::new(&net, options);
            let batch =
                Batch { inputs: &images, first: 0, mode: NormMode::TRAINING, dropout: None };
            let labels = [0, 1, 2, 3];
            let loss = CrossEntropy::new(&labels, net.class_count());
            let mut gradient = vec![0.0; weights.len()];
            let value = engine.step(&weights, batch, &loss, &[], &mut gradient);
            let label = format!("{name} {set:?} {threads}");
            let expected = network["loss"].as_f64().unwrap();
            assert!((value - expected).abs() < 1e-5 * expected, "{label}: {value} {expected}");
            for entry in net.layout().entries() {
                let expected = &network["gradients"][&entry.name];
                let label = format!("{label} {}", entry.name);
                check_statistics(&label, expected, &gradient[entry.range()]);
            }
            for p in net.parameters() {
                if let Some(values) = engine.running().values(&p.name, p.kind) {
                    let expected = &network["running_statistics"][&p.name];
                    check_statistics(&format!("{label} {}", p.name), expected, &values);
                }
            }
        }
    }
}
