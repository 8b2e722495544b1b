//! ResNet-18 to 101 with torchvision's module names, for ImageNet (7x7 stem) and CIFAR (3x3 stem).

use super::{Arch, Argument, Defaults, Settings};
use crate::net::{NetBuilder, NodeId, Window};

/// The residual block: its inner layers, and how many times more channels it gives than it has inside.
#[derive(Clone, Copy)]
enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 (which takes the stride) and 1x1 convolutions; four times the channels.
    Bottleneck,
}

#[derive(Clone, Copy)]
enum Stem {
    /// 7x7 convolution with stride 2, maximum over 3x3 with stride 2.
    ImageNet,
    /// 3x3 convolution.
    Cifar,
}

use Block::{Basic, Bottleneck};
use Stem::{Cifar, ImageNet};

/// The family.
pub(super) const ARCHS: &[Arch] = &[
    imagenet("resnet18", "ResNet-18", |s| residual(ImageNet, Basic, [2, 2, 2, 2], s)),
    imagenet("resnet34", "ResNet-34", |s| residual(ImageNet, Basic, [3, 4, 6, 3], s)),
    imagenet("resnet50", "ResNet-50", |s| residual(ImageNet, Bottleneck, [3, 4, 6, 3], s)),
    imagenet("resnet101", "ResNet-101", |s| residual(ImageNet, Bottleneck, [3, 4, 23, 3], s)),
    cifar("resnet18-cifar", "ResNet-18, 3x3 stem", |s| residual(Cifar, Basic, [2, 2, 2, 2], s)),
    cifar("resnet34-cifar", "ResNet-34, 3x3 stem", |s| residual(Cifar, Basic, [3, 4, 6, 3], s)),
    cifar("resnet50-cifar", "ResNet-50, 3x3 stem", |s| {
        residual(Cifar, Bottleneck, [3, 4, 6, 3], s)
    }),
    cifar("resnet101-cifar", "ResNet-101, 3x3 stem", |s| {
        residual(Cifar, Bottleneck, [3, 4, 23, 3], s)
    }),
];

const fn imagenet(
    name: &'static str,
    title: &'static str,
    build: fn(&Settings) -> NetBuilder,
) -> Arch {
    Arch {
        name,
        title,
        reference: "He et al. 2016, section 4.1, https://arxiv.org/abs/1512.03385",
        arguments: &[Argument::Classes, Argument::InChannels, Argument::Size],
        defaults: Defaults { classes: 1000, size: 224, ..Defaults::CIFAR },
        variants: &[],
        preprocessing: &[("folder", "imagenet")],
        build,
    }
}

const fn cifar(
    name: &'static str,
    title: &'static str,
    build: fn(&Settings) -> NetBuilder,
) -> Arch {
    Arch {
        arguments: &[Argument::Classes, Argument::InChannels, Argument::Size, Argument::Names],
        defaults: Defaults::CIFAR,
        variants: &["names=kuangliu"],
        preprocessing: &[],
        ..imagenet(name, title, build)
    }
}

/// The names of `kuangliu/pytorch-cifar`: `shortcut` for `downsample`, `linear` for `fc`.
const KUANGLIU: &str = "kuangliu";

fn residual(stem: Stem, block: Block, depths: [usize; 4], settings: &Settings) -> NetBuilder {
    let (shortcut, classifier) =
        if settings.names == KUANGLIU { ("shortcut", "linear") } else { ("downsample", "fc") };
    let (mut net, input) = NetBuilder::maps(settings.in_channels, settings.size, settings.size);
    let window = match stem {
        ImageNet => Window::strided(7, 2),
        Cifar => Window::same(3),
    };
    let x = net.conv("conv1", input, 64, window, false);
    let x = net.batch_norm("bn1", x);
    let mut x = net.relu(x);
    if let ImageNet = stem {
        x = net.max_pool(x, Window::strided(3, 2));
    }
    for (stage, depth) in depths.into_iter().enumerate() {
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("layer{}.{index}", stage + 1);
            x = residual_block(&mut net, block, &name, shortcut, x, 64 << stage, stride);
        }
    }
    let x = net.global_avg_pool(x);
    net.linear(classifier, x, settings.classes);
    net
}

fn residual_block(
    net: &mut NetBuilder,
    block: Block,
    name: &str,
    shortcut: &str,
    input: NodeId,
    width: usize,
    stride: usize,
) -> NodeId {
    let layers: &[(usize, Window)] = match block {
        Basic => &[(width, Window::strided(3, stride)), (width, Window::same(3))],
        Bottleneck => &[
            (width, Window::same(1)),
            (width, Window::strided(3, stride)),
            (4 * width, Window::same(1)),
        ],
    };
    let mut x = input;
    for (i, &(channels, window)) in layers.iter().enumerate() {
        x = if i > 0 { net.relu(x) } else { x };
        x = net.conv(format!("{name}.conv{}", i + 1), x, channels, window, false);
        x = net.batch_norm(format!("{name}.bn{}", i + 1), x);
    }
    let out_channels = net.shape(x).channels();
    let mut carried = input;
    if stride != 1 || net.shape(input).channels() != out_channels {
        let window = Window::strided(1, stride);
        carried = net.conv(format!("{name}.{shortcut}.0"), input, out_channels, window, false);
        carried = net.batch_norm(format!("{name}.{shortcut}.1"), carried);
    }
    let x = net.add(x, carried);
    net.relu(x)
}
