//! One search: permutations of all groups, and the products that say how good they are.

use std::borrow::Cow;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::TOLERANCE;
use super::assignment::{maximise, value};
use super::units::{Slot, Units, identity, scale, scale_rows, squared_length, sum_of_pairs};
use crate::instruction_set::leave_wide_registers;
use crate::random::Stream;

/// Both networks, and what of their products no permutation changes.
pub(super) struct Products<'a> {
    units: &'a Units<'a>,
    /// The other network's weights of every touched tensor.
    values: &'a [Cow<'a, [f32]>],
    /// Factors of its rows, for each tensor.
    scales: Vec<f32>,
    /// For each group the sum over slots without neighbours.
    constant: Vec<Sum>,
}

/// The inner products of the units on one tensor.
#[derive(Clone, Default)]
struct Product {
    /// Of the reference's units (rows) with the other network's (columns), scaled.
    matrix: Vec<f32>,
    /// Squared length of each of the other network's units there, scaled; the same for all permutations.
    squares: Vec<f32>,
}

/// Products of a group's units, summed over slots.
#[derive(Clone, Default)]
struct Sum {
    /// Size x size.
    matrix: Vec<f64>,
    /// Squared length of each of the other network's units.
    squares: Vec<f64>,
    /// Squared length of all of the reference's units.
    reference: f64,
}

impl Sum {
    fn zeros(size: usize) -> Self {
        Sum { matrix: vec![0.0; size * size], squares: vec![0.0; size], reference: 0.0 }
    }

    /// The permutation of the largest sum.
    ///
    /// At prices of |b|^2 / 2 each unit wants the one that is nearest: |a - b|^2 / 2 is smallest where a b - |b|^2 / 2
    /// is largest. Here the other network counts as if it were as large as the reference, or products would vanish
    /// beside the prices of a network that is much larger.
    fn best(&self) -> Vec<usize> {
        let ratio = self.reference.sqrt() / self.squares.iter().sum::<f64>().sqrt();
        let ratio = if ratio.is_finite() { ratio } else { 0.0 };
        let prices: Vec<f64> = self.squares.iter().map(|square| square * ratio / 2.0).collect();
        maximise(&self.matrix, &prices)
    }
}

impl<'a> Products<'a> {
    pub fn new(units: &'a Units<'a>, values: &'a [Cow<'a, [f32]>]) -> Self {
        let sources: Vec<_> = units.tensors.iter().map(|t| identity(&t.shape)).collect();
        let scales = values.iter().map(|values| scale(values)).collect();
        let mut products = Products { units, values, scales, constant: Vec::new() };
        let mut buffer = Vec::new();
        for (group, slots) in units.groups.iter().zip(&units.slots) {
            let mut sum = Sum::zeros(group.size);
            for slot in slots.iter().filter(|slot| slot.neighbours.is_empty()) {
                let mut product = Product::default();
                products.of(slot, &sources, &mut buffer, &mut product);
                products.add(slot, &product, &mut sum);
            }
            products.constant.push(sum);
        }
        products
    }

    /// Squared distance of the networks over all touched tensors, with no unit moved.
    pub fn distance(&self) -> f64 {
        let tensors = self.units.tensors.iter().zip(self.values);
        tensors.map(|(touched, values)| squared_distance(&touched.reference, values)).sum()
    }

    /// The inner products of a slot's units.
    fn of(
        &self,
        slot: &Slot,
        sources: &[Vec<Vec<usize>>],
        buffer: &mut Vec<f32>,
        product: &mut Product,
    ) {
        let (touched, count) = (&self.units.tensors[slot.tensor], slot.member.places.len());
        let sources = &sources[slot.tensor];
        let rows = slot.member.gather(&self.values[slot.tensor], touched, sources, buffer);
        scale_rows(rows, self.scales[slot.tensor]);
        if product.squares.is_empty() {
            let units = rows.chunks_exact((rows.len() / count.max(1)).max(1));
            product.squares = units.map(squared_length).collect();
        }
        product.matrix.resize(count * count, 0.0);
        multiply_with_transposed(&mut product.matrix, &slot.rows, rows, count);
    }

    /// Adds what [`of`](Self::of) has found, as it is without scales.
    fn add(&self, slot: &Slot, product: &Product, sum: &mut Sum) {
        // Exact, of powers of two.
        let [a, b] =
            [self.units.tensors[slot.tensor].scale, self.scales[slot.tensor]].map(f64::from);
        let factor = (a * b).recip();
        for (sum, &term) in sum.matrix.iter_mut().zip(&product.matrix) {
            *sum += factor * f64::from(term);
        }
        for (sum, &square) in sum.squares.iter_mut().zip(&product.squares) {
            *sum += f64::from(square) / (b * b);
        }
        sum.reference += f64::from(slot.square) / (a * a);
    }
}

