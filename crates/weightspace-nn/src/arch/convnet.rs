//! ConvNet of dataset condensation: depth x [convolution, instance normalisation, ReLU, mean over
//! 2x2] and a linear classifier; 128 channels.

use super::{Arch, Argument, Defaults, Settings};
use crate::net::{NetBuilder, Window};

const WIDTH: usize = 128;

/// The family.
pub(super) const ARCHS: &[Arch] = &[
    arch("convnet3", "ConvNet of depth 3 and width 128", 8, |s| convnet(3, s)),
    arch("convnet4", "ConvNet of depth 4 and width 128", 16, |s| convnet(4, s)),
];

const fn arch(
    name: &'static str,
    title: &'static str,
    min_size: usize,
    build: fn(&Settings) -> NetBuilder,
) -> Arch {
    Arch {
        name,
        title,
        reference: "Zhao et al. 2021 (dataset condensation), https://arxiv.org/abs/2006.05929",
        arguments: &[Argument::Classes, Argument::InChannels, Argument::Size],
        defaults: Defaults { min_size, ..Defaults::CIFAR },
        variants: &[],
        preprocessing: &[],
        build,
    }
}

fn convnet(depth: usize, settings: &Settings) -> NetBuilder {
    let (mut net, mut x) = NetBuilder::maps(settings.in_channels, settings.size, settings.size);
    for layer in 0..depth {
        // The published code pads grey images, which are 28x28 there, to 32x32 in the first layer.
        let padding = if layer == 0 && settings.in_channels == 1 { 3 } else { 1 };
        let window = Window { size: 3, stride: 1, padding };
        x = net.conv(format!("features.{}", 4 * layer), x, WIDTH, window, true);
        x = net.group_norm(format!("features.{}", 4 * layer + 1), x, WIDTH);
        x = net.relu(x);
        x = net.avg_pool(x, Window { size: 2, stride: 2, padding: 0 });
    }
    let x = net.flatten(x);
    net.linear("classifier", x, settings.classes);
    net
}
