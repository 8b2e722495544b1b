//! The units of a reference as rows, and where those of another network are read.

use std::borrow::Cow;

use crate::StateDict;
use crate::permutation::{Member, PermutationGroup};

use super::{AlignError, Whose};

/// A tensor on which units stand.
pub(super) struct Touched<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    /// The reference's elements.
    pub reference: Cow<'a, [f32]>,
    /// For each axis the groups that have places on it.
    pub axes: Vec<Vec<usize>>,
    /// Factor of the reference's rows.
    pub scale: f32,
}

/// Products of magnitudes between this and its reciprocal stay far inside of what `f32` holds.
const ORDINARY: f32 = (1u64 << 30) as f32;

/// A power of two by which no product of two tensors overflows, and none that counts vanishes: 1 but for weights beyond all
/// use, as networks that have diverged have them.
pub(super) fn scale(values: &[f32]) -> f32 {
    // In words as wide as the values, which is quicker: the larger a magnitude is, the larger are its bits.
    let magnitude = |value: &f32| value.to_bits() & 0x7fff_ffff;
    let largest = f32::from_bits(values.iter().map(magnitude).fold(0, u32::max));
    match largest == 0.0 || (ORDINARY.recip()..ORDINARY).contains(&largest) {
        true => 1.0,
        false => f32::exp2(-largest.log2().floor().clamp(-126.0, 126.0)),
    }
}

/// Multiplies rows of a tensor, if that changes anything.
pub(super) fn scale_rows(rows: &mut [f32], scale: f32) {
    if scale != 1.0 {
        rows.iter_mut().for_each(|value| *value *= scale);
    }
}

/// A member of a group, and the reference's units there.
pub(super) struct Slot<'a> {
    pub member: &'a Member,
    /// Which of the tensors.
    pub tensor: usize,
    /// Groups on the tensor's other axes, on which the products with another network depend; ascending.
    pub neighbours: Vec<usize>,
    /// The reference's units, one row each, scaled.
    pub rows: Vec<f32>,
    /// Squared length of all of them, scaled.
    pub square: f32,
}

/// All units of a reference.
pub(super) struct Units<'a> {
    pub groups: &'a [PermutationGroup],
    pub tensors: Vec<Touched<'a>>,
    /// The members of each group.
    pub slots: Vec<Vec<Slot<'a>>>,
    /// For each group the slots (group, position) whose products depend on its permutation.
    pub readers: Vec<Vec<(usize, usize)>>,
}

impl<'a> Units<'a> {
    pub fn new(
        groups: &'a [PermutationGroup],
        reference: &'a StateDict,
    ) -> Result<Self, AlignError> {
        let tensors = touched(groups, reference)?;
        let position = |name: &str| tensors.iter().position(|touched| touched.name == name);
        let mut slots = Vec::with_capacity(groups.len());
        let mut readers = vec![Vec::new(); groups.len()];
        for (index, group) in groups.iter().enumerate() {
            let mut own = Vec::with_capacity(group.members.len());
            for member in &group.members {
                let tensor = position(&member.tensor).expect("a tensor of every member");
                let touched = &tensors[tensor];
                let others =
                    touched.axes.iter().enumerate().filter(|(axis, _)| *axis != member.axis);
                let mut neighbours: Vec<usize> =
                    others.flat_map(|(_, groups)| groups.iter().copied()).collect();
                neighbours.sort_unstable();
                neighbours.dedup();
                neighbours.iter().for_each(|&other| readers[other].push((index, own.len())));
                let mut rows = Vec::new();
                let sources = identity(&touched.shape);
                member.gather(&touched.reference, touched, &sources, &mut rows);
                scale_rows(&mut rows, touched.scale);
                let square = squared_length(&rows);
                own.push(Slot { member, tensor, neighbours, rows, square });
            }
            slots.push(own);
        }
        Ok(Units { groups, tensors, slots, readers })
    }
}

