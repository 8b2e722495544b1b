//! The engine: a network planned once, then run batch after batch without allocating.
//!
//! Images go through the network in small chunks, one chunk per thread at a time. Every image's
//! result is independent of the chunk it is in and of the number of threads.

mod fusion;
mod plan;
pub mod product;
mod run;
mod single;
mod source;
mod streaming;
pub mod training;
mod weights;

use std::sync::Mutex;

use rayon::prelude::*;
use weightspace_core::StateDict;

pub use plan::{Plan, Step, StepKind};
pub use run::Activations;
pub use source::{SourceError, WeightSource, append_rows};
pub use streaming::{StreamingEngine, StreamingOptions};
pub use weights::{StepWeights, batch_norm_affine};

use crate::kernels::simd::InstructionSet;
use crate::net::{Net, NodeId};

/// Why a network cannot run with the weights it is given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A tensor of the network is not in the state dict.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Name of the tensor.
        name: String,
    },
    /// A tensor has another number of elements than the network says.
    #[error("tensor {name} has {found} elements, expected {expected}")]
    WrongSize {
        /// Name of the tensor.
        name: String,
        /// Elements in the state dict.
        found: usize,
        /// Elements of the network.
        expected: usize,
    },
    /// The layer cannot be used in this way.
    #[error("layer {layer} is not a batch normalisation")]
    Unsupported {
        /// Name of the layer.
        layer: String,
    },
    /// Images of the wrong size.
    #[error("the images have {found} values each, the network reads {expected}")]
    WrongInput {
        /// Values of one image.
        found: usize,
        /// Values that the network reads.
        expected: usize,
    },
    /// Weights cannot be read.
    #[error(transparent)]
    Source(SourceError),
}

/// Checks that images of `len` values fill `images`, and their logits `logits`.
fn check_images(
    images: &[f32],
    logits: &[f32],
    len: usize,
    classes: usize,
) -> Result<(), EngineError> {
    if !images.len().is_multiple_of(len) {
        let found = images.len() * classes / logits.len().max(1);
        return Err(EngineError::WrongInput { found, expected: len });
    }
    assert_eq!(logits.len(), images.len() / len * classes, "logits of every image");
    Ok(())
}

/// A network ready to run.
pub struct Engine {
    net: Net,
    plan: Plan,
    /// Nodes whose values can be asked for.
    taps: Vec<NodeId>,
    weights: Vec<StepWeights>,
    set: InstructionSet,
    /// Buffers of earlier calls, so that memory is touched for the first time only once.
    pool: Mutex<Vec<Activations>>,
}

impl Engine {
    /// Plans the network and packs its weights for the best instruction set of the machine.
    ///
    /// # Errors
    /// If a tensor is missing or has another number of elements than the network says.
    pub fn new(net: &Net, weights: &StateDict) -> Result<Self, EngineError> {
        Engine::with_instruction_set(net, weights, InstructionSet::best())
    }

    /// As [`new`](Self::new), for a given instruction set.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// # Panics
    /// On the first run, if this machine does not have the instruction set.
    pub fn with_instruction_set(
        net: &Net,
        weights: &StateDict,
        set: InstructionSet,
    ) -> Result<Self, EngineError> {
        Engine::plan_with(net, weights, set, &[])
    }

