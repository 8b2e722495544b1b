//! The small and the medium CNN of the model zoos.
//!
//! Modules are named by their position in one list, so that the names count the layers without
//! parameters too.

use super::{Arch, Argument, Defaults, Settings};
use crate::net::{Activation, NetBuilder, NodeId, Window};

const ARGUMENTS: &[Argument] = &[
    Argument::Activation,
    Argument::Classes,
    Argument::InChannels,
    Argument::Size,
    Argument::Dropout,
];
const REFERENCE: &str = "Schürholt et al. 2022 (model zoos), https://arxiv.org/abs/2209.14764";

/// The family.
pub(super) const ARCHS: &[Arch] = &[
    Arch {
        name: "zoo-cnn",
        title: "Small CNN of the model zoos for 28x28 images",
        reference: REFERENCE,
        arguments: ARGUMENTS,
        defaults: Defaults { min_size: 20, activation: Activation::Tanh, ..Defaults::MNIST },
        variants: &["dropout=0.5"],
        preprocessing: &[],
        build: small,
    },
    Arch {
        name: "zoo-cnn-medium",
        title: "Medium CNN of the model zoos for 32x32 images",
        reference: REFERENCE,
        arguments: ARGUMENTS,
        defaults: Defaults { min_size: 22, activation: Activation::Tanh, ..Defaults::CIFAR },
        variants: &[],
        preprocessing: &[],
        build: medium,
    },
];

/// A list of modules that run one after the other.
struct ModuleList<'a> {
    net: NetBuilder,
    x: NodeId,
    len: usize,
    settings: &'a Settings,
}

impl<'a> ModuleList<'a> {
    fn new(settings: &'a Settings) -> Self {
        let (net, x) = NetBuilder::maps(settings.in_channels, settings.size, settings.size);
        ModuleList { net, x, len: 0, settings }
    }

    fn push(&mut self, add: impl FnOnce(&mut NetBuilder, String, NodeId) -> NodeId) {
        self.x = add(&mut self.net, format!("module_list.{}", self.len), self.x);
        self.len += 1;
    }

    fn conv(&mut self, channels: usize, size: usize) {
        let window = Window { size, stride: 1, padding: 0 };
        self.push(|net, name, x| net.conv(name, x, channels, window, true));
    }

    fn pool(&mut self) {
        self.push(|net, _, x| net.max_pool(x, Window { size: 2, stride: 2, padding: 0 }));
    }

    fn activation(&mut self) {
        let activation = self.settings.activation;
        self.push(|net, _, x| net.activation(x, activation));
    }

    /// A dropout module: in the list even where its probability is 0.
    fn dropout(&mut self) {
        let p = self.settings.dropout;
        self.push(|net, _, x| if p > 0.0 { net.dropout(x, p) } else { x });
    }

    fn flatten(&mut self) {
        self.push(|net, _, x| net.flatten(x));
    }

    fn linear(&mut self, out_features: usize) {
        self.push(|net, name, x| net.linear(name, x, out_features));
    }
}

fn small(settings: &Settings) -> NetBuilder {
    let mut list = ModuleList::new(settings);
    // The published zoo leaves the module out where there is no dropout, which moves the names.
    let dropout = |list: &mut ModuleList| {
        if settings.dropout > 0.0 {
            list.dropout();
        }
    };
    for channels in [8, 6] {
        list.conv(channels, 5);
        list.pool();
        list.activation();
        dropout(&mut list);
    }
    list.conv(4, 2);
    list.activation();
    list.flatten();
    list.linear(20);
    list.activation();
    dropout(&mut list);
    list.linear(settings.classes);
    list.net
}

fn medium(settings: &Settings) -> NetBuilder {
    let mut list = ModuleList::new(settings);
    for channels in [16, 32, 15] {
        list.conv(channels, 3);
        list.pool();
        list.activation();
        list.dropout();
    }
    list.flatten();
    list.linear(20);
    list.activation();
    list.dropout();
    list.linear(settings.classes);
    list.net
}
