//! What ranks say to each other in a step, besides gradients and loss.

use std::sync::Arc;

use crate::comm::Communicator;
use crate::kernels::batch_norm::ChannelSums;

/// Sends the sums of batch normalisations to all ranks.
pub struct Exchange {
    comm: Arc<dyn Communicator>,
    own: Vec<f64>,
    all: Vec<f64>,
}

impl Exchange {
    /// Between these ranks.
    pub fn new(comm: Arc<dyn Communicator>) -> Self {
        Exchange { comm, own: Vec::new(), all: Vec::new() }
    }

    /// The moments of all parts of the batch, in the order of ranks and of threads within them, given
    /// those of this rank's threads with the number of values behind each. Of every part there are that
    /// number and, of each channel, pivot, sum and squares.
    ///
    /// Parts are sent rather than their sums, so that threads of other ranks are like threads of this.
    pub fn moments<'a>(
        &mut self,
        parts: impl Iterator<Item = (&'a ChannelSums, f64)>,
        channels: usize,
    ) -> &[f64] {
        self.own.clear();
        for (sums, values) in parts {
            self.own.push(values);
            for (&pivot, [sum, squares]) in sums.pivot.iter().zip(&sums.sums).take(channels) {
                self.own.extend([f64::from(pivot), *sum, *squares]);
            }
        }
        self.all.resize(self.own.len() * self.comm.size(), 0.0);
        self.comm.gather_f64(&self.own, &mut self.all);
        &self.all
    }

    /// Adds up the sums of all ranks and the number of values behind them; returns that number.
    pub fn sum(&mut self, sums: &mut ChannelSums, values: f64) -> f64 {
        self.own.clear();
        self.own.extend(sums.sums.as_flattened());
        self.own.push(values);
        self.comm.sum_f64(&mut self.own);
        let (total, own) = self.own.split_last().expect("the number of values");
        sums.sums.as_flattened_mut().copy_from_slice(own);
        *total
    }

    /// The smallest number that any rank has.
    pub fn min(&mut self, own: Option<usize>) -> Option<usize> {
        let own = own.map_or(f64::INFINITY, |own| own as f64);
        let mut all = vec![0.0; self.comm.size()];
        self.comm.gather_f64(&[own], &mut all);
        let least = all.into_iter().fold(f64::INFINITY, f64::min);
        least.is_finite().then_some(least as usize)
    }
}
