//! Planning a training step.
//!
//! The statistics of a batch normalisation need all samples, so they cut the network into *phases*:
//! within a phase a chunk of samples goes through all steps while it is in the cache; between
//! phases the threads meet. Backward the phases run in reverse, cut at the same places by the sums
//! that the gradient of a batch normalisation needs. A network without batch normalisation is one
//! phase: every chunk goes forward, through the loss and back at once.
//!
//! A value that only its own phase reads is kept for one chunk, and is computed again on the way
//! back where that is cheap; the others are kept for the whole batch.

use std::ops::Range;

use crate::engine::fusion::{Step, StepKind, fuse};
use crate::engine::plan::{forward_pass, layouts, scratch_len};
use crate::engine::product::{Pass, Weight, gradient_border};
use crate::kernels::maps::Blocked;
use crate::net::{Net, NodeId, Op};

/// Bytes of the operands of one step that should stay in the second-level cache.
const CACHE: usize = 768 << 10;

/// Most samples that a chunk has.
const LARGEST_CHUNK: usize = 256;

/// What a training step is planned for.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Nodes whose values a loss sees, besides the output.
    pub taps: Vec<NodeId>,
    /// The gradient of the inputs is wanted.
    pub input_gradient: bool,
    /// The loss needs the outputs of the whole batch, not of one sample at a time.
    pub whole_batch_loss: bool,
}

/// A buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Layout of one sample.
    pub layout: Blocked,
    /// Holds the whole batch, not one chunk.
    pub whole: bool,
}

/// A batch normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Its step.
    pub step: usize,
    /// Its node.
    pub node: NodeId,
    /// The value that it normalises.
    pub input: NodeId,
    /// The value of its step.
    pub output: NodeId,
    /// Phase in which its input is made.
    pub input_phase: usize,
    /// Phase of its step.
    pub phase: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// One thing to do on the way back. `accumulate` says for each gradient that is written whether it
/// is added to what is there; `None` where nobody wants it.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Takes the gradient of the output from the loss.
    Loss,
    /// Takes the gradient of a tapped value from its loss.
    Tap {
        /// Which one.
        index: usize,
        /// See above.
        accumulate: bool,
    },
    /// From the gradient of a batch normalisation's output to that of its input.
    NormInput {
        /// Which one.
        norm: usize,
        /// See above.
        accumulate: bool,
    },
    /// A step; for a batch normalisation the sums and the residual only.
    Step {
        /// Which one.
        step: usize,
        /// For each input, see above.
        accumulate: [Option<bool>; 2],
    },
}

/// Everything that is known before the first batch.
#[derive(Clone, Debug)]
pub struct TrainingPlan {
    /// Steps, phase by phase.
    pub steps: Vec<Step>,
    /// Steps of each phase.
    pub phases: Vec<Range<usize>>,
    /// The products of each step, forward and backward to the input.
    pub passes: Vec<Option<[Pass; 2]>>,
    /// Layout of each node's value.
    pub layouts: Vec<Blocked>,
    /// Layout of the gradient of each node's value.
    pub gradient_layouts: Vec<Blocked>,
    /// Batch normalisations in the order of their nodes.
    pub norms: Vec<Norm>,
    /// For each step the batch normalisation that it is.
    pub norm_of_step: Vec<Option<usize>>,
    /// For each node the batch normalisations that read its value.
    pub statistics_of: Vec<Vec<usize>>,
    /// Buffer of each node's value.
    pub value_slots: Vec<Option<usize>>,
    /// Buffer of the gradient of each node's value.
    pub gradient_slots: Vec<Option<usize>>,
    /// All buffers.
    pub slots: Vec<Slot>,
    /// The way back, for each phase.
    pub events: Vec<Vec<Event>>,
    /// Samples of a chunk in each phase.
    pub chunks: Vec<usize>,
    /// The last phase goes forward and backward at once.
    pub merged: bool,
    /// Tapped nodes.
    pub taps: Vec<NodeId>,
    /// Length of the scratch memory of the kernels.
    pub scratch: usize,
}

/// What the planner knows of the values so far.
struct Draft<'a> {
    net: &'a Net,
    wishes: &'a Wishes,
    steps: Vec<Step>,
    phase_of_step: Vec<usize>,
    phase_of_value: Vec<usize>,
    norms: Vec<Norm>,
    wanted: Vec<bool>,
}

