//! The network that images are learnt from.

use std::ops::Range;

use super::classification::{expect, feature_maps};
use super::{DistillationConfig, TrainError};
use crate::engine::EngineError;
use crate::loss::{Distillation, FeatureDistillation, Loss};
use crate::{Engine, Net, NodeId};

/// A teacher and what it says about a batch.
pub struct Teacher<'a> {
    engine: &'a Engine,
    config: DistillationConfig,
    /// Nodes of the network that learns whose values are compared with the teacher's, and how many values of each
    /// there are for an image.
    taps: Vec<(NodeId, usize)>,
    logits: Vec<f32>,
    features: Vec<Vec<f32>>,
    remembered: Option<Remembered>,
}

impl<'a> Teacher<'a> {
    /// A teacher of `net` about so many training samples.
    pub fn new(
        net: &Net,
        engine: &'a Engine,
        config: DistillationConfig,
        samples: usize,
    ) -> Result<Self, TrainError> {
        let name = format!("the teacher ({})", engine.net().arch());
        expect(&name, engine.input_len(), "values in an image", net, net.input_len())?;
        expect(&name, engine.class_count(), "classes", net, net.class_count())?;
        let width = |net: &Net, id| net.node(id).shape.element_count();
        let taps = if config.features > 0.0 { feature_maps(net) } else { Vec::new() };
        let taps: Vec<_> = taps.into_iter().map(|id| (id, width(net, id))).collect();
        if !taps.is_empty() {
            expect(&name, engine.taps().len(), "feature maps", net, taps.len())?;
        }
        for (&(_, wanted), &other) in taps.iter().zip(engine.taps()) {
            expect(&name, width(engine.net(), other), "values in a feature map", net, wanted)?;
        }
        let remembered =
            (config.views > 0).then(|| Remembered { samples, ..Remembered::default() });
        let (logits, features) = (Vec::new(), Vec::new());
        Ok(Teacher { engine, config, taps, logits, features, remembered })
    }

    /// Nodes of the network that learns whose values are compared.
    pub fn taps(&self) -> impl Iterator<Item = NodeId> {
        self.taps.iter().map(|&(tap, _)| tap)
    }

    /// Whether images are mixed.
    pub fn mixes(&self) -> bool {
        self.config.mixtures
    }

    /// The epoch whose augmentation and mixtures an epoch has.
    pub fn view(&self, epoch: u32) -> u32 {
        epoch.checked_rem(self.config.views).unwrap_or(epoch)
    }

    /// Asks the teacher about the share's `images` of a batch of `samples` in an epoch.
    pub fn ask(
        &mut self,
        epoch: u32,
        samples: &[usize],
        share: Range<usize>,
        images: &[f32],
    ) -> Result<(), EngineError> {
        let (view, classes) = (self.view(epoch), self.engine.class_count());
        self.logits.resize(samples.len() * classes, 0.0);
        let logits = &mut self.logits[share.start * classes..share.end * classes];
        if let Some(remembered) = &mut self.remembered {
            return remembered.logits(self.engine, view, &samples[share], images, logits);
        }
        if self.taps.is_empty() {
            return self.engine.forward(images, logits);
        }
        let features = self.engine.forward_tapped(images, logits)?;
        let whole = |(own, &(_, width))| of_batch(own, width, samples.len(), &share);
        self.features = features.into_iter().zip(&self.taps).map(whole).collect();
        Ok(())
    }

    /// How far the logits of the batch are from what the teacher said.
    pub fn loss<'b>(&'b self, labels: &'b [u16]) -> Distillation<'b> {
        let DistillationConfig { temperature, alpha, .. } = self.config;
        let loss = Distillation::new(&self.logits, self.engine.class_count());
        loss.with_temperature(temperature).with_alpha(alpha).with_labels(labels)
    }

    /// How far the feature maps of the batch are, map by map.
    pub fn feature_losses(&self) -> Vec<Box<dyn Loss + '_>> {
        let mut losses: Vec<Box<dyn Loss + '_>> = Vec::new();
        for (features, &(_, width)) in self.features.iter().zip(&self.taps) {
            let loss = FeatureDistillation::new(features, width);
            losses.push(Box::new(loss.with_weight(self.config.features)));
        }
        losses
    }
}

/// The values of a share's samples where they stand in those of the batch.
fn of_batch(own: Vec<f32>, width: usize, samples: usize, share: &Range<usize>) -> Vec<f32> {
    if share.len() == samples {
        return own;
    }
    let mut all = vec![0.0; samples * width];
    all[share.start * width..share.end * width].copy_from_slice(&own);
    all
}

/// The logits of every sample in every view that was asked about. As an image's logits do not depend on the batch
/// that it is in, it does not matter to any bit which of them are remembered.
#[derive(Default)]
struct Remembered {
    /// Training samples.
    samples: usize,
    /// Of every view so far, sample by sample; NaN where not known.
    logits: Vec<Vec<f32>>,
    /// Places in the batch of those that are not known, their images and logits.
    missing: Vec<usize>,
    images: Vec<f32>,
    found: Vec<f32>,
}

impl Remembered {
    /// Writes the logits of these samples, whose images are given, and asks about those that are not known.
    fn logits(
        &mut self,
        engine: &Engine,
        view: u32,
        samples: &[usize],
        images: &[f32],
        logits: &mut [f32],
    ) -> Result<(), EngineError> {
        let (classes, size, view) = (engine.class_count(), engine.input_len(), view as usize);
        if self.logits.len() <= view {
            self.logits.resize_with(view + 1, Vec::new);
        }
        let known = &mut self.logits[view];
        known.resize(self.samples * classes, f32::NAN);
        let row = |sample: usize| sample * classes..(sample + 1) * classes;
        self.missing.clear();
        self.images.clear();
        for (place, logits) in logits.chunks_exact_mut(classes).enumerate() {
            logits.copy_from_slice(&known[row(samples[place])]);
            if logits[0].is_nan() {
                self.missing.push(place);
                self.images.extend_from_slice(&images[place * size..][..size]);
            }
        }
        self.found.resize(self.missing.len() * classes, 0.0);
        engine.forward(&self.images, &mut self.found)?;
        for (&place, found) in self.missing.iter().zip(self.found.chunks_exact(classes)) {
            logits[row(place)].copy_from_slice(found);
            known[row(samples[place])].copy_from_slice(found);
        }
        Ok(())
    }
}
