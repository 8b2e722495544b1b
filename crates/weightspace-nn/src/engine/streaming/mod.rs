//! Inference that never holds a network's weights: layer by layer, and where a layer is large
//! filter group by filter group, they are read or rebuilt, applied and forgotten.
//!
//! A batch of images goes through one slice of weights after the other, so that the weights are
//! read once per batch. The logits are the same, to the bit, as those of an
//! [`Engine`](super::Engine), whatever the sizes of batches and slices.

mod plan;

use rayon::prelude::*;

use super::source::WeightSource;
use super::weights::StepWeights;
use super::{Activations, EngineError, Plan, run};
use crate::kernels::simd::InstructionSet;
use crate::net::Net;
use plan::{Sizes, Slice, plan_batch, plan_slices};

/// How much memory streaming inference may use. Whatever is said, it holds the activations of one
/// image and the weights of 16 output channels of any layer.
#[derive(Clone, Copy, Debug)]
pub struct StreamingOptions {
    /// Images of one batch; `None` for as many as the engine has in work on all threads. More make
    /// reading the weights rarer, but their activations do not stay in the cache.
    pub batch: Option<usize>,
    /// Memory for activations if no batch is given, in bytes; fewer images where they need more.
    pub activation_bytes: usize,
    /// Memory for the weights of one slice, as they are read and as the kernels want them together.
    pub slice_bytes: usize,
}

impl Default for StreamingOptions {
    /// 16 MiB of activations and 1 MiB of weights.
    fn default() -> Self {
        StreamingOptions { batch: None, activation_bytes: 16 << 20, slice_bytes: 1 << 20 }
    }
}

/// A network that reads its weights while it runs.
pub struct StreamingEngine<'a> {
    net: Net,
    plan: Plan,
    slices: Vec<Slice>,
    source: &'a dyn WeightSource,
    set: InstructionSet,
    sizes: Sizes,
    /// The images of a batch, shared out over the threads.
    parts: Vec<Activations>,
    weights: StepWeights,
    unpacked: Vec<f32>,
}

impl<'a> StreamingEngine<'a> {
    /// Plans the network and allocates all memory that it runs in; reads no weights.
    pub fn new(net: &Net, source: &'a dyn WeightSource, options: &StreamingOptions) -> Self {
        StreamingEngine::with_instruction_set(net, source, options, InstructionSet::best())
    }

    /// As [`new`](Self::new), for a given instruction set, which this machine must have.
    pub fn with_instruction_set(
        net: &Net,
        source: &'a dyn WeightSource,
        options: &StreamingOptions,
        set: InstructionSet,
    ) -> Self {
        let mut plan = Plan::new(net);
        let slices = plan_slices(net, &plan, options.slice_bytes);
        // Winograd's strips are longer for fewer output channels.
        let of_slices = slices.iter().filter_map(|slice| slice.pass.as_ref());
        plan.scratch = of_slices.map(|pass| pass.scratch_len()).fold(plan.scratch, usize::max);
        let sizes = plan_batch(&plan, options, rayon::current_num_threads());
        let parts = (0..sizes.parts).map(|_| Activations::new(&plan, sizes.images)).collect();
        let [unpacked, packed, bias] = plan::largest(&slices);
        let [weight, bias, unpacked] = [packed, bias, unpacked].map(Vec::with_capacity);
        let (net, weights) = (net.clone(), StepWeights { weight, bias });
        StreamingEngine { net, plan, slices, source, set, sizes, parts, weights, unpacked }
    }

    /// Values of one image.
    pub fn input_len(&self) -> usize {
        self.net.input_len()
    }

    /// Number of logits of one image.
    pub fn class_count(&self) -> usize {
        self.net.class_count()
    }

    /// Images of a whole batch: all weights are read once for so many.
    pub fn batch(&self) -> usize {
        self.sizes.batch
    }

    /// Slices that the network's weights are read in.
    pub fn slice_count(&self) -> usize {
        self.slices.iter().filter(|slice| slice.bytes() > 0).count()
    }

    /// Memory of the largest slice, as it is read and as the kernels want it together, in bytes.
    pub fn largest_slice_bytes(&self) -> usize {
        self.slices.iter().map(Slice::bytes).max().unwrap_or(0)
    }

    /// Memory of the activations of a batch and of the kernels' scratch space, in bytes.
    pub fn activation_bytes(&self) -> usize {
        self.sizes.bytes(&self.plan)
    }

    /// Computes the logits `[n, classes]` of `n` images (channel-major, one after the other), batch
    /// by batch.
    ///
    /// # Errors
    /// If the images have another size than the network reads; if a tensor is missing, has another
    /// number of elements than the network says, or cannot be read.
    ///
    /// # Panics
    /// If `logits` does not hold exactly `n * classes` values.
    pub fn forward(&mut self, images: &[f32], logits: &mut [f32]) -> Result<(), EngineError> {
        let (len, classes) = (self.input_len(), self.class_count());
        super::check_images(images, logits, len, classes)?;
        let batch = self.batch();
        for (images, logits) in images.chunks(batch * len).zip(logits.chunks_mut(batch * classes)) {
            self.forward_batch(images, logits)?;
        }
        Ok(())
    }

    fn forward_batch(&mut self, images: &[f32], logits: &mut [f32]) -> Result<(), EngineError> {
        let (len, classes) = (self.input_len(), self.class_count());
        let StreamingEngine { net, plan, parts, weights, unpacked, .. } = self;
        let most = self.sizes.images;
        let parts = &mut parts[..images.len().div_ceil(most * len)];
        let shares = parts.par_iter_mut().zip(images.par_chunks(most * len));
        shares.for_each(|(part, images)| part.load(net, plan, images));
        for Slice { step, pass, .. } in &self.slices {
            let pass = pass.as_ref();
            weights.load(net, &plan.steps[*step], pass, self.source, unpacked)?;
            parts.par_iter_mut().for_each(|part| {
                run::run_step(net, plan, *step, pass, weights, self.set, part);
            });
        }
        let shares = parts.par_iter().zip(logits.par_chunks_mut(most * classes));
        shares.for_each(|(part, logits)| part.read_output(net, plan, logits));
        Ok(())
    }
}
