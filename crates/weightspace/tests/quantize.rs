//! What users of `quantize` rely on, shown on a small trained network and on a random ResNet.

mod digits;

use std::cell::Cell;

use digits::{Digits, decode};
use weightspace::quantize::{Options, Preparation, Prepared, QuantizeError, Target, compress};
use weightspace_core::container::{self, Coding, Header};
use weightspace_core::{DType, StateDict, Tensor};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::{Engine, Net};

fn compressed(digits: &Digits, target: Target, calibrate: usize) -> Result<Vec<u8>, QuantizeError> {
    let options = Options { target, fold: true, calibrate, seed: 1 };
    let (header, net, images) = (Header::default(), Some(&digits.net), Some(digits.images()));
    let tensors = compress(&header, &digits.weights, net, images, &options, &|_, _, _| ())?;
    Ok(container::encode(&header, &tensors).unwrap())
}

#[test]
fn calibration_halves_the_damage_of_coarse_rounding() {
    let digits = Digits::cnn();
    for bits in [2, 3, 4] {
        let plain = compressed(&digits, Target::Bits(bits), 0).unwrap();
        let calibrated = compressed(&digits, Target::Bits(bits), 256).unwrap();
        let (before, after) = (digits.damage(&plain), digits.damage(&calibrated));
        assert!(after < 0.5 * before, "{bits} bits: {before} plain, {after} calibrated");
    }
}

#[test]
fn a_target_of_bytes_is_kept_and_used() {
    let digits = Digits::cnn();
    for target in [1400, 2000, 3000] {
        for calibrate in [0, 256] {
            let bytes = compressed(&digits, Target::Bytes(target), calibrate).unwrap().len() as u64;
            assert!(bytes <= target, "{bytes} bytes, {target} allowed");
            assert!(bytes as f64 > 0.95 * target as f64, "{bytes} bytes of {target} used");
        }
    }
    let error = compressed(&digits, Target::Bytes(100), 0).unwrap_err().to_string();
    assert!(error.starts_with("100 bytes cannot be reached: the smallest file"), "{error}");
}

#[test]
fn a_target_of_accuracy_costs_as_little_as_it_may() {
    let digits = Digits::cnn();
    let file = compressed(&digits, Target::Accuracy(0.9), 256).unwrap();
    let eight_bits = compressed(&digits, Target::Bits(8), 0).unwrap();
    assert!(file.len() * 2 < eight_bits.len());
    // The network knows the held-out training images a little better than the test images.
    assert!(digits.accuracy(&decode(&file)) > 0.8);
}

#[test]
fn the_same_settings_give_the_same_bytes() {
    let digits = Digits::cnn();
    let once = compressed(&digits, Target::Bytes(2000), 128).unwrap();
    assert_eq!(once, compressed(&digits, Target::Bytes(2000), 128).unwrap());
}

/// Sensitivities that are measured once make the same files as those measured for each.
#[test]
fn files_of_several_targets_share_what_was_found_out() {
    let digits = Digits::cnn();
    let images = digits.images();
    let preparation = Preparation { fold: true, calibrate: 128, seed: 1 };
    let prepared = Prepared::new(&digits.weights, Some(&digits.net), Some(images), preparation);
    let prepared = prepared.unwrap();
    let measured = Cell::new(0);
    let progress = |phase: &str, _, _| {
        measured.set(measured.get() + usize::from(phase == "measuring sensitivity"));
    };
    for target in [Target::Bytes(3000), Target::Bits(4), Target::Bytes(2000)] {
        let header = Header::default();
        let tensors = prepared.compress(&header, target, &progress).unwrap();
        let file = container::encode(&header, &tensors).unwrap();
        assert!(file == compressed(&digits, target, 128).unwrap(), "{target:?}");
    }
    let layers = digits.weights.iter().filter(|(_, tensor)| tensor.shape().len() > 1).count();
    assert_eq!(measured.get(), layers, "each layer once");
}

