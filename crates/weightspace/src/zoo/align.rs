//! The models of a population with their units in one order.
//!
//! Every model is matched to one reference by its weights after its last epoch; the same permutations
//! then hold for all its epochs, so that what happens to a unit during training stays visible.

use std::path::Path;

use rayon::prelude::*;
use weightspace_core::StateDict;
use weightspace_core::align::{AlignOptions, Aligner, Alignment};
use weightspace_core::permutation::{self, PermutationGroup};
use weightspace_nn::arch;

use super::import::Progress;
use super::names::renamed;
use super::{Damaged, Import, Population, Survey, ZooError};

/// Models that every thread is given at a time.
const MODELS_PER_THREAD: usize = 4;

/// What models of a population are aligned to.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Name of the model.
    pub name: String,
    /// Its last epoch, whose weights these are.
    pub epoch: u32,
    /// Its weights.
    pub weights: StateDict,
    /// Units that may be permuted, of the network that the weights are of.
    pub groups: Vec<PermutationGroup>,
}

impl Reference {
    /// The model `index` of a population, after its last epoch.
    ///
    /// # Errors
    /// If it is damaged, or its tensors are those of no known network.
    ///
    /// # Panics
    /// If there is no model `index`.
    pub fn read(population: &Population, index: usize) -> Result<Self, ZooError> {
        let name = population.name(index).to_owned();
        let refuse = |reason: String| ZooError::malformed(&population.place(index), reason);
        let epoch = last_epoch(population, index)?;
        let weights = population.weights(index, epoch)?;
        let net = arch::recognise(&weights.infos()).map_err(|error| refuse(error.to_string()))?;
        let groups = net.permutation_groups();
        match groups.is_empty() {
            true => Err(refuse(format!("{} has no units that may be permuted", net.arch()))),
            false => Ok(Reference { name, epoch, weights, groups }),
        }
    }
}

impl Reference {
    /// The first model that can be read and has finite weights.
    ///
    /// # Errors
    /// As [`read`](Self::read) of the first model, if there is none.
    pub fn first_sound(population: &Population) -> Result<Self, ZooError> {
        let finite = |reference: &Self| {
            reference.weights.iter().all(|(_, tensor)| tensor.is_finite_as_f32())
        };
        let mut all = (0..population.len()).filter_map(|index| Self::read(population, index).ok());
        all.find(finite).map_or_else(|| Self::read(population, 0), Ok)
    }
}

/// Aligns every model of a population to a reference, on all threads. Models may name their tensors in other
/// ways; their groups of units are the same, in the same order. The results are in the order of the
/// population and do not depend on the number of threads; weights of one model per thread are in
/// memory.
///
/// # Errors
/// If the reference's weights are not finite. What is wrong with a single model stands in its place.
pub fn align(
    population: &Population,
    reference: &Reference,
    options: &AlignOptions,
    progress: Progress<'_>,
) -> Result<Vec<Result<Alignment, ZooError>>, ZooError> {
    let path = population.path().join(&reference.name);
    let aligner = Aligner::new(&reference.groups, &reference.weights, options.clone());
    let aligner = aligner.map_err(|error| ZooError::malformed(&path, error))?;
    let names = reference.weights.infos();
    let one = |index: usize| {
        let weights = population.weights(index, last_epoch(population, index)?)?;
        let refuse = |error| ZooError::malformed(&population.place(index), error);
        aligner.align(&renamed(weights, &names)).map_err(refuse)
    };
    let mut found = Vec::with_capacity(population.len());
    let indices: Vec<usize> = (0..population.len()).collect();
    for indices in indices.chunks(MODELS_PER_THREAD * rayon::current_num_threads()) {
        found.par_extend(indices.par_iter().map(|&index| one(index)));
        progress("aligning models", found.len(), population.len());
    }
    Ok(found)
}

/// Those models that could be aligned with their alignments, and what is wrong with the others.
pub fn sound(
    population: &Population,
    found: Vec<Result<Alignment, ZooError>>,
) -> (Population, Vec<Alignment>, Vec<Damaged>) {
    let (mut indices, mut alignments, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    for (index, result) in found.into_iter().enumerate() {
        match result {
            Ok(alignment) => {
                indices.push(index);
                alignments.push(alignment);
            }
            Err(error) => {
                let name = population.name(index).to_owned();
                damaged.push(Damaged { name, reason: error.to_string() });
            }
        }
    }
    (population.subset(indices), alignments, damaged)
}

/// Writes a packed file of a population with the units of every model permuted, at all epochs alike.
///
/// # Errors
/// As [`Import::write`].
///
/// # Panics
/// If there is not one alignment for each model.
pub fn write(
    population: &Population,
    reference: &Reference,
    alignments: &[Alignment],
    path: &Path,
    progress: Progress<'_>,
) -> Result<Survey, ZooError> {
    assert_eq!(alignments.len(), population.len(), "an alignment for each model");
    let names = reference.weights.infos();
    let permute = |index: usize, weights: &mut StateDict| {
        let own = weights.infos();
        let mut moved = renamed(std::mem::take(weights), &names);
        let permutations = &alignments[index].permutations;
        permutation::apply(&reference.groups, permutations, &mut moved)
            .map_err(|error| ZooError::malformed(&population.place(index), error))?;
        *weights = renamed(moved, &own);
        Ok(())
    };
    Import::default().write_changed(population, path, &permute, progress)
}

fn last_epoch(population: &Population, index: usize) -> Result<u32, ZooError> {
    let epochs = population.model(index)?.epochs;
    epochs.last().copied().ok_or_else(|| {
        let path = population.place(index);
        ZooError::malformed(&path, "no weights of any epoch")
    })
}
