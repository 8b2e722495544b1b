//! Inference that reads its weights while it runs, against the engine that holds them.

#[allow(dead_code, reason = "shared with the permutation tests")]
mod arch_reference;

use std::cell::RefCell;
use std::ops::Range;

use arch_reference::Numbers;
use weightspace_core::{DType, StateDict};
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::engine::{SourceError, StreamingEngine, StreamingOptions, WeightSource};
use weightspace_nn::kernels::simd::InstructionSet;
use weightspace_nn::net::{Activation, Window};
use weightspace_nn::{Engine, Net, NetBuilder};

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

fn net(spec: &str) -> Net {
    arch::build(spec, &ArchOptions::default()).unwrap()
}

fn images(net: &Net, count: usize, numbers: &mut Numbers) -> Vec<f32> {
    (0..count * net.input_len()).map(|_| numbers.next() as f32).collect()
}

fn expected(net: &Net, weights: &StateDict, set: InstructionSet, images: &[f32]) -> Vec<f32> {
    let engine = Engine::with_instruction_set(net, weights, set).unwrap();
    let mut logits = vec![f32::NAN; images.len() / net.input_len() * net.class_count()];
    engine.forward(images, &mut logits).unwrap();
    logits
}

/// Smallest slices, a few, and whole layers; one image, some and all at a time.
fn all_options() -> [StreamingOptions; 4] {
    let options =
        |batch, slice_bytes| StreamingOptions { batch, slice_bytes, ..Default::default() };
    [
        options(Some(3), 0),
        options(Some(1), 200 << 10),
        options(None, usize::MAX),
        StreamingOptions { activation_bytes: 0, ..Default::default() },
    ]
}

/// The logits are the engine's to the bit, whatever the options.
fn assert_same(name: &str, net: &Net, count: usize) {
    let mut numbers = Numbers(11);
    let weights = numbers.state_dict(net);
    let images = images(net, count, &mut numbers);
    for set in InstructionSet::available() {
        let expected = expected(net, &weights, set, &images);
        // The plain kernels are slow.
        let options = if set == InstructionSet::best() { 0..4 } else { 0..1 };
        for options in &all_options()[options] {
            let mut streaming = StreamingEngine::with_instruction_set(net, &weights, options, set);
            let mut logits = vec![f32::NAN; expected.len()];
            streaming.forward(&images, &mut logits).unwrap();
            assert!(logits == expected, "{name}, {set:?}, {options:?}");
        }
    }
}

#[test]
fn every_architecture_gives_the_engines_logits() {
    for spec in SPECS {
        assert_same(spec, &net(spec), 4);
    }
}

/// Groups that end within a block of channels, and one group per channel.
#[test]
fn grouped_convolutions_are_sliced_too() {
    for groups in [3, 48] {
        let (mut b, x) = NetBuilder::maps(3, 8, 6);
        let x = b.conv("wide", x, 48, Window::same(1), true);
        let x = b.group_norm("groups", x, 4);
        let window = Window { size: 3, stride: 2, padding: 1 };
        let x = b.grouped_conv("grouped", x, 96, groups, window, true);
        let x = b.batch_norm("norm", x);
        let x = b.relu(x);
        let x = b.global_avg_pool(x);
        let x = b.flatten(x);
        b.linear("head", x, 37);
        assert_same("grouped", &b.finish("grouped"), 3);
    }
}

#[test]
fn transformers_are_streamed_too() {
    let (mut b, x) = NetBuilder::tokens(5, 1);
    let x = b.embedding("table", x, 3, 32);
    let y = b.layer_norm("ln_1", x, true);
    let y = b.projection("attention", y, 96, false);
    let y = b.attention(y, 2);
    let y = b.projection("mix", y, 32, true);
    let x = b.add(x, y);
    let y = b.layer_norm("ln_2", x, false);
    let y = b.projection("wide", y, 128, true);
    let y = b.activation(y, Activation::Gelu);
    let y = b.projection("narrow", y, 32, true);
    b.add(x, y);
    assert_same("transformer", &b.finish("transformer"), 7);
}

#[test]
fn half_precision_is_read_row_by_row_too() {
    let net = net("lenet5");
    let mut numbers = Numbers(2);
    let weights = numbers.state_dict(&net).into_iter();
    let weights: StateDict = weights.map(|(n, t)| (n, t.cast_float(DType::F16))).collect();
    let images = images(&net, 2, &mut numbers);
    let options = StreamingOptions { slice_bytes: 0, ..Default::default() };
    let mut logits = [f32::NAN; 20];
    StreamingEngine::new(&net, &weights, &options).forward(&images, &mut logits).unwrap();
    assert!(logits[..] == expected(&net, &weights, InstructionSet::best(), &images));
}

/// Writes down what is read.
struct Recorder<'a> {
    weights: &'a StateDict,
    reads: RefCell<Vec<(String, Range<usize>)>>,
}