impl TrainingPlan {
    /// Plans the training of a network.
    pub fn new(net: &Net, wishes: &Wishes) -> Self {
        let draft = Draft::new(net, wishes);
        let (steps, norms) = (&draft.steps, &draft.norms);
        let layouts = layouts(net);
        let gradient_layouts = gradient_layouts(net, steps, &layouts);
        let passes: Vec<_> = steps
            .iter()
            .map(|step| {
                let weight = Weight::of(&net.node(step.node).op)?;
                let forward = forward_pass(net, &layouts, step)?;
                let gradient = |id: NodeId| gradient_layouts[id.index()];
                let backward =
                    Pass::backward(weight, gradient(step.output), gradient(step.inputs[0]));
                Some([forward, backward])
            })
            .collect();
        let phase_count = draft.phase_of_step.last().map_or(1, |last| last + 1);
        let phases: Vec<Range<usize>> = (0..phase_count)
            .map(|p| {
                let start = draft.phase_of_step.partition_point(|&q| q < p);
                start..draft.phase_of_step.partition_point(|&q| q <= p)
            })
            .collect();
        let events = draft.events(&phases);
        let mut slots = Slots::default();
        let value_slots = draft.value_slots(&phases, &layouts, &mut slots);
        let gradient_slots = draft.gradient_slots(&events, &gradient_layouts, &mut slots);
        let forward: Vec<_> = passes.iter().map(|p| p.as_ref().map(|p| p[0].clone())).collect();
        let of_backward = passes.iter().flatten().map(|p| p[1].scratch_len()).max().unwrap_or(0);
        let scratch = scratch_len(net, &layouts, steps, &forward).max(of_backward);
        let mut statistics_of = vec![Vec::new(); net.nodes().len()];
        let mut norm_of_step = vec![None; steps.len()];
        for (i, norm) in norms.iter().enumerate() {
            statistics_of[norm.input.index()].push(i);
            norm_of_step[norm.step] = Some(i);
        }
        let chunks = phases.iter().map(|phase| chunk(&steps[phase.clone()], &layouts)).collect();
        TrainingPlan {
            phases,
            passes,
            layouts,
            gradient_layouts,
            statistics_of,
            norm_of_step,
            value_slots,
            gradient_slots,
            slots: slots.all,
            events,
            chunks,
            merged: !wishes.whole_batch_loss,
            taps: wishes.taps.clone(),
            scratch,
            norms: draft.norms,
            steps: draft.steps,
        }
    }

    /// The steps of a phase whose values are computed again on the way back.
    pub fn recomputed(&self, phase: usize) -> impl Iterator<Item = usize> + '_ {
        let last = self.phases.len() - 1;
        let forgotten = |&step: &usize| {
            let slot = self.value_slots[self.steps[step].output.index()];
            slot.is_some_and(|slot| !self.slots[slot].whole)
        };
        let steps = self.phases[phase].clone().filter(forgotten);
        steps.take(if phase == last && self.merged { 0 } else { usize::MAX })
    }
}

/// Samples of a chunk: as many as keep the operands of a step in the cache.
fn chunk(steps: &[Step], layouts: &[Blocked]) -> usize {
    let operands = |step: &Step| {
        let ids = step.inputs.iter().chain([&step.output]);
        ids.map(|id| layouts[id.index()].len()).sum::<usize>() * size_of::<f32>()
    };
    let largest = steps.iter().map(operands).max().unwrap_or(1).max(1);
    (CACHE / largest).clamp(1, LARGEST_CHUNK)
}

fn gradient_layouts(net: &Net, steps: &[Step], layouts: &[Blocked]) -> Vec<Blocked> {
    let mut gradients: Vec<Blocked> = layouts.iter().map(|l| l.with_border(0)).collect();
    for step in steps {
        if let Op::Conv2d { window, .. } = net.node(step.node).op {
            let (input, output) = (layouts[step.inputs[0].index()], layouts[step.output.index()]);
            let border = gradient_border(window, input.height, output.height).max(gradient_border(
                window,
                input.width,
                output.width,
            ));
            let gradient = &mut gradients[step.output.index()];
            *gradient = gradient.with_border(border);
        }
    }
    gradients
}

