//! Architectures by name: one file per family, one table.
//!
//! A specification is what `--arch` takes: a name, and after a colon arguments with commas between
//! them: `resnet20`, `resnet18-cifar:classes=100`, `zoo-cnn:gelu,in=3`, `mlp:784-128-10`.
//! [`Net::arch`] is the canonical form, which leaves out what equals the architecture's defaults;
//! building it again gives the same network.

mod alexnet;
mod convnet;
mod lenet;
mod mlp;
mod recognise;
mod resnet;
mod resnet_cifar;
mod spec;
mod zoo_cnn;

use crate::data;
use crate::net::{Activation, Net, NetBuilder};

pub use recognise::{Difference, Mismatch, RecogniseError, check, recognise};
pub use spec::{ArchError, ArchOptions, Argument};
use spec::{Settings, canonical, parse};

/// Every family's architectures. A new family is one file and one line here.
static FAMILIES: &[&[Arch]] = &[
    resnet_cifar::ARCHS,
    resnet::ARCHS,
    lenet::ARCHS,
    alexnet::ARCHS,
    convnet::ARCHS,
    zoo_cnn::ARCHS,
    mlp::ARCHS,
];

/// An architecture: an entry of the table.
#[derive(Debug)]
pub struct Arch {
    /// Name, as a specification begins.
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// Where it was published.
    pub reference: &'static str,
    /// The arguments that it takes.
    pub arguments: &'static [Argument],
    /// What the arguments are when they are not given.
    pub defaults: Defaults,
    /// Arguments that change the modules' names, which recognition therefore tries: other people's
    /// names for the same network (`names=WHOSE`, every value that there is), numbered modules that
    /// move.
    pub variants: &'static [&'static str],
    /// Names of the preprocessing that published checkpoints want: (data set, preprocessing).
    pub preprocessing: &'static [(&'static str, &'static str)],
    /// Adds the layers; every setting is within its limits.
    build: fn(&Settings) -> NetBuilder,
}

/// Values of the arguments that a specification does not give.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// Number of classes.
    pub classes: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Height and width of the input.
    pub size: usize,
    /// The smallest input for which every layer has an output.
    pub min_size: usize,
    /// Non-linearity.
    pub activation: Activation,
    /// Probability of dropout.
    pub dropout: f32,
}

impl Defaults {
    /// Ten classes of RGB images of 32 x 32.
    const CIFAR: Defaults = Defaults {
        classes: 10,
        in_channels: 3,
        size: 32,
        min_size: 1,
        activation: Activation::Relu,
        dropout: 0.0,
    };
    /// Ten classes of grey images of 28 x 28.
    const MNIST: Defaults = Defaults { in_channels: 1, size: 28, ..Defaults::CIFAR };
}

impl Arch {
    /// True when the argument may be given.
    pub fn takes(&self, argument: Argument) -> bool {
        self.arguments.contains(&argument)
    }

    /// The values of `names=` that the variants have.
    fn namings(&self) -> impl Iterator<Item = &'static str> {
        self.variants.iter().filter_map(|variant| variant.strip_prefix("names="))
    }

    /// The network with these settings.
    fn net(&self, settings: &Settings) -> Net {
        (self.build)(settings).finish(canonical(self, settings))
    }
}

/// All architectures, in the order of the table.
pub fn list() -> impl Iterator<Item = &'static Arch> {
    FAMILIES.iter().copied().flatten()
}

/// The architecture of that name, without arguments.
pub fn find(name: &str) -> Option<&'static Arch> {
    list().find(|arch| arch.name == name)
}

/// Builds the network of a specification.
///
/// `options` give what the specification leaves open (for instance what a data set knows: classes,
/// channels, size); those that the architecture does not take are ignored.
///
/// # Errors
/// An unknown name; an argument that is unknown, malformed, repeated or out of its range.
pub fn build(spec: &str, options: &ArchOptions) -> Result<Net, ArchError> {
    let (arch, settings) = parse(spec, options)?;
    Ok(arch.net(&settings))
}

/// A text from outside, safe to print on one line: control characters escaped, the end cut off.
fn printable(text: &str) -> String {
    const LONGEST: usize = 120;
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    let mut line: String = text.chars().take(LONGEST).map(escape).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}

/// The name of the preprocessing that published checkpoints of this architecture expect for a data
/// set, or `None` when it is the data set's own default.
///
/// `spec` is a specification, for instance [`Net::arch`]. A shift of the data set does not matter, nor does the path of a folder
/// of images.
pub fn default_preprocessing(spec: &str, data_name: &str) -> Option<&'static str> {
    let name = spec.split(':').next()?;
    let base = data::base_name(data_name).ok()?;
    let base = base.split(':').next()?;
    find(name)?.preprocessing.iter().find(|(data, _)| *data == base).map(|&(_, p)| p)
}