impl WeightSource for Recorder<'_> {
    fn tensor_len(&self, name: &str) -> Option<usize> {
        self.weights.tensor_len(name)
    }

    fn rows(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), SourceError> {
        self.reads.borrow_mut().push((name.to_owned(), rows.clone()));
        WeightSource::rows(self.weights, name, rows, values)
    }
}

#[test]
fn every_row_is_read_once_per_batch_and_never_too_much_at_once() {
    let net = net("resnet18:size=64");
    let mut numbers = Numbers(5);
    let weights = numbers.state_dict(&net);
    let images = images(&net, 5, &mut numbers);
    let source = Recorder { weights: &weights, reads: RefCell::default() };
    let slice_bytes = 600 << 10;
    let options = StreamingOptions { batch: Some(2), slice_bytes, ..Default::default() };
    let mut streaming = StreamingEngine::new(&net, &source, &options);
    assert_eq!(streaming.batch(), 2);
    streaming.forward(&images, &mut vec![0.0; 5 * net.class_count()]).unwrap();
    let mut reads = source.reads.into_inner();
    let mut seen = std::collections::BTreeMap::<String, Vec<Range<usize>>>::new();
    let whole = reads.split_off(reads.len() / 3 * 2);
    for (name, rows) in whole {
        let tensor = weights.get(&name).unwrap();
        let row = tensor.element_count() / tensor.shape()[0];
        assert!(rows.len() * row * 4 <= slice_bytes, "{name} {rows:?}");
        assert!(rows.start.is_multiple_of(16));
        seen.entry(name).or_default().push(rows);
    }
    for (name, tensor) in weights.iter().filter(|(name, _)| !name.contains("num_batches")) {
        let rows = seen.remove(name).unwrap_or_else(|| panic!("{name} was never read"));
        let end = rows.iter().fold(0, |end, rows| {
            assert_eq!(rows.start, end, "{name}");
            rows.end
        });
        assert_eq!(end, tensor.shape()[0], "{name}");
    }
}

#[test]
fn memory_is_what_the_options_say() {
    let net = net("resnet18:size=64");
    let weights = Numbers(1).state_dict(&net);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    // Images, bytes of activations, slices, bytes of the largest.
    let sizes = |activation_bytes: usize, slice_bytes: usize| {
        let options = StreamingOptions { batch: None, activation_bytes, slice_bytes };
        pool.install(|| {
            let engine = StreamingEngine::new(&net, &weights, &options);
            let (slices, largest) = (engine.slice_count(), engine.largest_slice_bytes());
            (engine.batch(), engine.activation_bytes(), slices, largest)
        })
    };
    for (activations, slice) in [(8 << 20, 1 << 20), (12 << 20, 4 << 20)] {
        let (batch, bytes, slices, largest) = sizes(activations, slice);
        assert!(batch > 1 && bytes <= activations && largest <= slice);
        assert!(bytes > activations / 2 && largest > slice / 2, "little of it is used");
        assert!(slices * slice > net.parameter_count() * 4);
    }
    let chunk = Engine::new(&net, &weights).unwrap().plan().chunk();
    assert_eq!(sizes(usize::MAX, 0).0, 3 * chunk);
    let (batch, _, _, largest) = sizes(0, 0);
    let block = 16 * 512 * (9 + 16) * 4;
    assert!(batch == 1 && largest.abs_diff(block) < 1000);
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let net = net("mlp:4-3-2");
    let weights = Numbers(1).state_dict(&net);
    let error = |weights: &StateDict, images: &[f32]| {
        let mut streaming = StreamingEngine::new(&net, weights, &StreamingOptions::default());
        streaming.forward(images, &mut [0.0; 2]).unwrap_err().to_string()
    };
    let without = weights.clone().into_iter().filter(|(n, _)| n != "2.bias").collect();
    assert_eq!(error(&without, &[0.0; 4]), "tensor 2.bias is missing");
    let mut wrong = weights.clone();
    let tensor = |shape: &[usize]| {
        let count = shape.iter().product();
        weightspace_core::Tensor::from_f32(shape.to_vec(), &vec![0.0; count])
    };
    wrong.insert("0.weight", tensor(&[3, 3]));
    assert_eq!(error(&wrong, &[0.0; 4]), "tensor 0.weight has 9 elements, expected 12");
    wrong.insert("0.weight", tensor(&[2, 6]));
    assert_eq!(error(&wrong, &[0.0; 4]), "tensor 0.weight has 2 rows, asked for 0..3");
    wrong.insert("0.weight", tensor(&[4, 3]));
    assert_eq!(error(&wrong, &[0.0; 4]), "tensor 0.weight has 9 elements, expected 12");
    assert!(error(&weights, &[0.0; 5]).contains("images"));
}