fn inner_product(a: &[f32], b: &[f32]) -> f64 {
    sum_of_pairs(a, b, |a, b| a * b)
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    sum_of_pairs(a, b, |a, b| (a - b).powi(2))
}

/// `product` = A B^T for A and B of `count` rows, all row-major.
fn multiply_with_transposed(product: &mut [f32], a: &[f32], b: &[f32], count: usize) {
    assert_eq!((product.len(), a.len()), (count * count, b.len()));
    let columns = a.len() / count.max(1);
    assert_eq!(a.len(), count * columns);
    let rows = |of| MatRef::from_row_major_slice(of, count, columns);
    let product = MatMut::from_row_major_slice_mut(product, count, count);
    matmul(product, Accum::Replace, rows(a), rows(b).transpose(), 1.0, Par::Seq);
    leave_wide_registers();
}

/// Permutations of all groups while they are looked for.
pub(super) struct Matching<'a> {
    products: &'a Products<'a>,
    permutations: Vec<Vec<usize>>,
    /// For each tensor and axis, where the permuted network's positions come from.
    sources: Vec<Vec<Vec<usize>>>,
    /// For each slot with neighbours its product, and whether that is of the present permutations.
    kept: Vec<Vec<(Product, bool)>>,
    /// Groups that are matched, and none of whose products has changed since.
    settled: Vec<bool>,
    buffer: Vec<f32>,
    sum: Sum,
}

impl<'a> Matching<'a> {
    /// All units where they are.
    pub fn new(products: &'a Products<'a>) -> Self {
        let units = products.units;
        Matching {
            products,
            permutations: units.groups.iter().map(|group| (0..group.size).collect()).collect(),
            sources: units.tensors.iter().map(|touched| identity(&touched.shape)).collect(),
            kept: units.slots.iter().map(|slots| vec![Default::default(); slots.len()]).collect(),
            settled: vec![false; units.groups.len()],
            buffer: Vec::new(),
            sum: Sum::default(),
        }
    }

    pub fn permutations(&self) -> &[Vec<usize>] {
        &self.permutations
    }

    /// Squared distance of the permuted network over all touched tensors.
    pub fn distance(&mut self) -> f64 {
        let tensors = 0..self.sources.len();
        tensors.map(|tensor| self.compare(tensor, squared_distance)).sum()
    }

    /// Compares a tensor of the reference and of the permuted network.
    fn compare(&mut self, tensor: usize, by: impl Fn(&[f32], &[f32]) -> f64) -> f64 {
        let Products { units, values, .. } = self.products;
        let touched = &units.tensors[tensor];
        let sources = &self.sources[tensor];
        by(&touched.reference, touched.reorder(&values[tensor], sources, &mut self.buffer))
    }