impl<'a> Draft<'a> {
    fn new(net: &'a Net, wishes: &'a Wishes) -> Self {
        let steps = fuse(net, false, |id| wishes.taps.contains(&id));
        let mut phase_of_value = vec![0; net.nodes().len()];
        let mut wanted = vec![false; net.nodes().len()];
        for input in net.inputs() {
            wanted[input.index()] = wishes.input_gradient;
        }
        for step in &steps {
            let phases = step.inputs.iter().enumerate().map(|(i, input)| {
                let normalised = i == 0 && matches!(step.kind, StepKind::Normalise { .. });
                phase_of_value[input.index()] + usize::from(normalised)
            });
            phase_of_value[step.output.index()] = phases.max().unwrap_or(0);
            let from_inputs = step.inputs.iter().any(|id| wanted[id.index()]);
            let has_parameters = !net.parameters_of(step.node).is_empty();
            wanted[step.output.index()] = from_inputs || has_parameters;
        }
        let mut steps = steps;
        steps.sort_by_key(|step| phase_of_value[step.output.index()]);
        let phase_of_step = steps.iter().map(|s| phase_of_value[s.output.index()]).collect();
        let norms = steps.iter().enumerate().filter_map(|(i, step)| {
            let Op::BatchNorm { eps, .. } = net.node(step.node).op else { return None };
            let (input, output) = (step.inputs[0], step.output);
            Some(Norm {
                step: i,
                node: step.node,
                input,
                output,
                input_phase: phase_of_value[input.index()],
                phase: phase_of_value[output.index()],
                eps,
            })
        });
        let mut norms: Vec<Norm> = norms.collect();
        norms.sort_by_key(|norm| norm.node);
        Draft { net, wishes, phase_of_step, phase_of_value, norms, wanted, steps }
    }

    /// The way back, phase by phase.
    fn events(&self, phases: &[Range<usize>]) -> Vec<Vec<Event>> {
        let mut written = vec![false; self.net.nodes().len()];
        // Some(accumulate) and marks the gradient as written; None where nobody wants it.
        let write = |written: &mut Vec<bool>, id: NodeId| {
            self.wanted[id.index()].then(|| std::mem::replace(&mut written[id.index()], true))
        };
        let mut all = vec![Vec::new(); phases.len()];
        for (phase, steps) in phases.iter().enumerate().rev() {
            let events = &mut all[phase];
            if phase + 1 == phases.len() {
                events.push(Event::Loss);
                written[self.net.output().index()] = true;
            }
            for (index, &tap) in self.wishes.taps.iter().enumerate() {
                if self.phase_of_value[tap.index()] == phase
                    && let Some(accumulate) = write(&mut written, tap)
                {
                    events.push(Event::Tap { index, accumulate });
                }
            }
            for (i, norm) in self.norms.iter().enumerate().rev() {
                if norm.input_phase == phase
                    && written[norm.output.index()]
                    && let Some(accumulate) = write(&mut written, norm.input)
                {
                    events.push(Event::NormInput { norm: i, accumulate });
                }
            }
            for step in steps.clone().rev() {
                let of_step = &self.steps[step];
                if !written[of_step.output.index()] {
                    continue;
                }
                let normalise = matches!(of_step.kind, StepKind::Normalise { .. });
                let mut accumulate = [None; 2];
                // The executor goes through the inputs in this order, too.
                for (which, &input) in of_step.inputs.iter().enumerate().rev() {
                    let no_gradient = which == 0
                        && (normalise
                            || matches!(self.net.node(of_step.node).op, Op::Embedding { .. }));
                    if !no_gradient {
                        accumulate[which] = write(&mut written, input);
                    }
                }
                events.push(Event::Step { step, accumulate });
            }
        }
        all
    }