/// The tensors of all members, in the order of the groups.
fn touched<'a>(
    groups: &'a [PermutationGroup],
    reference: &'a StateDict,
) -> Result<Vec<Touched<'a>>, AlignError> {
    let mut tensors: Vec<Touched<'_>> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for member in &group.members {
            let name = &member.tensor;
            let whose = Whose::Reference;
            let tensor = reference.get(name);
            let tensor = tensor.ok_or_else(|| AlignError::Missing { whose, name: name.clone() })?;
            if !tensor.dtype().is_float() {
                let found = tensor.dtype();
                return Err(AlignError::Type { whose, name: name.clone(), found });
            }
            member.check(tensor.shape())?;
            let known = tensors.iter().position(|touched| touched.name == *name);
            let position = known.unwrap_or_else(|| {
                let shape = tensor.shape().to_vec();
                let axes = vec![Vec::new(); shape.len()];
                let reference = tensor.to_f32();
                let scale = scale(&reference);
                tensors.push(Touched { name, shape, reference, axes, scale });
                tensors.len() - 1
            });
            let axis = &mut tensors[position].axes[member.axis];
            if axis.last() != Some(&index) {
                axis.push(index);
            }
        }
    }
    Ok(tensors)
}

/// Positions of all axes, each in its place.
pub(super) fn identity(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().map(|&len| (0..len).collect()).collect()
}

impl Touched<'_> {
    /// The last axis that moves: behind it, elements stand together.
    fn last_moving(&self) -> usize {
        self.axes.iter().rposition(|groups| !groups.is_empty()).unwrap_or(0)
    }

    /// Elements between neighbours on an axis.
    fn stride(&self, axis: usize) -> usize {
        self.shape[axis + 1..].iter().product()
    }

    /// Where the elements at all positions of some axes begin, the last axis fastest, each axis in the order of
    /// `sources`.
    fn offsets(&self, axes: impl Iterator<Item = usize>, sources: &[Vec<usize>]) -> Vec<usize> {
        axes.fold(vec![0], |starts, axis| {
            let stride = self.stride(axis);
            let along = |start| sources[axis].iter().map(move |&at| start + at * stride);
            starts.into_iter().flat_map(along).collect()
        })
    }

    /// The other network's elements with the positions of all axes in the order of `sources`.
    pub fn reorder<'b>(
        &self,
        other: &[f32],
        sources: &[Vec<usize>],
        buffer: &'b mut Vec<f32>,
    ) -> &'b [f32] {
        let last = self.last_moving();
        let run: usize = self.shape[last + 1..].iter().product();
        let starts = self.offsets(0..=last, sources);
        let reordered = part_of(buffer, starts.len() * run);
        fill_with_runs(reordered, other, &starts, run);
        reordered
    }
}

/// The squared length of a vector, to a few digits.
pub(super) fn squared_length(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * value);
    }
    sums.into_iter().chain(rest.iter().map(|value| value * value)).sum()
}

/// The sum of a function of what stands at the same place of two vectors.
///
/// # Panics
/// If one is longer.
pub(super) fn sum_of_pairs(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    /// Partial sums, so that no addition waits for the one before.
    const LANES: usize = 8;
    assert_eq!(a.len(), b.len(), "vectors of one length");
    let mut sums = [0.0; LANES];
    let ((whole_a, rest_a), (whole_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            sums[lane] += term(f64::from(a[lane]), f64::from(b[lane]));
        }
    }
    let rest = rest_a.iter().zip(rest_b).map(|(&a, &b)| term(f64::from(a), f64::from(b)));
    sums.into_iter().chain(rest).sum()
}

