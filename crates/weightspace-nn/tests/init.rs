//! Initial weights: distributions of every kind, and what they depend on.

use weightspace_core::LayoutEntry;
use weightspace_nn::Net;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::init::{Initialisation, initialise};

fn net(spec: &str) -> Net {
    arch::build(spec, &ArchOptions::default()).unwrap()
}

/// The tensor of that name in initial weights of the CNN of the zoos, and its entry.
fn tensor(spec: &str, name: &str, how: Initialisation, seed: u64) -> (LayoutEntry, Vec<f32>) {
    let net = net(spec);
    let entry = net.layout().get(name).unwrap_or_else(|| panic!("{spec} has {name}")).clone();
    let values = initialise(&net, how, seed)[entry.range()].to_vec();
    (entry, values)
}

fn mean_and_variance(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance)
}

/// Mean and variance within five standard errors, which `kurtosis` = E[(x - mean)^4] / variance^2
/// decides.
fn check(how: Initialisation, values: &[f32], mean: f64, variance: f64, kurtosis: f64) {
    let n = values.len() as f64;
    let found = mean_and_variance(values);
    assert!((found.0 - mean).abs() < 5.0 * (variance / n).sqrt(), "{how}: mean {}", found.0);
    let error = 5.0 * variance * ((kurtosis - 1.0) / n).sqrt();
    assert!((found.1 - variance).abs() < error, "{how}: variance {}, not {variance}", found.1);
}

/// The 3x3 convolution of 64 from 32 channels: fan-in 288, fan-out 576.
#[test]
fn weights_have_the_distributions_of_pytorch() {
    let (fan_in, fan_out) = (288.0f64, 576.0);
    for how in Initialisation::ALL {
        let (entry, values) = tensor("resnet20", "layer3.0.conv1.weight", how, 11);
        assert_eq!((entry.shape.as_slice(), entry.fan_in), ([64, 32, 3, 3].as_slice(), 288));
        let normal = |variance| check(how, &values, 0.0, variance, 3.0);
        let uniform = |bound: f64| {
            check(how, &values, 0.0, bound * bound / 3.0, 1.8);
            let largest = values.iter().fold(0.0, |largest, x| x.abs().max(largest));
            assert!((0.999 * bound..=bound * (1.0 + 1e-7)).contains(&f64::from(largest)), "{how}");
        };
        match how {
            Initialisation::PytorchDefault => uniform(1.0 / fan_in.sqrt()),
            Initialisation::KaimingUniform => uniform((6.0 / fan_in).sqrt()),
            Initialisation::XavierUniform => uniform((6.0 / (fan_in + fan_out)).sqrt()),
            Initialisation::KaimingNormal => normal(2.0 / fan_in),
            Initialisation::XavierNormal => normal(2.0 / (fan_in + fan_out)),
            Initialisation::Normal => normal(1.0),
            Initialisation::Uniform => {
                check(how, &values, 0.5, 1.0 / 12.0, 1.8);
                assert!(values.iter().all(|x| (0.0..1.0).contains(x)));
            }
        }
    }
}

#[test]
fn fan_out_of_a_linear_layer_is_its_outputs() {
    let (_, values) = tensor("mlp:300-100-10", "0.weight", Initialisation::XavierUniform, 1);
    let bound = (6.0f64 / 400.0).sqrt();
    check(Initialisation::XavierUniform, &values, 0.0, bound * bound / 3.0, 1.8);
}

#[test]
fn biases_are_those_of_pytorch_or_of_the_zoos() {
    for how in Initialisation::ALL {
        let (entry, bias) = tensor("mlp:300-4000-10", "0.bias", how, 5);
        assert_eq!((bias.len(), entry.fan_in), (4000, 300));
        match how {
            Initialisation::PytorchDefault => {
                check(how, &bias, 0.0, 1.0 / 900.0, 1.8);
                assert!(bias.iter().all(|x| x.abs() <= (1.0f32 / 300.0).sqrt()));
            }
            _ => assert!(bias.iter().all(|&x| x == 0.01), "{how}"),
        }
    }
}

#[test]
fn normalisations_begin_as_the_identity() {
    for how in Initialisation::ALL {
        for (name, expected) in [("layer1.0.bn1.weight", 1.0), ("layer1.0.bn1.bias", 0.0)] {
            let (_, values) = tensor("resnet20", name, how, 5);
            assert!(values.iter().all(|&x| x == expected), "{how} {name}");
        }
    }
}

#[test]
fn seeds_decide() {
    let net = net("lenet-mnist");
    for how in Initialisation::ALL {
        assert_eq!(initialise(&net, how, 3), initialise(&net, how, 3));
        assert_ne!(initialise(&net, how, 3), initialise(&net, how, 4));
    }
}

#[test]
fn a_tensor_depends_on_its_position_alone() {
    let how = Initialisation::KaimingNormal;
    let (_, wide) = tensor("mlp:20-30-10", "0.weight", how, 9);
    let (_, narrow) = tensor("mlp:20-30-10-7", "0.weight", how, 9);
    assert_eq!(wide, narrow);
    let weights = initialise(&net("mlp:16-16-16"), how, 9);
    let [first, second] = [0, 2].map(|i| net("mlp:16-16-16").layout().entries()[i].range());
    assert_ne!(weights[first], weights[second]);
}

#[test]
fn names_are_those_of_the_serialised_form() {
    for how in Initialisation::ALL {
        assert_eq!(how.name().parse(), Ok(how));
        assert_eq!(serde_json::to_string(&how).unwrap(), format!("\"{how}\""));
        assert_eq!(serde_json::from_str::<Initialisation>(&format!("\"{how}\"")).unwrap(), how);
    }
    let error = "he".parse::<Initialisation>().unwrap_err().to_string();
    assert!(
        error.starts_with("unknown initialisation 'he'; known are pytorch-default, "),
        "{error}"
    );
}
