//! Recognising the architecture of a state dict, and saying why none fits.

use proptest::prelude::*;
use weightspace_core::{DType, TensorInfo};
use weightspace_nn::Net;
use weightspace_nn::arch::{self, ArchOptions, Argument, Difference, RecogniseError};

fn build(spec: &str) -> Net {
    arch::build(spec, &ArchOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn tensor(name: &str, shape: &[usize]) -> TensorInfo {
    TensorInfo { name: name.to_string(), dtype: DType::F32, shape: shape.to_vec() }
}

fn tensors(net: &Net) -> Vec<TensorInfo> {
    net.parameters().iter().map(|p| tensor(&p.name, &p.shape)).collect()
}

/// Weight and bias of a linear layer for each (name, inputs, outputs).
fn linear_layers(layers: &[(&str, usize, usize)]) -> Vec<TensorInfo> {
    let of = |&(name, inputs, outputs): &(&str, usize, usize)| {
        [
            tensor(&format!("{name}.weight"), &[outputs, inputs]),
            tensor(&format!("{name}.bias"), &[outputs]),
        ]
    };
    layers.iter().flat_map(of).collect()
}

fn recognised(tensors: &[TensorInfo]) -> String {
    arch::recognise(tensors).unwrap_or_else(|e| panic!("{e}")).arch().to_string()
}

#[test]
fn every_entry_is_recognised_without_counters_and_in_any_order() {
    for entry in arch::list() {
        let widths = if entry.takes(Argument::Widths) { ":784-128-10" } else { "" };
        let spec = format!("{}{widths}", entry.name);
        let variants = entry.variants.iter().map(|variant| format!("{spec}:{variant}"));
        for spec in std::iter::once(spec.clone()).chain(variants) {
            let mut tensors = tensors(&build(&spec));
            assert_eq!(recognised(&tensors), spec);
            tensors.retain(|t| !t.name.ends_with("num_batches_tracked"));
            tensors.reverse();
            assert_eq!(recognised(&tensors), spec);
            arch::check(&build(&spec), &tensors).unwrap();
        }
    }
}

#[test]
fn classes_channels_and_size_come_from_the_shapes() {
    for spec in [
        "resnet20:classes=100",
        "resnet110-b:classes=2,in=1",
        "resnet50:classes=365",
        "resnet34-cifar:classes=200,in=1,names=kuangliu",
        "lenet-mnist:size=32",
        "lenet-cifar:classes=43,in=2,size=64",
        "lenet5:classes=26",
        "convnet3:in=1,size=28",
        "convnet4:classes=200,size=64",
        "alexnet:size=64",
        "zoo-cnn:in=3",
        "zoo-cnn:dropout=0.5",
        "zoo-cnn-medium:size=64",
        "mlp:64-10",
        "mlp:784-300-100-10,names=lin1+lin2+out",
    ] {
        let net = build(spec);
        let again = arch::recognise(&tensors(&net)).unwrap_or_else(|e| panic!("{spec}: {e}"));
        assert_eq!(again.parameters().len(), net.parameters().len());
        arch::check(&again, &tensors(&net)).unwrap();
        assert_eq!(again.class_count(), net.class_count(), "{spec} as {}", again.arch());
    }
    // Names and shapes that two entries share: the shorter specification.
    assert_eq!(recognised(&tensors(&build("lenet-mnist:size=32"))), "lenet-cifar:in=1");
    // ConvNets for grey images were published for 28x28 ones.
    assert_eq!(recognised(&tensors(&build("convnet3:in=1"))), "convnet3:in=1,size=28");
    assert_eq!(recognised(&tensors(&build("zoo-cnn-medium:size=64"))), "zoo-cnn-medium:size=64");
}

#[test]
fn the_published_lenet5_is_recognised() {
    let mut published = vec![];
    for (name, weight) in [
        ("convnet.c1", &[6, 1, 5, 5][..]),
        ("convnet.c3", &[16, 6, 5, 5]),
        ("convnet.c5", &[120, 16, 5, 5]),
        ("fc.f6", &[84, 120]),
        ("fc.f7", &[10, 84]),
    ] {
        published.push(tensor(&format!("{name}.weight"), weight));
        published.push(tensor(&format!("{name}.bias"), &weight[..1]));
    }
    assert_eq!(recognised(&published), "lenet5");
}

#[test]
fn linear_layers_in_a_chain_are_an_mlp_whatever_their_names() {
    let named = [("input", 784, 128), ("hidden", 128, 128), ("output", 128, 10)];
    let spec = "mlp:784-128-128-10,names=input+hidden+output";
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
        assert_eq!(recognised(&linear_layers(&order.map(|i| named[i]))), spec);
    }
    // Sorted as text, 11 comes before 3.
    let numbered = [("1", 8, 8), ("11", 8, 8), ("3", 8, 8), ("5", 8, 8), ("7", 8, 8), ("9", 8, 8)];
    assert_eq!(recognised(&linear_layers(&numbered)), "mlp:8-8-8-8-8-8-8,names=1+3+5+7+9+11");
    // Hidden layers of one shape are told apart by their numbers.
    let hidden = [("out", 8, 3), ("h2", 8, 8), ("h1", 8, 8), ("in", 4, 8)];
    assert_eq!(recognised(&linear_layers(&hidden)), "mlp:4-8-8-8-3,names=in+h1+h2+out");
}

#[test]
fn an_open_order_of_linear_layers_is_not_guessed() {
    let autoencoder = [("decode", 8, 64), ("encode", 64, 8)];
    let error = arch::recognise(&linear_layers(&autoencoder)).unwrap_err();
    let spec = "mlp:8-64-8,names=decode+encode".to_string();
    assert_eq!(error, RecogniseError::AmbiguousOrder { spec: spec.clone() });
    assert!(error.to_string().ends_with("--arch mlp:8-64-8,names=decode+encode"), "{error}");
    arch::check(&build(&spec), &linear_layers(&autoencoder)).unwrap();
    let alike = [("a", 4, 8), ("b", 8, 8), ("c", 8, 8), ("d", 8, 2)];
    let error = arch::recognise(&linear_layers(&alike)).unwrap_err();
    assert!(matches!(error, RecogniseError::AmbiguousOrder { .. }), "{error}");
}

#[test]
fn the_closest_architecture_and_its_first_differences_are_told() {
    let mut changed = tensors(&build("resnet56"));
    changed.retain(|t| t.name != "layer1.0.bn1.weight");
    changed.iter_mut().find(|t| t.name == "layer2.3.conv1.weight").unwrap().shape[3] = 5;
    changed.push(tensor("ema\n\u{1b}[2J.decay", &[3]));
    let error = arch::recognise(&changed).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no known architecture fits; closest is resnet56: layer1.0.bn1.weight [16] is missing; \
         layer2.3.conv1.weight is [32, 32, 3, 5] instead of [32, 32, 3, 3]; \
         ema\\n\\u{1b}[2J.decay [3] is unexpected"
    );
    let RecogniseError::Closest(mismatch) = error else { panic!("{error}") };
    assert_eq!(arch::check(&build("resnet56"), &changed), Err(mismatch));
}

#[test]
fn check_reports_few_of_many_differences() {
    let mismatch = arch::check(&build("resnet20"), &tensors(&build("resnet32"))).unwrap_err();
    // Two more blocks in each of three stages, of two convolutions and two normalisations of five.
    assert_eq!(mismatch.count, 3 * 2 * (2 + 2 * 5));
    assert_eq!(mismatch.differences.len(), 4);
    let text = mismatch.to_string();
    let start = "72 of the tensors differ from resnet20: layer1.3.conv1.weight ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.ends_with("; and 68 more"), "{text}");
    let found = tensors(&build("resnet20:classes=100"));
    let mismatch = arch::check(&build("resnet20"), &found).unwrap_err();
    let expected = Difference::Shape {
        name: "linear.weight".into(),
        expected: vec![10, 64],
        found: vec![100, 64],
    };
    assert_eq!((mismatch.count, &mismatch.differences[0]), (2, &expected));
}

#[test]
fn tensors_of_no_known_network_are_unknown() {
    let error = arch::recognise(&[]).unwrap_err();
    assert_eq!(error, RecogniseError::Unknown { count: 0, first: String::new() });
    let error = arch::recognise(&[tensor("encoder.layer.0.query", &[8])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no known architecture has any of the 1 tensors (the first is `encoder.layer.0.query`)"
    );
}

#[test]
fn absurd_shapes_are_no_network() {
    let huge = usize::MAX;
    for layers in [
        vec![("0", huge, huge)],
        vec![("0", 0, 0)],
        vec![("fc", 1 << 40, 1 << 40), ("fc2", 1 << 40, 10)],
        vec![("a+b", 4, 4)],
        vec![("a,classes=4", 4, 4)],
    ] {
        assert!(arch::recognise(&linear_layers(&layers)).is_err(), "{layers:?}");
    }
    let convolution = [tensor("conv1.weight", &[huge; 4]), tensor("fc3.weight", &[])];
    assert!(matches!(arch::recognise(&convolution), Err(RecogniseError::Closest(_))));
}

#[test]
fn a_hundred_thousand_tensors_are_refused() {
    let many = |i: usize| tensor(&format!("layer1.0.conv1.{i}.weight"), &[8, 8]);
    let tensors: Vec<_> = (0..100_000).map(many).collect();
    let start = std::time::Instant::now();
    assert!(arch::recognise(&tensors).is_err());
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

proptest! {
    /// One changed dimension or one changed name, anywhere, and the state dict no longer fits.
    #[test]
    fn nothing_else_passes_the_check(
        spec in prop::sample::select(vec!["resnet20", "zoo-cnn", "convnet3", "mlp:64-32-10"]),
        index in any::<prop::sample::Index>(),
        axis in any::<prop::sample::Index>(),
        add in any::<bool>(),
    ) {
        let net = build(spec);
        let mut changed = tensors(&net);
        let tensor_index = index.index(changed.len());
        let shape = &mut changed[tensor_index].shape;
        if add || shape.is_empty() {
            shape.push(1);
        } else {
            let axis = axis.index(shape.len());
            shape[axis] += 1;
        }
        let mismatch = arch::check(&net, &changed).unwrap_err();
        prop_assert_eq!(mismatch.count, 1);
        changed[tensor_index].name.push('_');
        let is_counter = changed[tensor_index].name.ends_with("num_batches_tracked_");
        let mismatch = arch::check(&net, &changed).unwrap_err();
        prop_assert_eq!(mismatch.count, if is_counter { 1 } else { 2 });
    }
}