    /// As [`new`](Self::new), with nodes whose values [`forward_tapped`](Self::forward_tapped) gives.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_taps(net: &Net, weights: &StateDict, taps: &[NodeId]) -> Result<Self, EngineError> {
        Engine::plan_with(net, weights, InstructionSet::best(), taps)
    }

    fn plan_with(
        net: &Net,
        weights: &StateDict,
        set: InstructionSet,
        taps: &[NodeId],
    ) -> Result<Self, EngineError> {
        let plan = Plan::with_taps(net, taps);
        let weights = StepWeights::all(net, &plan, weights)?;
        let (net, taps, pool) = (net.clone(), taps.to_vec(), Mutex::default());
        Ok(Engine { net, plan, taps, weights, set, pool })
    }

    /// The nodes whose values [`forward_tapped`](Self::forward_tapped) gives.
    pub fn taps(&self) -> &[NodeId] {
        &self.taps
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Number of logits of one image.
    pub fn class_count(&self) -> usize {
        self.net.class_count()
    }

    /// Values of one image.
    pub fn input_len(&self) -> usize {
        self.net.input_len()
    }

    /// Replaces the weights of one step by those of another state dict: layerwise methods change
    /// one layer at a time.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn reload_step(&mut self, step: usize, weights: &StateDict) -> Result<(), EngineError> {
        self.weights[step] = StepWeights::new(&self.net, &self.plan, step, weights)?;
        Ok(())
    }

    /// Computes the logits `[n, classes]` of `n` images (channel-major, one after the other).
    ///
    /// # Errors
    /// If the images have another size than the network reads.
    ///
    /// # Panics
    /// If `logits` does not hold exactly `n * classes` values.
    pub fn forward(&self, images: &[f32], logits: &mut [f32]) -> Result<(), EngineError> {
        let (len, classes) = (self.input_len(), self.class_count());
        check_images(images, logits, len, classes)?;
        let chunk = self.plan.chunk();
        let chunks = images.par_chunks(chunk * len).zip(logits.par_chunks_mut(chunk * classes));
        chunks.for_each(|(images, logits)| {
            let activations = self.run(images, logits);
            self.give_activations(activations);
        });
        Ok(())
    }

    /// As [`forward`](Self::forward), and the values of the tapped nodes of every image, channel-major, tap by tap.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_tapped(
        &self,
        images: &[f32],
        logits: &mut [f32],
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let (len, classes) = (self.input_len(), self.class_count());
        check_images(images, logits, len, classes)?;
        let chunk = self.plan.chunk();
        let chunks = images.par_chunks(chunk * len).zip(logits.par_chunks_mut(chunk * classes));
        let tapped: Vec<Vec<Vec<f32>>> = chunks
            .map(|(images, logits)| {
                let activations = self.run(images, logits);
                let values = self.taps.iter().map(|&tap| self.tapped(tap, &activations)).collect();
                self.give_activations(activations);
                values
            })
            .collect();
        let of_tap = |tap: usize| tapped.iter().flat_map(|chunk| &chunk[tap]).copied().collect();
        Ok((0..self.taps.len()).map(of_tap).collect())
    }

    /// All steps on one chunk of images.
    fn run(&self, images: &[f32], logits: &mut [f32]) -> Activations {
        let mut activations = self.take_activations();
        activations.load(&self.net, &self.plan, images);
        for step in 0..self.plan.steps.len() {
            self.run_step(step, &mut activations);
        }
        activations.read_output(&self.net, &self.plan, logits);
        activations
    }

    fn tapped(&self, tap: NodeId, activations: &Activations) -> Vec<f32> {
        let len = self.net.node(tap).shape.element_count();
        let mut values = vec![0.0; activations.images() * len];
        for (image, values) in values.chunks_exact_mut(len).enumerate() {
            if let Some(blocked) = activations.value(&self.plan, tap, image) {
                self.plan.layouts[tap.index()].gather(blocked, values);
            }
        }
        values
    }

    /// Buffers for one chunk of images, from the pool.
    pub fn take_activations(&self) -> Activations {
        let pooled = self.pool.lock().unwrap_or_else(|e| e.into_inner()).pop();
        pooled.unwrap_or_else(|| Activations::new(&self.plan, self.plan.chunk()))
    }

    /// Gives buffers back to the pool.
    pub fn give_activations(&self, activations: Activations) {
        self.pool.lock().unwrap_or_else(|e| e.into_inner()).push(activations);
    }

    /// Runs one step for the images that `activations` holds.
    pub fn run_step(&self, step: usize, activations: &mut Activations) {
        let (pass, weights) = (self.plan.passes[step].as_ref(), &self.weights[step]);
        run::run_step(&self.net, &self.plan, step, pass, weights, self.set, activations);
    }
}