    fn value_slots(
        &self,
        phases: &[Range<usize>],
        layouts: &[Blocked],
        slots: &mut Slots,
    ) -> Vec<Option<usize>> {
        let last = phases.len() - 1;
        let mut only_own_phase = vec![true; self.net.nodes().len()];
        for (step, &phase) in self.steps.iter().zip(&self.phase_of_step) {
            for input in &step.inputs {
                only_own_phase[input.index()] &= self.phase_of_value[input.index()] == phase;
            }
        }
        let makers = self.steps.iter().map(|step| (step.output, Some(step)));
        let inputs = self.net.inputs().map(|id| (id, None));
        let mut made: Vec<(NodeId, Option<&Step>)> = inputs.chain(makers).collect();
        made.sort_by_key(|(id, _)| self.phase_of_value[id.index()]);
        let mut value_slots = vec![None; self.net.nodes().len()];
        let mut phase = 0;
        let mut claimed = Vec::new();
        for (id, step) in made {
            let own_phase = self.phase_of_value[id.index()];
            if own_phase != phase {
                slots.free.append(&mut claimed);
                phase = own_phase;
            }
            let cheap = step.is_none_or(|step| {
                let op = &self.net.node(step.node).op;
                !matches!(step.kind, StepKind::Product { .. })
                    && !matches!(op, Op::Attention { .. } | Op::Embedding { .. })
            });
            let at_once = phase == last && !self.wishes.whole_batch_loss;
            let whole = !(only_own_phase[id.index()] && (cheap || at_once));
            let slot = slots.claim(Slot { layout: layouts[id.index()], whole });
            if !whole {
                claimed.push(slot);
            }
            value_slots[id.index()] = Some(slot);
        }
        // Values are needed together with gradients, so these get buffers of their own.
        slots.free.clear();
        value_slots
    }

    fn gradient_slots(
        &self,
        events: &[Vec<Event>],
        layouts: &[Blocked],
        slots: &mut Slots,
    ) -> Vec<Option<usize>> {
        let order: Vec<(usize, Event)> = events
            .iter()
            .enumerate()
            .rev()
            .flat_map(|(phase, events)| events.iter().map(move |&event| (phase, event)))
            .collect();
        let count = self.net.nodes().len();
        // Of each gradient the phase in which it is first written, and its last event.
        let mut first_phase = vec![usize::MAX; count];
        let mut last_event = vec![0; count];
        for (i, &(phase, event)) in order.iter().enumerate() {
            let (read, written) = self.gradients_of(event);
            for id in written.into_iter().flatten() {
                let first = &mut first_phase[id.index()];
                *first = if *first == usize::MAX { phase } else { *first };
                last_event[id.index()] = i;
            }
            if let Some(id) = read {
                last_event[id.index()] = i;
            }
        }
        let mut gradient_slots = vec![None; count];
        for (i, &(_, event)) in order.iter().enumerate() {
            let (read, written) = self.gradients_of(event);
            let written = written.into_iter().flatten();
            for id in written.clone().filter(|id| self.wanted[id.index()]) {
                let slot = &mut gradient_slots[id.index()];
                if slot.is_none() {
                    let whole = order[last_event[id.index()]].0 != first_phase[id.index()];
                    *slot = Some(slots.claim(Slot { layout: layouts[id.index()], whole }));
                }
            }
            for id in read.into_iter().chain(written) {
                let ended = last_event[id.index()] == i && self.net.node(id).op != Op::Input;
                slots.free.extend(gradient_slots[id.index()].filter(|_| ended));
            }
        }
        gradient_slots
    }

    /// The gradient that an event reads, and those that it writes.
    fn gradients_of(&self, event: Event) -> (Option<NodeId>, [Option<NodeId>; 2]) {
        match event {
            Event::Loss => (None, [Some(self.net.output()), None]),
            Event::Tap { index, .. } => (None, [Some(self.wishes.taps[index]), None]),
            Event::NormInput { norm, .. } => {
                let norm = &self.norms[norm];
                (Some(norm.output), [Some(norm.input), None])
            }
            Event::Step { step, accumulate } => {
                let step = &self.steps[step];
                let written = [0, 1]
                    .map(|which| accumulate[which].and_then(|_| step.inputs.get(which).copied()));
                (Some(step.output), written)
            }
        }
    }
}

/// Buffers and those of them that are free.
#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

impl Slots {
    fn claim(&mut self, wanted: Slot) -> usize {
        if let Some(position) = self.free.iter().position(|&slot| self.all[slot] == wanted) {
            return self.free.swap_remove(position);
        }
        self.all.push(wanted);
        self.all.len() - 1
    }
}
