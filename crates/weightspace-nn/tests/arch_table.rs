//! The table of architectures: specifications, names, shapes, counts and costs.

use proptest::prelude::*;
use weightspace_nn::Net;
use weightspace_nn::arch::{self, ArchOptions, Argument};
use weightspace_nn::net::{Activation, Op, ParameterKind};

fn build(spec: &str) -> Net {
    arch::build(spec, &ArchOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(spec: &str) -> String {
    arch::build(spec, &ArchOptions::default()).expect_err(spec).to_string()
}

/// A specification with no more than an architecture needs.
fn shortest(arch: &arch::Arch) -> String {
    let widths = if arch.takes(Argument::Widths) { ":784-128-10" } else { "" };
    format!("{}{widths}", arch.name)
}

/// Number of elements of the tensors for which `role` holds.
fn count(net: &Net, role: impl Fn(ParameterKind) -> bool) -> usize {
    net.parameters().iter().filter(|p| role(p.kind)).map(|p| p.element_count()).sum()
}

/// Weights and biases of convolutions and linear layers: what PRANC parameterises.
fn layer_values(net: &Net) -> usize {
    count(net, |kind| matches!(kind, ParameterKind::Weight | ParameterKind::Bias))
}

/// Scale, shift, mean and variance of normalisations: what PRANC stores.
fn norm_values(net: &Net) -> usize {
    use ParameterKind::*;
    count(net, |kind| matches!(kind, NormWeight | NormBias | RunningMean | RunningVar))
}

#[test]
fn every_entry_builds_under_its_name() {
    let mut names = Vec::new();
    for entry in arch::list() {
        let spec = shortest(entry);
        assert_eq!(build(&spec).arch(), spec);
        assert!(!entry.title.is_empty() && !entry.reference.is_empty(), "{spec}");
        assert!(!names.contains(&entry.name), "{spec} is there twice");
        names.push(entry.name);
        for variant in entry.variants {
            let variant = format!("{spec}:{variant}");
            assert_eq!(build(&variant).arch(), variant);
            assert_ne!(build(&variant).parameters(), build(&spec).parameters());
        }
    }
    assert!(names.len() >= 27);
}

#[test]
fn the_smallest_input_of_every_entry_is_the_smallest() {
    for entry in arch::list().filter(|a| a.takes(Argument::Size)) {
        let min = entry.defaults.min_size;
        let net = build(&format!("{}:size={min}", entry.name));
        assert!(net.nodes().iter().all(|n| n.shape.element_count() > 0), "{}", entry.name);
        let error = refusal(&format!("{}:size={}", entry.name, min - 1));
        assert!(error.contains(&format!("size={} is not within {min}", min - 1)), "{error}");
    }
}

proptest! {
    /// `Net::arch` builds the same network again, whatever the arguments and wherever they come from.
    #[test]
    fn the_canonical_form_builds_the_same_network(
        entry in prop::sample::select(arch::list().collect::<Vec<_>>()),
        classes in 1..300usize,
        in_channels in 1..9usize,
        size in 32..80usize,
        activation in prop::sample::select(Activation::ALL.to_vec()),
        dropout in prop::sample::select(vec![0.0f32, 0.1, 0.5]),
        naming in any::<bool>(),
        as_options in any::<bool>(),
        widths in prop::collection::vec(1..50usize, 2..6),
    ) {
        let mut arguments = Vec::new();
        let mut options = ArchOptions::default();
        if as_options {
            options = ArchOptions {
                classes: Some(classes),
                in_channels: Some(in_channels),
                size: Some(size),
                activation: Some(activation),
                dropout: Some(dropout),
            };
        } else {
            let all = [
                (Argument::Dropout, format!("dropout={dropout}")),
                (Argument::Size, format!("size={size}")),
                (Argument::InChannels, format!("in={in_channels}")),
                (Argument::Classes, format!("classes={classes}")),
                (Argument::Activation, format!("activation={}", activation.name())),
            ];
            let taken = all.into_iter().filter(|(a, _)| entry.takes(*a));
            arguments.extend(taken.map(|(_, text)| text));
        }
        if naming && entry.variants == ["names=kuangliu"] {
            arguments.push(entry.variants[0].to_string());
        }
        if entry.takes(Argument::Widths) {
            arguments.push(widths.iter().map(usize::to_string).collect::<Vec<_>>().join("-"));
            if naming {
                let names: Vec<_> = (1..widths.len()).map(|i| format!("net.fc_{i}")).collect();
                arguments.push(format!("names={}", names.join("+")));
            }
        }
        let colon = if arguments.is_empty() { "" } else { ":" };
        let spec = format!("{}{colon}{}", entry.name, arguments.join(","));
        let net = arch::build(&spec, &options).unwrap();
        if entry.takes(Argument::Classes) {
            prop_assert_eq!(net.class_count(), classes);
        }
        prop_assert_eq!(&build(net.arch()), &net);
    }

    /// Any text is a network or a one-line error.
    #[test]
    fn no_specification_panics(
        spec in "(resnet20|lenet5|mlp|zoo-cnn|convnet4|):?[-+=,:a-z0-9.\n]{0,30}",
    ) {
        if let Err(error) = arch::build(&spec, &ArchOptions::default()) {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}

#[test]
fn arguments_are_canonical_and_win_over_options() {
    assert_eq!(build("resnet18-cifar:size=32,classes=100").arch(), "resnet18-cifar:classes=100");
    assert_eq!(build("zoo-cnn:in=3,gelu").arch(), "zoo-cnn:gelu,in=3");
    assert_eq!(build("zoo-cnn:activation=tanh").arch(), "zoo-cnn");
    assert_eq!(build("mlp:784-128-10,names=0+2").arch(), "mlp:784-128-10");
    let options = ArchOptions { classes: Some(7), size: Some(64), ..ArchOptions::default() };
    let net = arch::build("convnet3:classes=100", &options).unwrap();
    assert_eq!(net.arch(), "convnet3:classes=100,size=64");
    // A data set's facts do not change the vectors of an MLP.
    assert_eq!(arch::build("mlp:64-10", &options).unwrap().arch(), "mlp:64-10");
}

#[test]
fn bad_specifications_say_what_is_wrong() {
    let unknown = refusal("resnet21");
    assert!(unknown.starts_with("unknown architecture `resnet21`; known are resnet20 "));
    for (spec, reason) in [
        ("resnet20:", "unknown argument ``"),
        ("resnet20:classes", "unknown argument `classes`"),
        ("resnet20:classes=", "`` is no number"),
        ("resnet20:classes=+5", "`+5` is no number"),
        ("resnet20:classes=0", "classes=0 is not within 1 to 1048576"),
        ("resnet20:classes=99999999999999999999999", "is no number"),
        ("resnet20:in=100000", "in=100000 is not within 1 to 4096"),
        ("resnet20:classes=5,classes=5", "`classes` is given twice"),
        ("resnet20:gelu", "`activation` is no argument of it; known: classes in size"),
        ("resnet18-cifar:names=me", "names=me is unknown; known: kuangliu"),
        ("zoo-cnn:activation=swish", "`swish` is no activation; known: relu gelu tanh sigmoid"),
        ("zoo-cnn:dropout=nan", "dropout=NaN is not within 0 to 1"),
        ("zoo-cnn:dropout=1", "dropout=1 is not within 0 to 1"),
        ("mlp", "are needed, for instance 784-128-10"),
        ("mlp:784", "are needed, for instance 784-128-10"),
        ("mlp:784--10", "`` is no number"),
        ("mlp:784-0-10", "a vector of 0 values"),
        ("mlp:18446744073709551615-2", "a vector of 18446744073709551615 values"),
        ("mlp:784-128-10,names=a", "1 names for 2 layers"),
        ("mlp:784-128-10,names=a+a", "two layers are named a"),
        ("mlp:784-128-10,names=a+", "`` cannot be a module's name"),
    ] {
        let error = refusal(spec);
        assert!(error.starts_with(&format!("architecture `{spec}`: ")), "{error}");
        assert!(error.contains(reason), "{error} lacks: {reason}");
    }
}

#[test]
fn pranc_dimensions() {
    for (spec, layers, norm) in [
        ("lenet-mnist", 44_426, 0),
        ("lenet-cifar", 62_006, 0),
        ("alexnet", 1_756_426, 0),
        ("convnet3:classes=100", 503_652, 504_420 - 503_652),
        ("convnet4:classes=200,size=64", 856_136, 857_160 - 856_136),
        ("resnet20", 268_346, 2_752),
        ("resnet56", 848_954, 8_128),
        ("resnet18:classes=100", 11_218_212, 19_200),
    ] {
        let net = build(spec);
        assert_eq!((layer_values(&net), norm_values(&net)), (layers, norm), "{spec}");
    }
}

#[test]
fn convolutions_of_the_predictors_tables() {
    for (spec, layers, weights, kernels) in [
        ("resnet20", 19, 267_696, 29_744),
        ("resnet20-b", 21, 270_256, 32_304),
        ("resnet56", 55, 848_304, 94_256),
        ("resnet56-b", 57, 850_864, 96_816),
    ] {
        let net = build(spec);
        let convolutions = net.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d { .. }));
        let parameters = net.parameters();
        let shapes = || parameters.iter().filter(|p| p.shape.len() == 4).map(|p| &p.shape);
        let found = (
            convolutions.count(),
            shapes().map(|s| s.iter().product::<usize>()).sum::<usize>(),
            shapes().map(|s| s[0] * s[1]).sum::<usize>(),
        );
        assert_eq!(found, (layers, weights, kernels), "{spec}");
    }
}

#[test]
fn parameter_counts() {
    for (spec, parameters) in [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet18-cifar", 11_173_962),
        ("resnet18-cifar:classes=100", 11_220_132),
        ("lenet5", 61_706),
        ("zoo-cnn", 2_464),
        ("zoo-cnn-medium", 10_853),
        ("mlp:784-128-10", 784 * 128 + 128 + 128 * 10 + 10),
    ] {
        assert_eq!(build(spec).parameter_count(), parameters, "{spec}");
    }
}

#[test]
fn costs_of_a_forward_pass() {
    // The ImageNet figures are those of torch.utils.flop_counter on torchvision's networks.
    for (spec, flops) in [
        ("resnet20", 2 * 40_551_040),
        ("resnet18", 3_628_146_688),
        ("resnet34", 7_327_522_816),
        ("resnet50", 8_178_368_512),
        ("resnet101", 15_602_810_880),
    ] {
        assert_eq!(build(spec).flops(), flops, "{spec}");
    }
}

/// Lines `name shape`, as tests/golden/arch/make.py writes them.
fn lines(net: &Net, keep: impl Fn(ParameterKind) -> bool) -> String {
    let mut text = String::new();
    for p in net.parameters().into_iter().filter(|p| keep(p.kind)) {
        let shape = p.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let shape = if shape.is_empty() { "-" } else { &shape };
        text += &format!("{} {shape}\n", p.name);
    }
    text
}

#[test]
fn state_dicts_are_those_of_the_originals() {
    // The checkpoint was saved before PyTorch counted batches.
    let old = |kind| kind != ParameterKind::NumBatchesTracked;
    let golden = include_str!("../../../tests/golden/arch/resnet20.txt");
    assert_eq!(lines(&build("resnet20"), old), golden);
    let golden = include_str!("../../../tests/golden/arch/resnet18.txt");
    assert_eq!(lines(&build("resnet18"), |_| true), golden);
    let kuangliu = golden
        .replace("downsample", "shortcut")
        .replace("fc.", "linear.")
        .replace("1000", "10")
        .replace("64x3x7x7", "64x3x3x3");
    assert_eq!(lines(&build("resnet18-cifar:names=kuangliu"), |_| true), kuangliu);
    let golden = include_str!("../../../tests/golden/arch/resnet50.txt");
    assert_eq!(lines(&build("resnet50"), |_| true), golden);
}

#[test]
fn module_lists_count_the_layers_without_parameters() {
    let positions = |spec: &str| -> Vec<String> {
        let net = build(spec);
        let names = net.nodes().iter().filter_map(|n| n.name.strip_prefix("module_list."));
        names.map(str::to_string).collect()
    };
    assert_eq!(positions("zoo-cnn"), ["0", "3", "6", "9", "11"]);
    assert_eq!(positions("zoo-cnn:dropout=0.5"), ["0", "4", "8", "11", "14"]);
    assert_eq!(positions("zoo-cnn-medium"), ["0", "4", "8", "13", "16"]);
    assert_eq!(positions("zoo-cnn-medium:dropout=0.5"), ["0", "4", "8", "13", "16"]);
}

#[test]
fn preprocessing_of_published_checkpoints() {
    assert_eq!(arch::default_preprocessing("resnet20", "cifar10"), Some("imagenet"));
    assert_eq!(arch::default_preprocessing("resnet56-b:size=40", "cifar10"), Some("imagenet"));
    assert_eq!(arch::default_preprocessing(build("lenet5").arch(), "mnist"), Some("unit-pad32"));
    assert_eq!(arch::default_preprocessing("resnet20", "cifar100"), None);
    assert_eq!(arch::default_preprocessing("resnet18", "folder:some/images"), Some("imagenet"));
    assert_eq!(arch::default_preprocessing("resnet18-cifar", "folder:some/images"), None);
    assert_eq!(arch::default_preprocessing("resnet18-cifar", "cifar10"), None);
    assert_eq!(arch::default_preprocessing("nothing", "cifar10"), None);
}
