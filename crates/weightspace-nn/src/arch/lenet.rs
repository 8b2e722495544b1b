//! LeNet: the variants that dataset distillation and PRANC train, and LeNet-5 with its last
//! convolution.

use super::{Arch, Argument, Defaults, Settings};
use crate::net::{NetBuilder, NodeId, Window};

const HALVE: Window = Window { size: 2, stride: 2, padding: 0 };
const CONV5: Window = Window { size: 5, stride: 1, padding: 0 };

/// The family.
pub(super) const ARCHS: &[Arch] = &[
    Arch {
        name: "lenet-mnist",
        title: "LeNet for 28x28 grey images, without padding",
        reference: "Nooralinejad et al. 2023 (PRANC), https://arxiv.org/abs/2206.08464",
        arguments: &[Argument::Classes, Argument::InChannels, Argument::Size],
        defaults: Defaults { min_size: 16, ..Defaults::MNIST },
        variants: &[],
        preprocessing: &[],
        build: lenet,
    },
    Arch {
        name: "lenet-cifar",
        title: "LeNet for 32x32 RGB images",
        reference: "Wang et al. 2018 (dataset distillation), https://arxiv.org/abs/1811.10959",
        arguments: &[Argument::Classes, Argument::InChannels, Argument::Size],
        defaults: Defaults { min_size: 16, ..Defaults::CIFAR },
        variants: &[],
        preprocessing: &[],
        build: lenet,
    },
    Arch {
        name: "lenet5",
        title: "LeNet-5 with ReLU for digits padded to 32x32",
        reference: "LeCun et al. 1998, https://doi.org/10.1109/5.726791",
        arguments: &[Argument::Classes, Argument::InChannels, Argument::Size],
        defaults: Defaults { size: 32, min_size: 32, ..Defaults::MNIST },
        variants: &[],
        preprocessing: &[("mnist", "unit-pad32")],
        build: lenet5,
    },
];

/// Convolution 5x5, ReLU, maximum over 2x2.
fn conv_pool(net: &mut NetBuilder, name: &str, input: NodeId, channels: usize) -> NodeId {
    let x = net.conv(name, input, channels, CONV5, true);
    let x = net.relu(x);
    net.max_pool(x, HALVE)
}

fn lenet(settings: &Settings) -> NetBuilder {
    let (mut net, input) = NetBuilder::maps(settings.in_channels, settings.size, settings.size);
    let x = conv_pool(&mut net, "conv1", input, 6);
    let x = conv_pool(&mut net, "conv2", x, 16);
    let x = net.flatten(x);
    let x = net.linear("fc1", x, 120);
    let x = net.relu(x);
    let x = net.linear("fc2", x, 84);
    let x = net.relu(x);
    net.linear("fc3", x, settings.classes);
    net
}

fn lenet5(settings: &Settings) -> NetBuilder {
    let (mut net, input) = NetBuilder::maps(settings.in_channels, settings.size, settings.size);
    let x = conv_pool(&mut net, "convnet.c1", input, 6);
    let x = conv_pool(&mut net, "convnet.c3", x, 16);
    let x = net.conv("convnet.c5", x, 120, CONV5, true);
    let x = net.relu(x);
    let x = net.flatten(x);
    let x = net.linear("fc.f6", x, 84);
    let x = net.relu(x);
    net.linear("fc.f7", x, settings.classes);
    net
}