    /// Matches one group after the other, each by what is known of it: products of slots whose
    /// neighbours are matched. The group of which most is known comes next.
    pub fn propagate(&mut self) {
        let slots = &self.products.units.slots;
        let mut matched = vec![false; slots.len()];
        for _ in 0..slots.len() {
            let known = |slot: &&Slot| slot.neighbours.iter().all(|&other| matched[other]);
            let columns = |group: usize| -> usize {
                let known = slots[group].iter().filter(known);
                known.map(|slot| slot.rows.len() / slot.member.places.len().max(1)).sum()
            };
            let open = (0..slots.len()).filter(|&group| !matched[group]).rev();
            let Some(group) = open.max_by_key(|&group| columns(group)) else { return };
            let which: Vec<bool> = slots[group].iter().map(|slot| known(&slot)).collect();
            self.add_up(group, |position| which[position]);
            self.set(group, self.sum.best());
            matched[group] = true;
        }
    }

    /// Sweeps over all groups until none can be improved; the number of sweeps, and whether that was
    /// so.
    pub fn sweep(&mut self, max_sweeps: usize, random: &mut Stream) -> (usize, bool) {
        let mut order: Vec<usize> = (0..self.permutations.len()).collect();
        for sweep in 1..=max_sweeps {
            random.shuffle(&mut order);
            let mut improved = false;
            for &group in &order {
                improved |= !self.settled[group] && self.improve(group);
            }
            if !improved {
                return (sweep, true);
            }
        }
        (max_sweeps, false)
    }

    /// Finds the best permutation of a group; whether it is better than the one it has.
    fn improve(&mut self, group: usize) -> bool {
        self.add_up(group, |_| true);
        let old = self.permutations[group].clone();
        let new = self.sum.best();
        self.settled[group] = true;
        let sum = &self.sum.matrix;
        let scale = magnitude(sum, &old);
        if value(sum, &new) - value(sum, &old) <= TOLERANCE * scale {
            return false;
        }
        let slots = &self.products.units.slots[group];
        if !slots.iter().any(|slot| slot.neighbours.contains(&group)) {
            self.set(group, new);
            return true;
        }
        // Where units stand on two axes of one tensor, the assignment is only a guess.
        let before = self.inner_product(group);
        self.set(group, new);
        let better = self.inner_product(group) - before > TOLERANCE * scale;
        if !better {
            self.set(group, old);
            self.settled[group] = true;
        }
        better
    }

    /// Inner product of the two networks over all tensors of a group.
    fn inner_product(&mut self, group: usize) -> f64 {
        let slots = self.products.units.slots[group].iter();
        let mut tensors: Vec<usize> = slots.map(|slot| slot.tensor).collect();
        tensors.sort_unstable();
        tensors.dedup();
        tensors.into_iter().map(|tensor| self.compare(tensor, inner_product)).sum()
    }

    /// Adds up the products of some slots of a group in `sum`: those without neighbours, and others by
    /// position.
    fn add_up(&mut self, group: usize, wanted: impl Fn(usize) -> bool) {
        let Matching { products, sources, kept, buffer, sum, .. } = self;
        sum.clone_from(&products.constant[group]);
        for (position, slot) in products.units.slots[group].iter().enumerate() {
            if slot.neighbours.is_empty() || !wanted(position) {
                continue;
            }
            let (product, valid) = &mut kept[group][position];
            if !*valid {
                products.of(slot, sources, buffer, product);
                *valid = true;
            }
            products.add(slot, product, sum);
        }
    }

    /// Gives a group a permutation; products that depend on it are no longer valid.
    fn set(&mut self, group: usize, permutation: Vec<usize>) {
        let units = self.products.units;
        for slot in &units.slots[group] {
            slot.member
                .write_sources(&permutation, &mut self.sources[slot.tensor][slot.member.axis]);
        }
        for &(reader, position) in &units.readers[group] {
            self.kept[reader][position].1 = false;
            self.settled[reader] = false;
        }
        self.permutations[group] = permutation;
    }
}

/// Sum of the magnitudes of the elements that an assignment takes.
fn magnitude(matrix: &[f64], assignment: &[usize]) -> f64 {
    let rows = matrix.chunks_exact(assignment.len().max(1));
    rows.zip(assignment).map(|(row, &column)| row[column].abs()).sum()
}
