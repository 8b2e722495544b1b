//! The groups of units that may be permuted: their structure, and that permuting them changes no
//! function.

mod arch_reference;

use std::slice::from_ref;

use arch_reference::{Numbers, forward};
use weightspace_core::{StateDict, Tensor};
use weightspace_nn::arch::{self, ArchOptions, Argument};
use weightspace_nn::net::permutation::{
    Member, PermutationError, PermutationGroup, apply, inverse,
};
use weightspace_nn::net::{Net, NetBuilder, Window};

fn build(spec: &str) -> Net {
    arch::build(spec, &ArchOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn sizes(net: &Net) -> Vec<usize> {
    net.permutation_groups().iter().map(|g| g.size).collect()
}

/// A group as text: size, then `tensor.axis`, `*block` where it is not 1, `@first place` where the
/// units are not the whole axis in its order.
fn describe(net: &Net, group: &PermutationGroup) -> String {
    let member = |m: &Member| {
        let shape = net.parameters().into_iter().find(|p| p.name == m.tensor).unwrap().shape;
        let block = if m.block == 1 { String::new() } else { format!("*{}", m.block) };
        let whole = m.is_whole_axis(shape[m.axis]);
        let place = if whole { String::new() } else { format!("@{}", m.places[0]) };
        format!("{}.{}{block}{place}", m.tensor, m.axis)
    };
    let members: Vec<String> = group.members.iter().map(member).collect();
    format!("{}: {}", group.size, members.join(" "))
}

fn described(net: &Net) -> Vec<String> {
    net.permutation_groups().iter().map(|g| describe(net, g)).collect()
}

#[test]
fn an_mlp_has_its_hidden_vectors() {
    assert_eq!(
        described(&build("mlp:784-128-64-10")),
        ["128: 0.weight.0 0.bias.0 2.weight.1", "64: 2.weight.0 2.bias.0 4.weight.1",]
    );
    assert!(sizes(&build("mlp:784-10")).is_empty());
}

#[test]
fn flattened_channels_are_blocks() {
    assert_eq!(
        described(&build("lenet-cifar")),
        [
            "6: conv1.weight.0 conv1.bias.0 conv2.weight.1",
            "16: conv2.weight.0 conv2.bias.0 fc1.weight.1*25",
            "120: fc1.weight.0 fc1.bias.0 fc2.weight.1",
            "84: fc2.weight.0 fc2.bias.0 fc3.weight.1",
        ]
    );
    assert_eq!(
        described(&build("zoo-cnn")),
        [
            "8: module_list.0.weight.0 module_list.0.bias.0 module_list.3.weight.1",
            "6: module_list.3.weight.0 module_list.3.bias.0 module_list.6.weight.1",
            "4: module_list.6.weight.0 module_list.6.bias.0 module_list.9.weight.1*9",
            "20: module_list.9.weight.0 module_list.9.bias.0 module_list.11.weight.1",
        ]
    );
}

#[test]
fn normalisations_belong_to_their_channels_unless_they_see_neighbours() {
    let net = build("convnet3");
    assert_eq!(
        describe(&net, &net.permutation_groups()[2]),
        "128: features.8.weight.0 features.8.bias.0 features.9.weight.0 features.9.bias.0 \
         classifier.weight.1*16"
    );
    // Both convolutions of AlexNet stand before a local response normalisation.
    assert_eq!(sizes(&build("alexnet")), [384, 192]);
    for (groups, expected) in [(1, vec![8]), (2, vec![]), (8, vec![8])] {
        let (mut net, input) = NetBuilder::maps(3, 4, 4);
        let x = net.conv("conv", input, 8, Window::same(3), true);
        let x = net.group_norm("norm", x, groups);
        let x = net.global_avg_pool(x);
        net.linear("fc", x, 10);
        assert_eq!(sizes(&net.finish("test")), expected, "{groups} groups");
    }
}

#[test]
fn a_residual_stream_is_one_group() {
    let net = build("resnet18-cifar");
    let mut expected = vec![64, 64, 64];
    for channels in [128, 256, 512] {
        // Inside of the first block, the stream, inside of the second block.
        expected.extend([channels; 3]);
    }
    assert_eq!(sizes(&net), expected);
    let groups = described(&net);
    assert_eq!(
        groups[1],
        "64: layer1.0.conv1.weight.0 layer1.0.bn1.weight.0 layer1.0.bn1.bias.0 \
         layer1.0.bn1.running_mean.0 layer1.0.bn1.running_var.0 layer1.0.conv2.weight.1"
    );
    let stream: String = net.permutation_groups()[10..]
        .iter()
        .find(|g| g.members.iter().any(|m| m.tensor == "fc.weight"))
        .map(|g| describe(&net, g))
        .unwrap();
    let bn = |name: &str| {
        ["weight", "bias", "running_mean", "running_var"].map(|t| format!("{name}.{t}.0")).join(" ")
    };
    assert_eq!(
        stream,
        format!(
            "512: layer4.0.conv2.weight.0 {} layer4.0.downsample.0.weight.0 {} \
             layer4.1.conv1.weight.1 layer4.1.conv2.weight.0 {} fc.weight.1",
            bn("layer4.0.bn2"),
            bn("layer4.0.downsample.1"),
            bn("layer4.1.bn2")
        )
    );
}

#[test]
fn padded_streams_are_tied_exactly() {
    let net = build("resnet20");
    let groups = net.permutation_groups();
    let inner = groups.iter().filter(|g| g.members.len() == 6);
    assert_eq!(inner.map(|g| g.size).collect::<Vec<_>>(), [16, 16, 16, 32, 32, 32, 64, 64, 64]);
    let streams: Vec<_> = groups.iter().filter(|g| g.members.len() > 6).collect();
    assert_eq!(streams.iter().map(|g| g.size).collect::<Vec<_>>(), [16, 16, 32]);
    // Where the units of each group stand among the 64 channels that the classifier reads.
    let places = |group: &PermutationGroup| {
        group.members.iter().find(|m| m.tensor == "linear.weight").unwrap().places.clone()
    };
    assert_eq!(places(streams[0]), (24..40).collect::<Vec<_>>());
    assert_eq!(places(streams[1]), (16..24).chain(40..48).collect::<Vec<_>>());
    assert_eq!(places(streams[2]), (0..16).chain(48..64).collect::<Vec<_>>());
    let of = |group: &PermutationGroup, tensor: &str| {
        group.members.iter().find(|m| m.tensor == tensor).map(|m| m.places.clone())
    };
    assert_eq!(of(streams[0], "conv1.weight"), Some((0..16).collect()));
    assert_eq!(of(streams[0], "layer2.0.conv2.weight"), Some((8..24).collect()));
    assert_eq!(of(streams[1], "conv1.weight"), None);
    assert_eq!(of(streams[1], "layer2.0.conv2.weight"), Some((0..8).chain(24..32).collect()));
    // Option B projects, so that every stage has a stream of its own.
    let net = build("resnet20-b");
    let groups = net.permutation_groups();
    let streams = groups.iter().filter(|g| g.members.len() > 6).map(|g| g.size);
    assert_eq!(streams.collect::<Vec<_>>(), [16, 32, 64]);
}

#[test]
fn terms_cut_into_different_units_stay_in_place() {
    let (mut net, input) = NetBuilder::maps(3, 2, 2);
    let maps = net.conv("conv", input, 4, Window::same(3), true);
    let flat = net.flatten(maps);
    let hidden = net.linear("fc1", flat, 16);
    let x = net.add(flat, hidden);
    net.linear("fc2", x, 5);
    assert!(sizes(&net.finish("test")).is_empty());
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn permuting_any_group_changes_weights_but_no_function() {
    for entry in arch::list() {
        // The smallest inputs, and no more depth than shows every kind of block.
        let spec = match entry.name {
            name if name.contains("101") || name.contains("110") || name.contains("44") => continue,
            "resnet34" | "resnet34-cifar" | "resnet56" | "resnet56-b" => continue,
            "alexnet" => "alexnet:size=8".to_string(),
            _ if entry.takes(Argument::Widths) => "mlp:20-16-12-10".to_string(),
            name => format!("{name}:size={}", entry.defaults.min_size.max(4)),
        };
        let net = build(&spec);
        let mut numbers = Numbers(7);
        let dict = numbers.state_dict(&net);
        let input: Vec<f64> =
            (0..net.input_shape().element_count()).map(|_| numbers.next()).collect();
        let groups = net.permutation_groups();
        let permutations: Vec<_> = groups.iter().map(|g| numbers.permutation(g.size)).collect();
        let mut moved = dict.clone();
        apply(&groups, &permutations, &mut moved).unwrap();
        assert_ne!(moved, dict, "{spec}");
        let (before, after) = (forward(&net, &dict, &input), forward(&net, &moved, &input));
        let scale = before.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        assert!(scale > 1e-3 && scale.is_finite(), "{spec}: logits say nothing: {before:?}");
        assert!(largest_difference(&before, &after) < 1e-9 * scale, "{spec}: {before:?} {after:?}");
        // Back again, bit for bit.
        let back: Vec<_> = permutations.iter().map(|p| inverse(p)).collect();
        apply(&groups, &back, &mut moved).unwrap();
        assert_eq!(moved, dict, "{spec}");
    }
}

#[test]
fn leaving_out_any_member_changes_the_function() {
    // (In ConvNets instance normalisation makes the convolutions' biases void.)
    for spec in ["resnet20:size=8", "zoo-cnn:size=20", "lenet-cifar:size=16"] {
        let net = build(spec);
        let mut numbers = Numbers(3);
        let dict = numbers.state_dict(&net);
        let input: Vec<f64> =
            (0..net.input_shape().element_count()).map(|_| numbers.next()).collect();
        let before = forward(&net, &dict, &input);
        for mut group in net.permutation_groups() {
            let permutation = (0..group.size).map(|u| (u + 1) % group.size).collect::<Vec<_>>();
            for _ in 0..group.members.len().min(3) {
                let left_out = group.members.remove(0);
                let mut moved = dict.clone();
                apply(from_ref(&group), from_ref(&permutation), &mut moved).unwrap();
                let after = forward(&net, &moved, &input);
                let difference = largest_difference(&before, &after);
                assert!(difference > 1e-9, "{spec} without {}", left_out.tensor);
                group.members.push(left_out);
            }
        }
    }
}

#[test]
fn groups_share_no_place_and_members_are_in_state_dict_order() {
    for spec in ["resnet20", "resnet56", "resnet50", "zoo-cnn-medium", "alexnet", "lenet5"] {
        let net = build(spec);
        let order: Vec<String> = net.parameters().into_iter().map(|p| p.name).collect();
        let mut taken = std::collections::HashSet::new();
        for group in net.permutation_groups() {
            let position =
                |m: &Member| (order.iter().position(|n| *n == m.tensor).unwrap(), m.axis);
            assert!(group.members.is_sorted_by_key(position), "{spec}");
            for member in &group.members {
                assert_eq!(member.places.len(), group.size);
                for &place in &member.places {
                    assert!(taken.insert((member.tensor.clone(), member.axis, place)), "{spec}");
                }
            }
        }
    }
}

#[test]
fn the_largest_network_is_quick() {
    let net = build("resnet101");
    let start = std::time::Instant::now();
    let groups = net.permutation_groups();
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    // Two inner groups in each of 33 blocks, the stem's, and one stream in each of four stages.
    assert_eq!(groups.len(), 2 * 33 + 1 + 4);
}

#[test]
fn bad_permutations_leave_the_state_dict_alone() {
    let net = build("mlp:6-4-3-2");
    let groups = net.permutation_groups();
    let dict = Numbers(1).state_dict(&net);
    let good = [vec![1, 0, 2, 3], vec![0, 1, 2]];
    let refused = |permutations: &[Vec<usize>], dict: &StateDict| {
        let mut moved = dict.clone();
        let error = apply(&groups, permutations, &mut moved).unwrap_err();
        assert_eq!(&moved, dict);
        error
    };
    let error = refused(&good[..1], &dict);
    assert_eq!(error, PermutationError::Count { expected: 2, found: 1 });
    for bad in [vec![0, 1], vec![0, 1, 1], vec![0, 1, 3], vec![0, 1, 2, 3]] {
        let error = refused(&[good[0].clone(), bad], &dict);
        assert_eq!(error.to_string(), "permutation 1 does not hold each of 0 to 2 once");
    }
    let without: StateDict = dict.clone().into_iter().filter(|(n, _)| n != "4.weight").collect();
    assert_eq!(refused(&good, &without), PermutationError::Missing { name: "4.weight".into() });
    let mut small = dict.clone();
    small.insert("4.weight", Tensor::from_f32(vec![2, 2], &[0.0; 4]));
    assert_eq!(
        refused(&good, &small).to_string(),
        "tensor 4.weight has shape [2, 2], which axis 1 of a permutation does not fit"
    );
}