/// The first `len` elements of a buffer, which grows but never shrinks: what is in them is of no account.
fn part_of(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Fills a row with `run` values from each of the places on.
fn fill_with_runs(row: &mut [f32], values: &[f32], starts: &[usize], run: usize) {
    /// A length that is known when this is compiled spares a call for every few numbers.
    fn of<const RUN: usize>(row: &mut [f32], values: &[f32], starts: &[usize]) {
        for (run, &at) in row.as_chunks_mut::<RUN>().0.iter_mut().zip(starts) {
            run.copy_from_slice(&values[at..at + RUN]);
        }
    }
    match run {
        1 => of::<1>(row, values, starts),
        9 => of::<9>(row, values, starts),
        _ => {
            let runs = row.chunks_exact_mut(run.max(1)).zip(starts);
            runs.for_each(|(part, &at)| part.copy_from_slice(&values[at..at + run]));
        }
    }
}

impl Member {
    /// Writes where the positions of the units come from; `sources` is as long as the axis.
    pub(super) fn write_sources(&self, permutation: &[usize], sources: &mut [usize]) {
        for (&to, &from) in self.places.iter().zip(permutation) {
            for offset in 0..self.block {
                sources[to * self.block + offset] = self.places[from] * self.block + offset;
            }
        }
    }

    /// Makes a row of each unit: its elements with the positions of all other axes in the order of
    /// `sources`. Rows of two networks have the same order.
    pub(super) fn gather<'b>(
        &self,
        values: &[f32],
        touched: &Touched,
        sources: &[Vec<usize>],
        buffer: &'b mut Vec<f32>,
    ) -> &'b mut [f32] {
        let last = touched.last_moving().max(self.axis);
        let run: usize = touched.shape[last + 1..].iter().product();
        let columns = touched.offsets((0..=last).filter(|&axis| axis != self.axis), sources);
        let len = columns.len() * run;
        let rows = part_of(buffer, self.places.len() * self.block * len);
        let positions =
            self.places.iter().flat_map(|&place| place * self.block..(place + 1) * self.block);
        for (row, position) in rows.chunks_exact_mut(len.max(1)).zip(positions) {
            let values = &values[position * touched.stride(self.axis)..];
            fill_with_runs(row, values, &columns, run);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn rows_are_units_with_the_other_axes_reordered() {
        // 2 x 4 x 2; element (i, j, k) is 100 i + 10 j + k.
        let values: Vec<f32> =
            (0..16).map(|n| (n / 8 * 100 + n / 2 % 4 * 10 + n % 2) as f32).collect();
        let reference: StateDict =
            [("w".to_owned(), Tensor::from_f32(vec![2, 4, 2], &values))].into_iter().collect();
        let member = |axis, block, places: &[usize]| Member {
            tensor: "w".into(),
            axis,
            block,
            places: places.to_vec(),
        };
        let first = PermutationGroup { size: 2, members: vec![member(0, 1, &[0, 1])] };
        let second = PermutationGroup { size: 2, members: vec![member(1, 2, &[1, 0])] };
        let groups = [first, second];
        let units = Units::new(&groups, &reference).unwrap();
        let rows = &units.slots[1][0].rows;
        assert_eq!(rows[..8], [20.0, 21.0, 120.0, 121.0, 30.0, 31.0, 130.0, 131.0]);
        assert_eq!(rows[8..], [0.0, 1.0, 100.0, 101.0, 10.0, 11.0, 110.0, 111.0]);
        assert_eq!(units.slots[0][0].neighbours, [1]);
        assert_eq!(units.readers, [vec![(1, 0)], vec![(0, 0)]]);
        let mut sources = identity(&[2, 4, 2]);
        groups[1].members[0].write_sources(&[1, 0], &mut sources[1]);
        assert_eq!(sources[1], [2, 3, 0, 1]);
        let mut buffer = Vec::new();
        let rows = groups[0].members[0].gather(&values, &units.tensors[0], &sources, &mut buffer);
        assert_eq!(rows[8..], [120.0, 121.0, 130.0, 131.0, 100.0, 101.0, 110.0, 111.0]);
    }
}
