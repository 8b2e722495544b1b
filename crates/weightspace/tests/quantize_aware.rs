//! What users of quantisation-aware training rely on.

mod program;

use std::fs;
use std::process::Output;

use program::{cnn, program};
use serde_json::Value;
use weightspace::quantize::aware::{AwareConfig, AwarePlan};
use weightspace::quantize::{Images, Options, Target, compress};
use weightspace_core::WspFile;
use weightspace_core::container::{Header, encode};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{self, Split};
use weightspace_nn::init::Initialisation;
use weightspace_nn::train::Parameterization;
use weightspace_nn::{ModelState, Net};

fn weightspace(line: &str) -> Output {
    program().args(line.split_whitespace()).output().unwrap()
}

fn json(line: &str) -> Value {
    let found = weightspace(&format!("{line} --json"));
    assert!(found.status.success(), "{line}: {}", String::from_utf8_lossy(&found.stderr));
    serde_json::from_slice(&found.stdout).unwrap()
}

fn accuracy(file: &str) -> f64 {
    json(&format!("eval --data digits --preprocessing unit-pad28 {file}"))["accuracy"]
        .as_f64()
        .unwrap()
}

/// A ResNet for small images, with normalisations that have seen something.
fn resnet() -> (Net, ModelState) {
    let options = ArchOptions {
        classes: Some(10),
        in_channels: Some(1),
        size: Some(8),
        ..ArchOptions::default()
    };
    let net = arch::build("resnet20", &options).unwrap();
    let mut state = ModelState::initial(&net, Initialisation::KaimingNormal, 3);
    for (at, layer) in state.running.layers.iter_mut().enumerate() {
        for (c, mean) in layer.mean.iter_mut().enumerate() {
            *mean = 0.1 * ((at + c) as f32).sin();
        }
        for (c, variance) in layer.variance.iter_mut().enumerate() {
            *variance = 0.6 + 0.5 * ((3 * at + c) as f32).cos();
        }
    }
    for (entry, kind) in net
        .layout()
        .entries()
        .iter()
        .zip(net.parameters().iter().filter(|spec| spec.kind.is_trainable()))
    {
        if matches!(kind.kind, weightspace_nn::net::ParameterKind::NormWeight) {
            for (c, weight) in state.weights[entry.range()].iter_mut().enumerate() {
                *weight = 1.0 + 1.5 * (c as f32).sin();
            }
        }
    }
    (net, state)
}

fn plan(target_bytes: u64) -> (Net, AwareConfig, AwarePlan) {
    let (net, state) = resnet();
    let config = AwareConfig { target_bytes, calibrate: 64, ..AwareConfig::default() };
    let train = data::open("digits", None, Split::Train).unwrap();
    let preprocessing = "unit".parse().unwrap();
    let images = Images { train: &train, preprocessing: &preprocessing };
    let (original, header) = (state.to_state_dict(&net), Header::default());
    let plan = AwarePlan::new(&net, &header, &original, images, &config, 0, &|_, _, _| ());
    (net, config, plan.unwrap())
}

#[test]
fn expanded_weights_are_whole_steps_and_the_file_has_them() {
    let (net, config, plan) = plan(70_000);
    let state = ModelState::from_state_dict(&net, &plan.start).unwrap();
    let mut method = plan.parameterization(&net, &config, state.weights.clone());
    let coefficients = method.initial();
    let mut weights = vec![0.0; coefficients.len()];
    method.expand(&coefficients, &mut weights);
    let file = plan.encode(&net, &Header::default(), &config, (&coefficients, &[]), &state.running);
    let file = file.unwrap();
    assert!(file.len() <= 70_000 && file.len() > 62_000, "{} bytes", file.len());
    let decoded = WspFile::from_bytes("model.wsp", file).unwrap().state_dict().unwrap();
    let layout = net.layout();
    let entry = layout.entries().iter().find(|entry| entry.name == "layer2.0.conv2.weight");
    let range = entry.unwrap().range();
    let stored = decoded.get("layer2.0.conv2.weight").unwrap().to_f32().into_owned();
    // The target was met without raising the price: then training has seen the very weights of the file.
    assert_eq!(stored, weights[range.clone()]);
    assert!(coefficients[range].iter().any(|coefficient| coefficient.fract() != 0.0));
}

