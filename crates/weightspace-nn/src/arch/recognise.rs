//! Which architecture a state dict belongs to, by exact names and shapes; and how one differs.

use std::collections::{HashMap, HashSet};
use std::fmt;

use weightspace_core::TensorInfo;

use super::mlp::{self, Chain};
use super::spec::{Settings, parse};
use super::{Arch, ArchOptions, Argument, build, list, printable};
use crate::net::{Net, NodeId, Op, ParameterKind};

/// One tensor in which a state dict differs from an architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The architecture has a tensor that the state dict lacks.
    Missing {
        /// Its name.
        name: String,
        /// The shape that it should have.
        expected: Vec<usize>,
    },
    /// The state dict has a tensor that the architecture lacks.
    Unexpected {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// Both have the tensor, in different shapes.
    Shape {
        /// Its name.
        name: String,
        /// The architecture's shape.
        expected: Vec<usize>,
        /// The state dict's shape.
        found: Vec<usize>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Missing { name, expected } => write!(f, "{name} {expected:?} is missing"),
            Difference::Unexpected { name, found } => {
                write!(f, "{} {found:?} is unexpected", printable(name))
            }
            Difference::Shape { name, expected, found } => {
                write!(f, "{name} is {found:?} instead of {expected:?}")
            }
        }
    }
}

/// A state dict that does not fit an architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of the tensors differ from {arch}: {}", self.count, self.listing())]
pub struct Mismatch {
    /// The architecture's canonical specification.
    pub arch: String,
    /// The first differences, in the order of the architecture's state dict, then of the file.
    pub differences: Vec<Difference>,
    /// Number of all differences.
    pub count: usize,
}

impl Mismatch {
    /// Differences that are kept for a message.
    const SHOWN: usize = 4;

    fn listing(&self) -> String {
        let mut texts: Vec<String> = self.differences.iter().map(ToString::to_string).collect();
        if self.count > texts.len() {
            texts.push(format!("and {} more", self.count - texts.len()));
        }
        texts.join("; ")
    }
}

/// Why no architecture was recognised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecogniseError {
    /// No architecture has any of the names.
    #[error(
        "no known architecture has any of the {count} tensors (the first is `{}`)",
        printable(first)
    )]
    Unknown {
        /// Number of tensors.
        count: usize,
        /// Name of the first; empty when there is none.
        first: String,
    },
    /// None fits; this one comes closest.
    #[error("no known architecture fits; closest is {}: {}", .0.arch, .0.listing())]
    Closest(Mismatch),
    /// A chain of linear layers whose order the shapes and names do not tell.
    #[error("the order of the linear layers is open; give it, for instance with --arch {spec}")]
    AmbiguousOrder {
        /// The specification of one possible order.
        spec: String,
    },
}

/// The network that a state dict belongs to, by exact names and shapes in any order.
///
/// Number of classes, channels and, where a flattened vector fixes it, size of the input are
/// inferred from the shapes; `num_batches_tracked` may be missing. What no tensor tells
/// (activations, probabilities of dropout, sizes of fully convolutional networks) is the
/// architecture's default.
///
/// # Errors
/// When nothing fits: the architecture that comes closest, and the first differences.
pub fn recognise(tensors: &[TensorInfo]) -> Result<Net, RecogniseError> {
    let index = Index::new(tensors);
    let candidates = || {
        let variants = |arch: &'static Arch| {
            let specs = arch.variants.iter().map(|variant| format!("{}:{variant}", arch.name));
            std::iter::once(arch.name.to_string()).chain(specs)
        };
        let fixed = list().filter(|arch| !arch.takes(Argument::Widths)).flat_map(variants);
        fixed.filter_map(|spec| index.infer(&spec))
    };
    // Of two specifications for the same tensors the shorter is nearer to somebody's defaults.
    let fitting = candidates().filter(|net| index.compare(net).count == 0);
    if let Some(net) = fitting.min_by_key(|net| net.arch().len()) {
        return Ok(net);
    }
    match mlp::chain(tensors) {
        Chain::Ambiguous(spec) => return Err(RecogniseError::AmbiguousOrder { spec }),
        Chain::Spec(spec) => {
            if let Ok(net) = build(&spec, &ArchOptions::default()) {
                return Ok(net);
            }
        }
        Chain::None => {}
    }
    let (closeness, mismatch) = candidates()
        .map(|net| (index.closeness(&net), index.compare(&net)))
        .reduce(|best, other| if other.0 > best.0 { other } else { best })
        .expect("the table has architectures without widths");
    if closeness > 0.0 {
        return Err(RecogniseError::Closest(mismatch));
    }
    let first = tensors.first().map(|t| t.name.clone()).unwrap_or_default();
    Err(RecogniseError::Unknown { count: tensors.len(), first })
}

