//! The weights of a model for inference that reads them while it runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use weightspace_core::{Checkpoint, Decoder, Tensor, TensorInfo};
use weightspace_nn::engine::{SourceError, WeightSource, append_rows};

use super::model::{Model, Source};

impl Model {
    /// Access to some rows of a tensor at a time.
    pub fn weight_source(&self) -> anyhow::Result<Box<dyn WeightSource + '_>> {
        match self.source() {
            Source::Checkpoint(checkpoint) => Ok(Box::new(CheckpointWeights::new(checkpoint))),
            Source::Wsp(file) => Ok(Box::new(DecodedWeights(self.decoder(file)?))),
        }
    }
}

/// Decodes what is asked for, of projected tensors nothing else.
struct DecodedWeights<'a>(Decoder<'a>);

impl WeightSource for DecodedWeights<'_> {
    fn tensor_len(&self, name: &str) -> Option<usize> {
        self.0.info(name).map(TensorInfo::element_count)
    }

    fn rows(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), SourceError> {
        values.extend_from_slice(&self.0.rows(name, rows)?.to_f32());
        Ok(())
    }
}

/// Reads a checkpoint tensor by tensor. One of which more rows will be asked for stays in memory.
struct CheckpointWeights<'a> {
    checkpoint: &'a Checkpoint,
    counts: HashMap<&'a str, usize>,
    begun: RefCell<Option<(String, Tensor)>>,
}

impl<'a> CheckpointWeights<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        let tensors = checkpoint.tensors().iter();
        let counts = tensors.map(|info| (info.name.as_str(), info.element_count())).collect();
        CheckpointWeights { checkpoint, counts, begun: RefCell::default() }
    }
}

impl WeightSource for CheckpointWeights<'_> {
    fn tensor_len(&self, name: &str) -> Option<usize> {
        self.counts.get(name).copied()
    }

    fn rows(
        &self,
        name: &str,
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<(), SourceError> {
        let mut begun = self.begun.borrow_mut();
        let tensor = match begun.take_if(|(begun, _)| begun == name) {
            Some((_, tensor)) => tensor,
            None => self.checkpoint.read_named(name)?,
        };
        append_rows(name, &tensor, rows.clone(), values)?;
        // Vectors are asked for between the rows of a layer's weights, and are quickly read again.
        if let [count, _, ..] = *tensor.shape()
            && rows.end < count
        {
            *begun = Some((name.to_owned(), tensor));
        }
        Ok(())
    }
}