/// Training begins where second-order rounding ends: with the network of the same file.
#[test]
fn training_begins_with_the_file_of_second_order_rounding() {
    let (net, config, plan) = plan(70_000);
    let state = ModelState::from_state_dict(&net, &plan.start).unwrap();
    let method = plan.parameterization(&net, &config, state.weights.clone());
    let coefficients = method.initial();
    let header = Header::default();
    let file = plan.encode(&net, &header, &config, (&coefficients, &[]), &state.running).unwrap();
    let begun = WspFile::from_bytes("model.wsp", file).unwrap().state_dict().unwrap();
    let (_, original) = resnet();
    let original = original.to_state_dict(&net);
    let train = data::open("digits", None, Split::Train).unwrap();
    let preprocessing = "unit".parse().unwrap();
    let images = Images { train: &train, preprocessing: &preprocessing };
    let target = Target::Bytes(config.target_bytes * 99 / 100);
    let options = Options { target, fold: true, calibrate: 64, seed: 0 };
    let rounded =
        compress(&header, &original, Some(&net), Some(images), &options, &|_, _, _| ()).unwrap();
    let file = encode(&header, &rounded).unwrap();
    let rounded = WspFile::from_bytes("rounded.wsp", file).unwrap().state_dict().unwrap();
    // But for weights at the very edge: prices of bits follow from all integers, and these from prices.
    let (mut same, mut count) = (0, 0);
    for (name, tensor) in begun.iter() {
        let (begun, rounded) = (tensor.to_f32(), rounded.get(name).unwrap().to_f32());
        same += begun.iter().zip(rounded.iter()).filter(|(a, b)| a == b).count();
        count += begun.len();
    }
    assert!(count > 200_000 && same * 1000 > count * 995, "{same} of {count}");
}

#[test]
fn bits_cost_more_above_the_target_than_below() {
    let (net, config, plan) = plan(70_000);
    let weights = ModelState::from_state_dict(&net, &plan.start).unwrap().weights;
    let mut method = plan.parameterization(&net, &config, weights.clone());
    let coefficients = method.initial();
    let mut expanded = vec![0.0; weights.len()];
    let mut push = |factor: f32| {
        let scaled: Vec<f32> = coefficients.iter().map(|c| factor * c).collect();
        method.expand(&scaled, &mut expanded);
        let mut gradient = vec![0.0; weights.len()];
        method.pullback(&scaled, &vec![0.0; weights.len()], &mut gradient);
        // Bits fall where weights become smaller: the gradient has the sign of the weight.
        let wrong = gradient.iter().zip(&scaled).filter(|(g, w)| **g * **w < 0.0).count();
        assert_eq!(wrong, 0);
        gradient.iter().map(|g| f64::from(g.abs())).sum::<f64>()
    };
    let (small, large) = (push(0.8), push(1.2));
    assert!(large > 10.0 * small, "{small} {large}");
}

#[test]
fn training_on_the_grid_repairs_a_network_and_keeps_the_target() {
    let guard = tempfile::tempdir().unwrap();
    let (at, model) = (guard.path().to_str().unwrap(), cnn().display().to_string());
    let compressed = format!(
        "compress {model} --data digits --preprocessing unit-pad28 -o {at}/after.wsp --target-bytes"
    );
    let bytes = 550;
    let after = json(&format!("{compressed} {bytes}"));
    assert!(after["bytes"].as_u64().unwrap() <= bytes);
    let train = format!(
        "train --method quantize --init {model} --teacher {model} --data digits --holdout 100 \
         --preprocessing unit-pad28 --batch 32 --epochs 25 --threads 2 \
         --target-bytes {bytes} -o {at}/run"
    );
    let report = json(&train);
    let file = format!("{at}/run/model.wsp");
    assert_eq!(fs::metadata(&file).unwrap().len(), report["bytes"].as_u64().unwrap());
    let used = report["bytes"].as_u64().unwrap();
    assert!(used <= bytes && used > bytes * 9 / 10, "{used} of {bytes} bytes");
    let trained = report["accuracy"].as_f64().unwrap();
    assert_eq!(accuracy(&file), trained);
    assert_eq!(accuracy(&format!("{at}/run/model.safetensors")), trained);
    let before = accuracy(&format!("{at}/after.wsp"));
    assert!(trained > before + 0.02, "{before} rounded after training, {trained} in it");
}

#[test]
fn what_cannot_be_is_refused() {
    for (line, part) in [
        ("--arch zoo-cnn --method quantize", "needs a network to begin with"),
        ("--arch zoo-cnn --target-bytes 3000", "needs --method quantize"),
        ("--init MODEL --method quantize --target-bytes 100", "cannot be reached"),
        ("--init MODEL --method quantize --step-factor 2", "needs --method predictor"),
        ("--init MODEL --method quantize --mixtures", "1 where images are mixed"),
        ("--arch zoo-cnn --mixtures --alpha 1", "need a --teacher"),
        ("--arch zoo-cnn --views 4", "need a --teacher"),
        ("--arch zoo-cnn --teacher MODEL --views 4 --noise-inputs", "new in every epoch"),
        (
            "--arch zoo-cnn --teacher MODEL --views 4 --feature-weight 1",
            "feature maps are compared",
        ),
    ] {
        let line = format!("train --data digits --preprocessing unit-pad28 --dry-run {line}")
            .replace("MODEL", &cnn().display().to_string());
        let found = weightspace(&line);
        let text = String::from_utf8(found.stderr).unwrap();
        assert_eq!(found.status.code(), Some(2), "{line}: {text}");
        assert!(text.starts_with("error: ") && text.contains(part), "{line}: {text}");
    }
}
