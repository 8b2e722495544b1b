//! The small AlexNet of dataset distillation.

use super::{Arch, Argument, Defaults, Settings};
use crate::net::{NetBuilder, Window};

/// The family.
pub(super) const ARCHS: &[Arch] = &[Arch {
    name: "alexnet",
    title: "Small AlexNet with local response normalisation for 32x32 images",
    reference: "Wang et al. 2018 (dataset distillation), https://arxiv.org/abs/1811.10959",
    arguments: &[Argument::Classes, Argument::InChannels, Argument::Size],
    defaults: Defaults::CIFAR,
    variants: &[],
    preprocessing: &[],
    build: alexnet,
}];

fn alexnet(settings: &Settings) -> NetBuilder {
    const POOL: Window = Window::strided(3, 2);
    let (mut net, input) = NetBuilder::maps(settings.in_channels, settings.size, settings.size);
    let x = net.conv("features.0", input, 64, Window::same(5), true);
    let x = net.relu(x);
    let x = net.max_pool(x, POOL);
    let x = net.local_response_norm(x, 4, 0.001 / 9.0, 0.75, 1.0);
    let x = net.conv("features.4", x, 64, Window::same(5), true);
    let x = net.relu(x);
    let x = net.local_response_norm(x, 4, 0.001 / 9.0, 0.75, 1.0);
    let x = net.max_pool(x, POOL);
    let x = net.flatten(x);
    let x = net.linear("classifier.0", x, 384);
    let x = net.relu(x);
    let x = net.linear("classifier.2", x, 192);
    let x = net.relu(x);
    net.linear("classifier.4", x, settings.classes);
    net
}