/// Reproducible numbers in [-1, 1).
fn noise(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn random_weights(net: &Net) -> StateDict {
    let mut state = 5;
    let tensor = |p: weightspace_nn::net::ParameterSpec| {
        let scale = (3.0 / p.fan_in.max(1) as f32).sqrt();
        let positive =
            p.name.ends_with("running_var") || p.name.ends_with(".weight") && p.shape.len() == 1;
        let value = |v: f32| if positive { v.abs() + 0.5 } else { v * scale };
        let count = p.element_count();
        if p.dtype() == DType::I64 {
            return (p.name, Tensor::from_bytes(DType::I64, vec![], 391i64.to_le_bytes().to_vec()));
        }
        let values: Vec<f32> = (0..count).map(|_| value(noise(&mut state))).collect();
        (p.name, Tensor::from_f32(p.shape, &values))
    };
    net.parameters().into_iter().map(tensor).collect()
}

#[test]
fn folding_keeps_the_function_the_names_and_the_counters() {
    let net = arch::build("resnet20-b", &ArchOptions::default()).unwrap();
    let weights = random_weights(&net);
    let header = Header::default();
    let logits = |weights: &StateDict| {
        let mut state = 11;
        let image: Vec<f32> = (0..3072).map(|_| noise(&mut state)).collect();
        let mut logits = vec![0.0; 10];
        Engine::new(&net, weights).unwrap().forward(&image, &mut logits).unwrap();
        logits
    };
    let original = logits(&weights);
    let scale = original.iter().fold(0f32, |m, v| m.max(v.abs()));
    for fold in [true, false] {
        let options = Options { target: Target::Bits(8), fold, calibrate: 0, seed: 0 };
        let tensors =
            compress(&header, &weights, Some(&net), None, &options, &|_, _, _| ()).unwrap();
        let constants =
            tensors.iter().filter(|(_, c)| matches!(c, Coding::Constant { .. })).count();
        assert_eq!(constants, if fold { 3 * 21 } else { 0 });
        let back = decode(&container::encode(&header, &tensors).unwrap());
        assert_eq!(back.infos(), weights.infos());
        let counter = "layer2.0.bn1.num_batches_tracked";
        assert_eq!(back.get(counter), weights.get(counter));
        for (a, b) in original.iter().zip(logits(&back)) {
            assert!((a - b).abs() < 0.05 * scale, "fold {fold}: {a} became {b}");
        }
    }
}

/// As `zero_init_residual` leaves them before training: folded, nothing would be left of the layer before.
#[test]
fn branches_that_are_switched_off_keep_their_weights() {
    let net = arch::build("resnet20-b", &ArchOptions::default()).unwrap();
    let mut weights = random_weights(&net);
    weights.insert("layer1.0.bn2.weight", Tensor::from_f32(vec![16], &[0.0; 16]));
    let options = Options { target: Target::Bits(8), fold: true, calibrate: 0, seed: 0 };
    let header = Header::default();
    let tensors = compress(&header, &weights, Some(&net), None, &options, &|_, _, _| ()).unwrap();
    let back = decode(&container::encode(&header, &tensors).unwrap());
    let kept = |name: &str| {
        let [old, new] = [&weights, &back].map(|w| w.get(name).unwrap().to_f32().into_owned());
        let largest = old.iter().fold(0f32, |most, value| most.max(value.abs()));
        old.iter().zip(&new).all(|(old, new)| (old - new).abs() <= 0.02 * largest)
    };
    let names = ["conv2.weight", "bn2.weight", "bn2.running_mean", "bn2.running_var"];
    for name in names {
        assert!(kept(&format!("layer1.0.{name}")), "{name}");
    }
    assert!(!kept("layer1.0.conv1.weight"), "others are folded");
}

/// Large networks are not coded as often as small ones; 100,000 bytes are stored as they are besides.
#[test]
fn a_target_of_bytes_is_kept_and_used_by_large_networks() {
    let random = |count: usize, seed: u32| -> Vec<f32> {
        let word = |n: u32| {
            (n ^ seed).wrapping_mul(2_654_435_761).rotate_left(15).wrapping_mul(747_796_405)
        };
        (0..count as u32).map(|n| (word(n) >> 8) as f32 / 2e7 - 0.4).collect()
    };
    let mut weights = StateDict::new();
    for layer in 0..4 {
        weights.insert(
            format!("{layer}.weight"),
            Tensor::from_f32(vec![600, 500], &random(300_000, layer)),
        );
    }
    weights.insert("ids", Tensor::from_bytes(DType::U8, vec![100_000], vec![7; 100_000]));
    for target in [250_000, 600_000] {
        let target = Target::Bytes(target);
        let options = Options { target, fold: true, calibrate: 0, seed: 0 };
        let header = Header::default();
        let tensors = compress(&header, &weights, None, None, &options, &|_, _, _| ()).unwrap();
        let bytes = container::encode(&header, &tensors).unwrap().len() as u64;
        let Target::Bytes(target) = target else { unreachable!() };
        assert!(bytes <= target, "{bytes} bytes, {target} allowed");
        assert!(bytes as f64 > 0.99 * target as f64, "{bytes} bytes of {target} used");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let digits = Digits::cnn();
    assert!(matches!(compressed(&digits, Target::Bits(1), 0), Err(QuantizeError::Bits(1))));
    let mut weights = digits.weights.clone();
    let (name, tensor) = digits.weights.iter().next().unwrap();
    let mut values = tensor.to_f32().into_owned();
    values[3] = f32::NAN;
    weights.insert(name, Tensor::from_f32(tensor.shape().to_vec(), &values));
    let options = Options { target: Target::Bits(4), fold: true, calibrate: 0, seed: 0 };
    let error = compress(&Header::default(), &weights, None, None, &options, &|_, _, _| ());
    assert_eq!(
        error.unwrap_err().to_string(),
        format!("tensor {name} holds NaN or infinite values")
    );
    let options = Options { calibrate: 10, ..options };
    let error = compress(&Header::default(), &digits.weights, None, None, &options, &|_, _, _| ());
    assert!(error.unwrap_err().to_string().contains("known architecture"));
}
