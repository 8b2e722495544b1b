//! From the graphs of a group of networks to one list of passes.

use super::kernels::{ActivationPass, DropoutPass, Mean, Pad, Pool, Product};
use super::{LaneError, LaneModel};
use crate::Net;
use crate::net::{Node, Op, Shape};

/// What a pass computes from the value before it.
pub(super) enum Pass {
    /// Convolution with or without the maximum of its 2 x 2 windows, or linear layer.
    Product(Product),
    Pool(Pool),
    Mean(Mean),
    Pad(Pad),
    Activation(ActivationPass),
    Dropout(Box<DropoutPass>),
}

impl Pass {
    /// Whether the gradient of the output becomes that of the input in the same place.
    pub fn is_elementwise(&self) -> bool {
        matches!(self, Pass::Activation(_) | Pass::Dropout(_))
    }
}

/// A group of networks as passes that follow one another: pass i reads value i and makes value i + 1;
/// value 0 is the image.
pub(super) struct Plan {
    pub passes: Vec<Pass>,
    /// Elements of every value of one sample.
    pub lengths: Vec<usize>,
    pub parameter_count: usize,
    /// Samples that run together.
    pub chunk: usize,
}

impl Plan {
    /// Checks that a network is a chain of operations that lanes can run.
    pub fn supports(net: &Net) -> Result<(), LaneError> {
        let unsupported = |node: &Node| {
            let name = operation(&node.op);
            let op = match node.name.is_empty() {
                true => name,
                false => format!("{name} ({})", node.name),
            };
            Err(LaneError::Unsupported { arch: net.arch().to_owned(), op })
        };
        for (i, node) in net.nodes().iter().enumerate() {
            let follows = match &node.inputs[..] {
                [] => i == 0 && node.op == Op::Input,
                [input] => input.index() + 1 == i,
                _ => false,
            };
            let known = match node.op {
                Op::Conv2d { groups, .. } => groups == 1,
                Op::Input
                | Op::Linear { .. }
                | Op::Activation(_)
                | Op::MaxPool(_)
                | Op::AvgPool(_)
                | Op::GlobalAvgPool
                | Op::Dropout { .. }
                | Op::Flatten => true,
                _ => false,
            };
            if !follows || !known || matches!(node.shape, Shape::Tokens { .. }) {
                return unsupported(node);
            }
        }
        Ok(())
    }

    /// The plan of a full group, of which `count` models are not repetitions.
    ///
    /// # Errors
    /// An operation that is not supported, or networks of different shapes.
    pub fn new(models: &[LaneModel], count: usize, batch: usize) -> Result<Self, LaneError> {
        models[..count].iter().try_for_each(|model| Plan::supports(&model.net))?;
        let chains: Vec<Chain> = models.iter().map(|model| Chain::new(&model.net)).collect();
        for (model, chain) in chains.iter().enumerate().skip(1) {
            chains[0].expect_alike(chain, model)?;
        }
        let net = &models[0].net;
        let mut plan = Plan {
            passes: Vec::new(),
            lengths: vec![net.input_len()],
            parameter_count: net.parameter_count(),
            chunk: 1,
        };
        plan.dropouts(&chains, 0)?;
        let mut at = 0;
        while at < chains[0].links.len() {
            at += plan.link(&chains, at, net);
            plan.dropouts(&chains, at)?;
        }
        let values: usize = plan.lengths.iter().sum();
        plan.chunk = (plan.parameter_count / values).clamp(1, batch);
        Ok(plan)
    }

    /// Values of one sample that the network gives.
    pub fn class_count(&self) -> usize {
        self.lengths[self.lengths.len() - 1]
    }

    fn push(&mut self, pass: Pass, len: usize) {
        self.passes.push(pass);
        self.lengths.push(len);
    }

    /// Adds the passes of an operation, and of a maximum behind it that it takes along; returns how many
    /// operations these are.
    fn link(&mut self, chains: &[Chain<'_>], at: usize, net: &Net) -> usize {
        let link = chains[0].links[at];
        let (from, to) = (link.from, link.node.shape);
        match link.node.op {
            Op::Conv2d { window, .. } => {
                let [channels, height, width] = maps(from);
                let from = [channels, height + 2 * window.padding, width + 2 * window.padding];
                if window.padding > 0 {
                    let pad = Pad { planes: channels, height, width, border: window.padding };
                    self.push(Pass::Pad(pad), from.iter().product());
                }
                let product = Product::convolution(from, window, maps(to), parameters(net, link));
                let is_fused = |next: &Link<'_>| match next.node.op {
                    Op::MaxPool(pool) => (pool.size, pool.stride, pool.padding) == (2, 2, 0),
                    _ => false,
                };
                let dropped = chains.iter().any(|chain| !chain.dropouts[at + 1].is_empty());
                let next = chains[0].links.get(at + 1).filter(|_| !dropped);
                match next.filter(|next| is_fused(next)) {
                    Some(pool) => {
                        let len = pool.node.shape.element_count();
                        self.push(Pass::Product(product.pooled(maps(pool.node.shape))), len);
                        return 2;
                    }
                    None => self.push(Pass::Product(product), to.element_count()),
                }
            }
            Op::Linear { out_features, in_features, .. } => {
                let product = Product::linear(in_features, out_features, parameters(net, link));
                self.push(Pass::Product(product), out_features);
            }
            Op::MaxPool(window) | Op::AvgPool(window) => {
                let mean = matches!(link.node.op, Op::AvgPool(_));
                let pool = Pool { window, mean, from: maps(from), to: maps(to) };
                self.push(Pass::Pool(pool), to.element_count());
            }
            Op::GlobalAvgPool => {
                let [channels, height, width] = maps(from);
                self.push(Pass::Mean(Mean { positions: height * width }), channels);
            }
            Op::Activation(_) => {
                let kinds = std::array::from_fn(|lane| match chains[lane].links[at].node.op {
                    Op::Activation(kind) => kind,
                    _ => unreachable!("chains are alike"),
                });
                self.push(Pass::Activation(ActivationPass::new(kinds)), to.element_count());
            }
            _ => {}
        }
        1
    }