/// Checks that a state dict has exactly the tensors of a network, in any order;
/// `num_batches_tracked` may be missing.
///
/// # Errors
/// The first differences and their number.
pub fn check(net: &Net, tensors: &[TensorInfo]) -> Result<(), Mismatch> {
    let mismatch = Index::new(tensors).compare(net);
    if mismatch.count == 0 { Ok(()) } else { Err(mismatch) }
}

/// The tensors of a state dict by name.
struct Index<'a> {
    tensors: &'a [TensorInfo],
    shapes: HashMap<&'a str, &'a [usize]>,
}

impl<'a> Index<'a> {
    fn new(tensors: &'a [TensorInfo]) -> Self {
        let shapes = tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        Index { tensors, shapes }
    }

    fn compare(&self, net: &Net) -> Mismatch {
        let mut mismatch =
            Mismatch { arch: net.arch().to_string(), differences: Vec::new(), count: 0 };
        let mut add = |difference: &dyn Fn() -> Difference| {
            mismatch.count += 1;
            if mismatch.differences.len() < Mismatch::SHOWN {
                mismatch.differences.push(difference());
            }
        };
        let parameters = net.parameters();
        for p in &parameters {
            let (name, expected) = (|| p.name.clone(), || p.shape.clone());
            match self.shapes.get(p.name.as_str()) {
                Some(&found) if found == p.shape => {}
                Some(&found) => add(&|| Difference::Shape {
                    name: name(),
                    expected: expected(),
                    found: found.to_vec(),
                }),
                None if p.kind == ParameterKind::NumBatchesTracked => {}
                None => add(&|| Difference::Missing { name: name(), expected: expected() }),
            }
        }
        let known: HashSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        for t in self.tensors.iter().filter(|t| !known.contains(t.name.as_str())) {
            add(&|| Difference::Unexpected { name: t.name.clone(), found: t.shape.clone() });
        }
        mismatch
    }

    /// Share of common tensors, from 0 to 1; a common name of another shape counts half.
    fn closeness(&self, net: &Net) -> f64 {
        let parameters = net.parameters();
        let points = parameters.iter().map(|p| match self.shapes.get(p.name.as_str()) {
            Some(&found) if found == p.shape => 2,
            Some(_) => 1,
            None => 0,
        });
        points.sum::<usize>() as f64 / (parameters.len() + self.tensors.len()) as f64
    }

    /// The network of a specification, with the arguments that the shapes tell; none for a
    /// specification that is not well-formed.
    fn infer(&self, spec: &str) -> Option<Net> {
        let (arch, mut settings) = parse(spec, &ArchOptions::default()).ok()?;
        let net = arch.net(&settings);
        let dimension = |node: NodeId, axis: usize| {
            let weight = self.shapes.get(format!("{}.weight", net.node(node).name).as_str())?;
            weight.get(axis).copied()
        };
        let is_layer =
            |id: &NodeId| matches!(net.node(*id).op, Op::Conv2d { .. } | Op::Linear { .. });
        let layers: Vec<NodeId> = net.node_ids().filter(is_layer).collect();
        let mut attempt = |change: &dyn Fn(&mut Settings)| {
            let mut changed = settings.clone();
            change(&mut changed);
            if changed.validate(arch).is_ok() {
                settings = changed;
            }
        };
        if let Some(classes) = layers.last().and_then(|&id| dimension(id, 0)) {
            attempt(&|s| s.classes = classes);
        }
        if let Some(channels) = layers.first().and_then(|&id| dimension(id, 1)) {
            attempt(&|s| s.in_channels = channels);
        }
        let flattened = layers.iter().find(|&&id| follows_flatten(&net, id));
        if let Some((id, length)) = flattened.and_then(|&id| Some((id, dimension(id, 1)?))) {
            let fits = |net: &Net| net.node(net.node(id).inputs[0]).shape.element_count() == length;
            if let Some(size) = infer_size(arch, &settings, fits) {
                settings.size = size;
            }
        }
        Some(arch.net(&settings))
    }
}

fn follows_flatten(net: &Net, id: NodeId) -> bool {
    net.node(id).inputs.iter().any(|&input| net.node(input).op == Op::Flatten)
}

/// An input size for which the network fits: a usual one if possible, else the smallest.
fn infer_size(arch: &Arch, settings: &Settings, fits: impl Fn(&Net) -> bool) -> Option<usize> {
    const LARGEST: usize = 512;
    // Grey images are those of the MNIST family more often than not.
    let grey = (settings.in_channels == 1).then_some(28);
    let usual = grey.into_iter().chain([arch.defaults.size, 28, 32, 64, 224]);
    usual
        .chain(arch.defaults.min_size..=LARGEST)
        .filter(|&size| size >= arch.defaults.min_size)
        .find(|&size| fits(&arch.net(&Settings { size, ..settings.clone() })))
}
