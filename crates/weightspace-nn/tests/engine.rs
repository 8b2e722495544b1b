//! The engine against a plain f64 interpreter of the graph, for every architecture.

#[allow(dead_code, reason = "shared with the permutation tests")]
mod arch_reference;

use arch_reference::{Numbers, forward};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::{Engine, Net};

/// One of each family and shape of layer, small where the architecture allows it.
const SPECS: [&str; 16] = [
    "resnet20",
    "resnet20-b",
    "resnet18:size=64",
    "resnet50-cifar:classes=7",
    "lenet-mnist",
    "lenet-cifar",
    "lenet5",
    "alexnet",
    "convnet3",
    "convnet4:in=1",
    "zoo-cnn",
    "zoo-cnn:gelu",
    "zoo-cnn:sigmoid",
    "zoo-cnn-medium:relu",
    "mlp:64-33-10",
    "mlp:7-5-3-2",
];

fn images(net: &Net, count: usize, numbers: &mut Numbers) -> Vec<f32> {
    let len = count * net.input_shape().element_count();
    (0..len).map(|_| numbers.next() as f32).collect()
}

#[test]
fn every_architecture_equals_the_plain_interpreter() {
    for spec in SPECS {
        let net = arch::build(spec, &ArchOptions::default()).unwrap();
        let mut numbers = Numbers(7);
        let weights = numbers.state_dict(&net);
        let images = images(&net, 2, &mut numbers);
        let len = net.input_shape().element_count();
        let expected: Vec<f64> = images
            .chunks_exact(len)
            .flat_map(|x| {
                forward(&net, &weights, &x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())
            })
            .collect();
        let scale = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        for set in InstructionSet::available() {
            let engine = Engine::with_instruction_set(&net, &weights, set).unwrap();
            let mut logits = vec![f32::NAN; expected.len()];
            engine.forward(&images, &mut logits).unwrap();
            for (ours, exact) in logits.iter().zip(&expected) {
                let error = (f64::from(*ours) - exact).abs() / scale;
                assert!(error < 2e-5, "{spec}, {set:?}: {ours} instead of {exact}");
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_batch_or_threads() {
    let net = arch::build("resnet20", &ArchOptions::default()).unwrap();
    let mut numbers = Numbers(3);
    let weights = numbers.state_dict(&net);
    let images = images(&net, 37, &mut numbers);
    let engine = Engine::new(&net, &weights).unwrap();
    let mut together = vec![0.0; 370];
    engine.forward(&images, &mut together).unwrap();
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut again = vec![0.0; 370];
        pool.install(|| engine.forward(&images, &mut again)).unwrap();
        assert_eq!(together, again, "{threads} threads");
    }
    let len = net.input_shape().element_count();
    for (image, expected) in images.chunks(len).zip(together.chunks(10)) {
        let mut alone = vec![0.0; 10];
        engine.forward(image, &mut alone).unwrap();
        assert_eq!(alone, expected);
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let net = arch::build("mlp:4-3-2", &ArchOptions::default()).unwrap();
    let weights = Numbers(1).state_dict(&net);
    let without = weights.clone().into_iter().filter(|(n, _)| n != "2.bias").collect();
    let error = Engine::new(&net, &without).err().unwrap().to_string();
    assert_eq!(error, "tensor 2.bias is missing");
    let mut wrong = weights;
    wrong.insert("0.weight", weightspace_core::Tensor::from_f32(vec![3, 3], &[0.0; 9]));
    let error = Engine::new(&net, &wrong).err().unwrap().to_string();
    assert_eq!(error, "tensor 0.weight has 9 elements, expected 12");
    let engine = Engine::new(&net, &Numbers(1).state_dict(&net)).unwrap();
    assert!(engine.forward(&[0.0; 5], &mut [0.0; 2]).is_err());
}