    /// Adds the dropouts that stand before operation `at` in any of the networks.
    fn dropouts(&mut self, chains: &[Chain<'_>], at: usize) -> Result<(), LaneError> {
        let most = chains.iter().map(|chain| chain.dropouts[at].len()).max().unwrap_or(0);
        for which in 0..most {
            let mut pass: Option<DropoutPass> = None;
            for (lane, chain) in chains.iter().enumerate() {
                let Some(&(node, index)) = chain.dropouts[at].get(which) else { continue };
                let Op::Dropout { probability } = node.op else { continue };
                let pass = pass.get_or_insert_with(|| DropoutPass::new(node.shape));
                if pass.shape != node.shape {
                    let place = |shape| format!("a dropout of {shape:?}");
                    let (found, expected) = (place(node.shape), place(pass.shape));
                    return Err(LaneError::Differs { model: lane, found, expected });
                }
                pass.layers[lane] = Some((probability, index));
            }
            if let Some(pass) = pass {
                let len = pass.shape.element_count();
                self.push(Pass::Dropout(Box::new(pass)), len);
            }
        }
        Ok(())
    }
}

/// An operation of a chain and the shape that it reads.
#[derive(Clone, Copy)]
struct Link<'a> {
    node: &'a Node,
    from: Shape,
}

/// The operations of one network, dropouts apart.
struct Chain<'a> {
    links: Vec<Link<'a>>,
    /// For every operation the dropouts before it, with their numbers in the graph; behind these, those at
    /// the end.
    dropouts: Vec<Vec<(&'a Node, usize)>>,
}

impl<'a> Chain<'a> {
    fn new(net: &'a Net) -> Self {
        let mut chain = Chain { links: Vec::new(), dropouts: vec![Vec::new()] };
        for (index, pair) in net.nodes().windows(2).enumerate() {
            let (from, node, index) = (pair[0].shape, &pair[1], index + 1);
            match node.op {
                Op::Dropout { .. } => {
                    let last = chain.dropouts.len() - 1;
                    chain.dropouts[last].push((node, index));
                }
                _ => {
                    chain.links.push(Link { node, from });
                    chain.dropouts.push(Vec::new());
                }
            }
        }
        chain
    }

    fn expect_alike(&self, other: &Chain<'_>, model: usize) -> Result<(), LaneError> {
        let same = |(a, b): (&Link<'_>, &Link<'_>)| {
            let alike = match (&a.node.op, &b.node.op) {
                (Op::Activation(_), Op::Activation(_)) => true,
                (a, b) => a == b,
            };
            alike && a.from == b.from && a.node.shape == b.node.shape
        };
        let equal = self.links.iter().zip(&other.links).take_while(|&pair| same(pair)).count();
        if equal == self.links.len() && equal == other.links.len() {
            return Ok(());
        }
        let describe = |chain: &Chain<'_>| match chain.links.get(equal) {
            Some(link) => format!("{} to {:?}", operation(&link.node.op), link.node.shape),
            None => "nothing".to_owned(),
        };
        let at = |what: String| format!("{what} as operation {equal}");
        Err(LaneError::Differs { model, found: at(describe(other)), expected: describe(self) })
    }
}

/// First word of an operation's debug form.
fn operation(op: &Op) -> String {
    let text = format!("{op:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

fn maps(shape: Shape) -> [usize; 3] {
    match shape {
        Shape::Maps { channels, height, width } => [channels, height, width],
        other => [other.element_count(), 1, 1],
    }
}

/// Where weight and bias of a layer stand in the flat vector.
fn parameters(net: &Net, link: Link<'_>) -> (usize, Option<usize>) {
    let layout = net.layout();
    let offset = |name: &str| layout.get(&format!("{}.{name}", link.node.name)).map(|e| e.offset);
    let weight = offset("weight").expect("a layer with parameters has a weight");
    (weight, offset("bias"))
}
