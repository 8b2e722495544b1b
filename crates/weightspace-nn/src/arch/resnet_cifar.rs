//! ResNet-20 to 110 for CIFAR, with the module names of `akamaster/pytorch_resnet_cifar10`.

use super::{Arch, Argument, Defaults, Settings};
use crate::net::{NetBuilder, NodeId, Window};

/// How a block that halves the maps and doubles the channels carries its input to its sum.
#[derive(Clone, Copy)]
enum Shortcut {
    /// Option A: every second row and column, zeros for the new channels; no parameters.
    Pad,
    /// Option B: 1x1 convolution and batch normalisation.
    Project,
}

use Shortcut::{Pad, Project};

/// The family.
pub(super) const ARCHS: &[Arch] = &[
    arch("resnet20", "ResNet-20 for CIFAR, option A shortcuts", |s| residual(3, Pad, s)),
    arch("resnet32", "ResNet-32 for CIFAR, option A shortcuts", |s| residual(5, Pad, s)),
    arch("resnet44", "ResNet-44 for CIFAR, option A shortcuts", |s| residual(7, Pad, s)),
    arch("resnet56", "ResNet-56 for CIFAR, option A shortcuts", |s| residual(9, Pad, s)),
    arch("resnet110", "ResNet-110 for CIFAR, option A shortcuts", |s| residual(18, Pad, s)),
    arch("resnet20-b", "ResNet-20 for CIFAR, option B shortcuts", |s| residual(3, Project, s)),
    arch("resnet32-b", "ResNet-32 for CIFAR, option B shortcuts", |s| residual(5, Project, s)),
    arch("resnet44-b", "ResNet-44 for CIFAR, option B shortcuts", |s| residual(7, Project, s)),
    arch("resnet56-b", "ResNet-56 for CIFAR, option B shortcuts", |s| residual(9, Project, s)),
    arch("resnet110-b", "ResNet-110 for CIFAR, option B shortcuts", |s| residual(18, Project, s)),
];

const fn arch(name: &'static str, title: &'static str, build: fn(&Settings) -> NetBuilder) -> Arch {
    Arch {
        name,
        title,
        reference: "He et al. 2016, section 4.2, https://arxiv.org/abs/1512.03385",
        arguments: &[Argument::Classes, Argument::InChannels, Argument::Size],
        defaults: Defaults::CIFAR,
        variants: &[],
        preprocessing: &[("cifar10", "imagenet")],
        build,
    }
}

fn residual(blocks: usize, shortcut: Shortcut, settings: &Settings) -> NetBuilder {
    let (mut net, input) = NetBuilder::maps(settings.in_channels, settings.size, settings.size);
    let x = net.conv("conv1", input, 16, Window::same(3), false);
    let x = net.batch_norm("bn1", x);
    let mut x = net.relu(x);
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            x = basic_block(&mut net, &name, x, channels, stride, shortcut);
        }
    }
    let x = net.global_avg_pool(x);
    net.linear("linear", x, settings.classes);
    net
}

fn basic_block(
    net: &mut NetBuilder,
    name: &str,
    input: NodeId,
    channels: usize,
    stride: usize,
    shortcut: Shortcut,
) -> NodeId {
    let x = net.conv(format!("{name}.conv1"), input, channels, Window::strided(3, stride), false);
    let x = net.batch_norm(format!("{name}.bn1"), x);
    let x = net.relu(x);
    let x = net.conv(format!("{name}.conv2"), x, channels, Window::same(3), false);
    let x = net.batch_norm(format!("{name}.bn2"), x);
    let carried = match shortcut {
        _ if stride == 1 => input,
        Pad => net.pad_shortcut(input, stride, channels),
        Project => {
            let window = Window::strided(1, stride);
            let y = net.conv(format!("{name}.shortcut.0"), input, channels, window, false);
            net.batch_norm(format!("{name}.shortcut.1"), y)
        }
    };
    let x = net.add(x, carried);
    net.relu(x)
}
