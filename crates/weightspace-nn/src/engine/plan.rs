//! Planning inference: from the graph to a list of steps on preallocated buffers.
//!
//! Values whose layouts are equal share buffers when their lives do not overlap; a buffer never
//! changes its layout, so borders stay zero for ever.

use super::fusion::fuse;
pub use super::fusion::{Step, StepKind};
use super::product::{Pass, Weight};
use super::single;
use crate::kernels::maps::Blocked;
use crate::net::{Net, NodeId, Op};

/// The steps of a network and where their values live.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Steps in order of execution.
    pub steps: Vec<Step>,
    /// How each step's product runs; `None` where it is none.
    pub passes: Vec<Option<Pass>>,
    /// Layout of each node's value; values inside a fusion have one too, which nobody uses.
    pub layouts: Vec<Blocked>,
    /// Buffer of each node's value.
    pub slot_of: Vec<Option<usize>>,
    /// Layout of each buffer.
    pub slots: Vec<Blocked>,
    /// Length of the scratch memory of the kernels.
    pub scratch: usize,
}

impl Plan {
    /// Plans inference.
    pub fn new(net: &Net) -> Plan {
        Plan::with_taps(net, &[])
    }

    /// As [`new`](Self::new), such that the values of some nodes are there when the last step is done.
    pub fn with_taps(net: &Net, taps: &[NodeId]) -> Plan {
        let steps = fuse(net, true, |id| taps.contains(&id));
        let layouts = layouts(net);
        let passes: Vec<_> = steps.iter().map(|step| forward_pass(net, &layouts, step)).collect();
        let (slot_of, slots) = assign_slots(net, &steps, &layouts, taps);
        let scratch = scratch_len(net, &layouts, &steps, &passes);
        Plan { steps, passes, layouts, slot_of, slots, scratch }
    }

    /// Images that one thread takes through the network at a time: enough to reuse the weights,
    /// few enough to keep the activations in the cache.
    pub fn chunk(&self) -> usize {
        let widest = self.slots.iter().map(Blocked::len).max().unwrap_or(1);
        ((1 << 17) / widest).clamp(8, 128)
    }
}

/// Every value gets the border that its widest convolution asks for.
pub fn layouts(net: &Net) -> Vec<Blocked> {
    let mut borders = vec![0; net.nodes().len()];
    for node in net.nodes() {
        if let Op::Conv2d { window, .. } = node.op {
            let border = &mut borders[node.inputs[0].index()];
            *border = window.padding.max(*border);
        }
    }
    net.nodes().iter().zip(borders).map(|(n, border)| Blocked::new(n.shape, border)).collect()
}

/// How the product of a step runs forward.
pub fn forward_pass(net: &Net, layouts: &[Blocked], step: &Step) -> Option<Pass> {
    let weight = Weight::of(&net.node(step.node).op)?;
    let (from, to) = (layouts[step.inputs[0].index()], layouts[step.output.index()]);
    Some(Pass::forward(weight, from, to))
}

/// Scratch memory that the kernels of all steps need at most.
pub fn scratch_len(
    net: &Net,
    layouts: &[Blocked],
    steps: &[Step],
    passes: &[Option<Pass>],
) -> usize {
    let of_single = steps.iter().map(|step| {
        let input = layouts[step.inputs[0].index()];
        single::scratch_len(&net.node(step.node).op, &input, &layouts[step.output.index()])
    });
    of_single.chain(passes.iter().flatten().map(Pass::scratch_len)).max().unwrap_or(0)
}

fn assign_slots(
    net: &Net,
    steps: &[Step],
    layouts: &[Blocked],
    taps: &[NodeId],
) -> (Vec<Option<usize>>, Vec<Blocked>) {
    let mut last_use = vec![0; net.nodes().len()];
    for (i, step) in steps.iter().enumerate() {
        for input in &step.inputs {
            last_use[input.index()] = i;
        }
    }
    taps.iter().for_each(|tap| last_use[tap.index()] = usize::MAX);
    let mut slot_of = vec![None; net.nodes().len()];
    let mut slots: Vec<Blocked> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut claim = |layout: Blocked, free: &mut Vec<usize>| {
        if let Some(position) = free.iter().position(|&slot| slots[slot] == layout) {
            return free.swap_remove(position);
        }
        slots.push(layout);
        slots.len() - 1
    };
    for input in net.inputs() {
        slot_of[input.index()] = Some(claim(layouts[input.index()], &mut free));
    }
    for (i, step) in steps.iter().enumerate() {
        slot_of[step.output.index()] = Some(claim(layouts[step.output.index()], &mut free));
        let mut ended: Vec<NodeId> = step.inputs.clone();
        ended.sort();
        ended.dedup();
        free.extend(
            ended
                .iter()
                .filter(|id| last_use[id.index()] == i)
                .filter_map(|id| slot_of[id.index()]),
        );
    }
    (slot_of, slots)
}
