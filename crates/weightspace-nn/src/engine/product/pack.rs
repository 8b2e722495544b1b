//! Weights in the order in which the kernels read them, and their gradients back.

use super::{Algorithm, Pass, Run};
use crate::kernels::maps::BLOCK;
use crate::kernels::pack::{for_each_packed, pack_columns, pack_rows, packed_len, unpack_rows};
use crate::kernels::scatter::LANES;
use crate::kernels::winograd::{
    POSITIONS, for_each_filter, transform_filter, transform_filter_gradient,
};

impl Pass {
    /// Length of the packed weights.
    pub fn packed_len(&self) -> usize {
        let of_run =
            |run: &Run, taps: usize| packed_len(run.out_blocks * BLOCK, run.in_channels, taps);
        match &self.algorithm {
            Algorithm::Rows(_) => self.runs.iter().map(|run| of_run(run, 1)).sum(),
            Algorithm::Direct(classes) => classes
                .iter()
                .flat_map(|class| self.runs.iter().map(|run| of_run(run, class.taps.len())))
                .sum(),
            Algorithm::Scatter(blocks) => packed_len(blocks * BLOCK, self.from.channels, 1),
            Algorithm::Winograd { tiles, .. } => tiles.weights_len(),
        }
    }

    /// Length of the scratch memory of a run.
    pub fn scratch_len(&self) -> usize {
        match &self.algorithm {
            Algorithm::Winograd { tiles, .. } => tiles.scratch_len(),
            Algorithm::Scatter(blocks) => self.from.width * blocks * BLOCK,
            _ => 0,
        }
    }

    /// Calls `f(position in the packed weights, position in the weight tensor)` for every weight;
    /// not for Winograd's.
    fn for_each_weight(&self, mut f: impl FnMut(usize, usize)) {
        const ONE: &[usize] = &[0];
        let mut base = 0;
        let mut of_class = |positions: &[usize]| {
            for run in &self.runs {
                let (out, input) = (run.out_block * BLOCK, run.in_block * BLOCK);
                let outputs = (run.out_blocks * BLOCK).min(self.to.channels - out);
                for_each_packed((outputs, run.in_channels, positions.len()), |at, o, i, tap| {
                    let (o, i) = (out + o, input + i);
                    let (o, i) = if self.transposed { (i, o) } else { (o, i) };
                    if o < self.weight.out_channels
                        && let Some(position) = self.weight.position(o, i, positions[tap])
                    {
                        f(base + at, position);
                    }
                });
                base += packed_len(run.out_blocks * BLOCK, run.in_channels, positions.len());
            }
        };
        match &self.algorithm {
            Algorithm::Rows(_) => of_class(ONE),
            Algorithm::Direct(classes) => classes.iter().for_each(|c| of_class(&c.positions)),
            &Algorithm::Scatter(blocks) => {
                let sizes = (blocks * BLOCK, self.from.channels, 1);
                for_each_packed(sizes, |at, lane, o, _| {
                    let (tap, i) = (lane / LANES, lane % LANES);
                    if tap < self.weight.taps()
                        && i < self.to.channels
                        && let Some(position) = self.weight.position(o, i, tap)
                    {
                        f(at, position);
                    }
                });
            }
            Algorithm::Winograd { .. } => {}
        }
    }

    fn for_each_filter(&self, mut f: impl FnMut(usize, usize)) {
        for_each_filter(self.outputs().len(), self.from.channels, |at, o, i| {
            let (o, i) = if self.transposed { (i, o) } else { (o, i) };
            f(at, (o * self.weight.in_channels + i) * 9);
        });
    }

    /// Packs a weight tensor, or a slice's rows of it; what `packed` holds for weights that do not
    /// exist must be zero.
    pub fn pack(&self, weight: &[f32], packed: &mut [f32]) {
        if let Algorithm::Rows(_) = self.algorithm {
            let sizes = (self.outputs().len(), self.from.channels);
            return match self.transposed {
                false => pack_rows(weight, sizes, packed),
                true => pack_columns(weight, sizes, packed),
            };
        }
        let Algorithm::Winograd { tiles, turned, .. } = self.algorithm else {
            let first = self.blocks.start * BLOCK * self.weight.len() / self.weight.out_channels;
            return self.for_each_weight(|at, position| packed[at] = weight[position - first]);
        };
        let next = tiles.weights_len() / POSITIONS;
        self.for_each_filter(|at, position| {
            let filter: [f32; 9] =
                std::array::from_fn(|t| weight[position + if turned { 8 - t } else { t }]);
            for (p, value) in transform_filter(filter).into_iter().enumerate() {
                packed[at + p * next] = value;
            }
        });
    }

    /// Adds a packed gradient of the weights to that of the tensor.
    pub fn unpack(&self, packed: &[f32], gradient: &mut [f32]) {
        if let (Algorithm::Rows(_), false) = (&self.algorithm, self.transposed) {
            return unpack_rows(packed, (self.to.channels, self.from.channels), gradient);
        }
        let Algorithm::Winograd { tiles, .. } = self.algorithm else {
            return self.for_each_weight(|at, position| gradient[position] += packed[at]);
        };
        let next = tiles.weights_len() / POSITIONS;
        self.for_each_filter(|at, position| {
            let transformed = std::array::from_fn(|p| packed[at + p * next]);
            for (t, value) in transform_filter_gradient(transformed).into_iter().enumerate() {
                gradient[position + t] += value;
            }
        });
    }
}
